/* SPDX-License-Identifier: ISC */
/* listen: five sockets, made or handed over; what stands in their way; who gets through. */
#include "listen.h"

#include "childtest.h"

#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define FIRST 3 /* of the descriptors that are handed over */
#define SOMEBODY 54321

struct place {
	char dir[100], run[128];
	struct config config;
	struct listen_sockets sockets;
	char error[512];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	const char *tmp = getenv("TMPDIR");

	assert_non_null(p);
	(void)snprintf(p->dir, sizeof(p->dir), "%.50s/listen-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(p->dir));
	(void)snprintf(p->run, sizeof(p->run), "%s/run", p->dir);
	p->config.run = p->run;
	for (int i = 0; i < NOLOG_ROLES; i++)
		p->sockets.fd[i] = -1;
	*state = p;
	return 0;
}

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct place *p = *state;

	listen_close(&p->sockets);
	assert_int_equal(nftw(p->dir, unlink_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	free(p);
	return 0;
}

static int open_them(struct place *p)
{
	return listen_open(&p->sockets, &p->config, geteuid(), p->error, sizeof(p->error));
}

static const char *path_of(const struct place *p, const char *name)
{
	static char path[160];

	(void)snprintf(path, sizeof(path), "%s/%s", p->run, name);
	return path;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	assert_true(strlen(path) < sizeof(at.sun_path));
	memcpy(at.sun_path, path, strlen(path));
	return at;
}

static int make(int type, const char *path, bool listening)
{
	struct sockaddr_un at = address(path);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	if (listening)
		assert_int_equal(listen(fd, 5), 0);
	return fd;
}

/* 0, or the errno of connecting. */
static int knock(const char *path)
{
	struct sockaddr_un at = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ? errno : 0;

	close(fd);
	return r;
}

static const char *const names[NOLOG_ROLES] = { "sessions.sock", "usage.sock", "lookup.sock",
						"quota.sock", "admin.sock" };

/* --- Made here --- */

static void five_sockets_are_made_for_their_owner_alone(void **state)
{
	struct place *p = *state;
	mode_t mask = umask(077);
	struct stat st;

	assert_int_equal(open_them(p), 0);
	(void)umask(mask);
	assert_int_equal(stat(p->run, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	for (int i = 0; i < NOLOG_ROLES; i++) {
		assert_int_equal(stat(path_of(p, names[i]), &st), 0);
		assert_true(S_ISSOCK(st.st_mode));
		assert_int_equal(st.st_mode & 07777, 0660);
		assert_int_equal(st.st_uid, geteuid());
		assert_true(fcntl(p->sockets.fd[i], F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(p->sockets.fd[i], F_GETFL) & O_NONBLOCK);
	}
	assert_int_equal(umask(mask), mask); /* as it was */
}

static void nobody_gets_through_before_the_daemon_is_ready(void **state)
{
	struct place *p = *state;

	assert_int_equal(open_them(p), 0);
	for (int i = 0; i < NOLOG_ROLES; i++)
		assert_int_equal(knock(path_of(p, names[i])), ECONNREFUSED);
	assert_int_equal(listen_begin(&p->sockets), 0);
	for (int i = 0; i < NOLOG_ROLES; i++)
		assert_int_equal(knock(path_of(p, names[i])), 0);
}

static void closing_removes_the_files(void **state)
{
	struct place *p = *state;

	assert_int_equal(open_them(p), 0);
	listen_close(&p->sockets);
	listen_close(&p->sockets); /* once more does no harm */
	for (int i = 0; i < NOLOG_ROLES; i++)
		assert_int_equal(access(path_of(p, names[i]), F_OK), -1);
}

static void a_stale_socket_is_replaced(void **state)
{
	struct place *p = *state;

	assert_int_equal(mkdir(p->run, 0755), 0);
	close(make(SOCK_STREAM, path_of(p, "usage.sock"), true));
	assert_int_equal(open_them(p), 0);
	assert_int_equal(listen_begin(&p->sockets), 0);
	assert_int_equal(knock(path_of(p, "usage.sock")), 0);
}

static void a_living_socket_is_not_replaced(void **state)
{
	struct place *p = *state;
	int fd;

	assert_int_equal(mkdir(p->run, 0755), 0);
	fd = make(SOCK_STREAM, path_of(p, "usage.sock"), true);
	assert_int_equal(open_them(p), -EADDRINUSE);
	assert_non_null(strstr(p->error, p->run));
	assert_non_null(strstr(p->error, "another nologd"));
	assert_int_equal(knock(path_of(p, "usage.sock")), 0);
	/* and nothing else stays */
	assert_int_equal(access(path_of(p, "sessions.sock"), F_OK), -1);
	for (int i = 0; i < NOLOG_ROLES; i++)
		assert_int_equal(p->sockets.fd[i], -1);
	close(fd);
}

static void what_is_no_socket_of_ours_is_left_alone(void **state)
{
	struct place *p = *state;
	struct stat st;
	int fd;

	assert_int_equal(mkdir(p->run, 0755), 0);
	fd = open(path_of(p, "lookup.sock"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "kept", 4), 4);
	close(fd);
	assert_int_equal(open_them(p), -EEXIST);
	assert_int_equal(stat(path_of(p, "lookup.sock"), &st), 0);
	assert_int_equal(st.st_size, 4);
	assert_int_equal(unlink(path_of(p, "lookup.sock")), 0);

	assert_int_equal(symlink("/dev/null", path_of(p, "lookup.sock")), 0);
	assert_int_equal(open_them(p), -EEXIST);
	assert_int_equal(unlink(path_of(p, "lookup.sock")), 0);

	fd = make(SOCK_DGRAM, path_of(p, "lookup.sock"), false); /* alive, and of another kind */
	assert_int_equal(open_them(p), -EPROTOTYPE);
	assert_int_equal(lstat(path_of(p, "lookup.sock"), &st), 0);
	close(fd);
}

static void a_path_that_is_too_long_is_an_error(void **state)
{
	struct place *p = *state;
	char path[300];

	/* "/sessions.sock" does not fit, the directory does. */
	(void)snprintf(path, sizeof(path), "%s/%0*d", p->dir, (int)(97 - strlen(p->dir)), 0);
	p->config.run = path;
	assert_int_equal(open_them(p), -ENAMETOOLONG);
	assert_non_null(strstr(p->error, path));
	p->config.run = p->run;
	assert_int_equal(open_them(p), 0);
}

static void a_directory_that_cannot_be_made_is_an_error(void **state)
{
	struct place *p = *state;
	char path[160];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/no/run", p->dir);
	p->config.run = path;
	assert_int_equal(open_them(p), -ENOENT);
	fd = open(p->run, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	p->config.run = p->run;
	assert_int_equal(open_them(p), -ENOTDIR);
}

static void a_group_is_given_its_socket(void **state)
{
	struct place *p = *state;
	gid_t wanted = geteuid() == 0 ? 1 : getegid();
	const struct group *g = getgrgid(wanted);
	char name[64];
	struct stat st;

	if (!g)
		skip();
	(void)snprintf(name, sizeof(name), "%s", g->gr_name);
	p->config.group[NOLOG_ROLE_USAGE] = name;
	assert_int_equal(open_them(p), 0);
	assert_int_equal(stat(path_of(p, "usage.sock"), &st), 0);
	assert_int_equal(st.st_gid, wanted);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_true(p->sockets.grouped[NOLOG_ROLE_USAGE]);
	assert_false(p->sockets.grouped[NOLOG_ROLE_SESSIONS]);
}

static void a_group_that_is_none_is_named(void **state)
{
	char name[] = "no-such-group-here";
	struct place *p = *state;

	p->config.group[NOLOG_ROLE_LOOKUP] = name;
	assert_int_equal(open_them(p), -EINVAL);
	assert_string_equal(p->error, "[sockets] lookup-group = no-such-group-here: no such group");
	assert_int_equal(access(p->run, F_OK), -1);
}

/* --- Handed over --- */

struct handed {
	struct place *place;
	const char *names;
	int result;
	bool configured; /* the group of all is ours, whatever the files say */
	int n;
	struct {
		int family, type;
		bool listening;
		const char
			*file; /* below the directory; NULL: not bound; "@": a name of all bytes */
		int role;      /* what it has to become */
		mode_t mode;   /* 0: as it was made, for nobody else */
		gid_t group;   /* that may connect then; 0: none */
	} fd[3];
};

/* One whose file says nothing of a group. */
#define HANDED(family, type, listening, file, role)       \
	{                                                 \
		family, type, listening, file, role, 0, 0 \
	}

static void hand(struct handed *h, int i)
{
	/* valgrind takes the longest path for a string that goes on behind it. */
	struct {
		struct sockaddr_un un;
		char end;
	} at = { .un.sun_family = AF_UNIX };
	char path[160];
	int fd = socket(h->fd[i].family, h->fd[i].type, 0);

	assert_int_equal(fd, FIRST + i);
	if (h->fd[i].file && *h->fd[i].file == '@') {
		/* As long as can be: nothing ends it but the structure. */
		(void)snprintf(path, sizeof(path), "%s/%0*d", h->place->dir,
			       (int)(sizeof(at.un.sun_path) - strlen(h->place->dir) - 1), 0);
		memcpy(at.un.sun_path, path, sizeof(at.un.sun_path));
		assert_int_equal(bind(fd, (struct sockaddr *)&at.un, sizeof(at.un)), 0);
	} else if (h->fd[i].file) {
		(void)snprintf(path, sizeof(path), "%s/%s", h->place->dir, h->fd[i].file);
		at.un = address(path);
		assert_int_equal(bind(fd, (struct sockaddr *)&at.un, sizeof(at.un)), 0);
		assert_int_equal(chmod(path, h->fd[i].mode), 0);
		if ((h->fd[i].group || h->configured) && geteuid() == 0)
			assert_int_equal(
				chown(path, (uid_t)-1, h->configured ? SOMEBODY : h->fd[i].group),
				0);
	}
	if (h->fd[i].listening)
		assert_int_equal(listen(fd, 5), 0);
}

static void take_over(void **state)
{
	struct handed *h = *state;
	struct place *p = h->place;
	char number[32];

	for (int fd = FIRST; fd < FIRST + 3; fd++)
		(void)close(fd);
	for (int i = 0; i < h->n; i++)
		hand(h, i);
	(void)snprintf(number, sizeof(number), "%ld", (long)getpid());
	assert_int_equal(setenv("LISTEN_PID", number, 1), 0);
	(void)snprintf(number, sizeof(number), "%d", h->n);
	assert_int_equal(setenv("LISTEN_FDS", number, 1), 0);
	if (h->names)
		assert_int_equal(setenv("LISTEN_FDNAMES", h->names, 1), 0);
	assert_int_equal(open_them(p), h->result);
	if (h->result < 0) {
		assert_memory_equal(p->error, "LISTEN_FDS: ", 12);
		return;
	}
	for (int i = 0; i < h->n; i++) {
		int role = h->fd[i].role;

		assert_int_equal(p->sockets.fd[role], FIRST + i);
		assert_null(p->sockets.path[role]); /* not ours to remove */
		assert_int_equal(p->sockets.grouped[role], (h->fd[i].mode & S_IWGRP) != 0);
		if (h->fd[i].group && geteuid() == 0)
			assert_int_equal(p->sockets.group[role], h->fd[i].group);
		if (h->configured)
			assert_int_equal(p->sockets.group[role], getegid());
		assert_true(fcntl(FIRST + i, F_GETFL) & O_NONBLOCK);
	}
	for (int i = 0; i < NOLOG_ROLES; i++) /* the others are made */
		assert_true(p->sockets.fd[i] >= 0);
	assert_int_equal(listen_begin(&p->sockets), 0);
	listen_close(&p->sockets);
}

static void expect_handed(void **state, struct handed h)
{
	struct place *p = *state;
	char path[160];

	h.place = p;
	child_run(take_over, &h);
	for (int i = 0; i < h.n; i++) {
		if (!h.fd[i].file || *h.fd[i].file == '@')
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", p->dir, h.fd[i].file);
		assert_int_equal(unlink(path), 0); /* it was left there */
	}
}

static void what_is_handed_over_is_known_by_its_name(void **state)
{
	expect_handed(
		state,
		(struct handed){
			.names = "quota:nologd-sessions.socket",
			.n = 2,
			.fd = { HANDED(AF_UNIX, SOCK_STREAM, true, "a", NOLOG_ROLE_QUOTA),
				HANDED(AF_UNIX, SOCK_STREAM, true, "b", NOLOG_ROLE_SESSIONS) } });
}

static void without_a_name_it_is_known_by_its_path(void **state)
{
	expect_handed(state, (struct handed){ .n = 2,
					      .fd = { HANDED(AF_UNIX, SOCK_STREAM, true,
							     "usage.sock", NOLOG_ROLE_USAGE),
						      HANDED(AF_UNIX, SOCK_STREAM, true,
							     "admin.sock", NOLOG_ROLE_ADMIN) } });
	expect_handed(state, (struct handed){ .names = "unknown",
					      .n = 1,
					      .fd = { HANDED(AF_UNIX, SOCK_STREAM, true,
							     "usage.sock", NOLOG_ROLE_USAGE) } });
}

static void the_group_that_may_write_the_file_is_the_one_that_may_connect(void **state)
{
	expect_handed(state, (struct handed){ .n = 3,
					      .fd = { { AF_UNIX, SOCK_STREAM, true, "usage.sock",
							NOLOG_ROLE_USAGE, 0660, SOMEBODY },
						      { AF_UNIX, SOCK_STREAM, true, "quota.sock",
							NOLOG_ROLE_QUOTA, 0644, 0 },
						      { AF_UNIX, SOCK_STREAM, true, "admin.sock",
							NOLOG_ROLE_ADMIN, 0606, 0 } } });
}

static void a_configured_group_counts_before_the_files(void **state)
{
	struct place *p = *state;
	const struct group *g = getgrgid(getegid());

	if (!g)
		skip();
	p->config.group[NOLOG_ROLE_USAGE] = g->gr_name;
	expect_handed(state, (struct handed){ .n = 1,
					      .fd = { { AF_UNIX, SOCK_STREAM, true, "usage.sock",
							NOLOG_ROLE_USAGE, 0660, 0 } },
					      .configured = true });
}

static void what_is_no_listening_socket_of_ours_is_refused(void **state)
{
	expect_handed(state,
		      (struct handed){ .names = "usage",
				       .n = 1,
				       .result = -EINVAL,
				       .fd = { HANDED(AF_UNIX, SOCK_DGRAM, false, "a", 0) } });
	expect_handed(state,
		      (struct handed){ .names = "usage",
				       .n = 1,
				       .result = -EINVAL,
				       .fd = { HANDED(AF_UNIX, SOCK_SEQPACKET, true, "a", 0) } });
	expect_handed(state,
		      (struct handed){ .names = "usage",
				       .n = 1,
				       .result = -EINVAL,
				       .fd = { HANDED(AF_UNIX, SOCK_STREAM, false, "a", 0) } });
	expect_handed(state,
		      (struct handed){ .names = "usage",
				       .n = 1,
				       .result = -EINVAL,
				       .fd = { HANDED(AF_INET, SOCK_STREAM, true, NULL, 0) } });
	expect_handed(state,
		      (struct handed){ .names = "sessionsx",
				       .n = 1,
				       .result = -EINVAL,
				       .fd = { HANDED(AF_UNIX, SOCK_STREAM, true, "a", 0) } });
	expect_handed(state,
		      (struct handed){ .names = "usage:usage",
				       .n = 2,
				       .result = -EINVAL,
				       .fd = { HANDED(AF_UNIX, SOCK_STREAM, true, "a", 0),
					       HANDED(AF_UNIX, SOCK_STREAM, true, "b", 0) } });
}

static void the_longest_path_is_read_to_its_end_only(void **state)
{
	expect_handed(state,
		      (struct handed){ .n = 1,
				       .result = -EINVAL,
				       .fd = { HANDED(AF_UNIX, SOCK_STREAM, true, "@", 0) } });
}

/* --- Who gets through --- */

struct caller {
	struct sockaddr_un at;
	socklen_t size;
	uid_t uid;
	gid_t gid, group; /* its own, and one more; 0: none */
};

static void call(const struct caller *c)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (setgroups(c->group ? 1 : 0, &c->group) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 ||
	    setresuid(c->uid, c->uid, c->uid) < 0)
		_exit(1);
	_exit(connect(fd, (const struct sockaddr *)&c->at, c->size) < 0);
}

/* Whether one with these credentials is let through to usage. */
static bool gets_through(struct place *p, int listener, struct caller c)
{
	uid_t uid = (uid_t)-1;
	int status, fd;
	bool allowed;
	pid_t child;

	c.size = sizeof(c.at);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&c.at, &c.size), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		call(&c);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	allowed = listen_allows(&p->sockets, NOLOG_ROLE_USAGE, fd, &uid);
	assert_int_equal(uid, c.uid);
	close(fd);
	return allowed;
}

/* Everybody can connect to it: what counts is who is let through. */
static int open_door(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0); /* no name: the kernel gives it an abstract one */
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fd, 5), 0);
	return fd;
}

static void the_daemons_user_gets_through(void **state)
{
	struct place *p = *state;
	uid_t uid = (uid_t)-1;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_true(listen_allows(&p->sockets, NOLOG_ROLE_USAGE, pair[0], &uid));
	assert_int_equal(uid, geteuid());
	close(pair[0]);
	close(pair[1]);
	assert_false(listen_allows(&p->sockets, NOLOG_ROLE_USAGE, pair[0], &uid));
}

static void others_get_through_by_the_sockets_group_alone(void **state)
{
	struct place *p = *state;
	int door;

	if (geteuid() != 0 || setgroups(0, NULL) < 0)
		skip();
	door = open_door();
	p->sockets.group[NOLOG_ROLE_USAGE] = SOMEBODY + 1; /* not configured: counts for nothing */
	assert_false(
		gets_through(p, door, (struct caller){ .uid = SOMEBODY, .gid = SOMEBODY + 1 }));
	assert_true(gets_through(p, door, (struct caller){ .uid = 0, .gid = SOMEBODY }));
	p->sockets.grouped[NOLOG_ROLE_USAGE] = true;
	assert_false(gets_through(p, door, (struct caller){ .uid = SOMEBODY, .gid = SOMEBODY }));
	assert_true(gets_through(p, door, (struct caller){ .uid = SOMEBODY, .gid = SOMEBODY + 1 }));
	assert_true(gets_through(
		p, door,
		(struct caller){ .uid = SOMEBODY, .gid = SOMEBODY, .group = SOMEBODY + 1 }));
	/* another socket's group does not count here */
	p->sockets.grouped[NOLOG_ROLE_QUOTA] = true;
	p->sockets.group[NOLOG_ROLE_QUOTA] = SOMEBODY + 2;
	assert_false(
		gets_through(p, door, (struct caller){ .uid = SOMEBODY, .gid = SOMEBODY + 2 }));
	close(door);
}

static void one_of_very_many_groups_is_found(void **state)
{
	struct place *p = *state;
	static gid_t many[200];
	int pair[2];
	uid_t uid;

	for (unsigned i = 0; i < 200; i++)
		many[i] = SOMEBODY + i;
	if (geteuid() != 0 || setgroups(200, many) < 0)
		skip();
	p->sockets.grouped[NOLOG_ROLE_USAGE] = true;
	p->sockets.group[NOLOG_ROLE_USAGE] = SOMEBODY + 199;
	/* Made by us, while we are nobody; asked when we are root again. */
	assert_int_equal(seteuid(SOMEBODY), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(seteuid(0), 0);
	assert_true(listen_allows(&p->sockets, NOLOG_ROLE_USAGE, pair[0], &uid));
	assert_int_equal(uid, SOMEBODY);
	p->sockets.group[NOLOG_ROLE_USAGE] = SOMEBODY + 200;
	assert_false(listen_allows(&p->sockets, NOLOG_ROLE_USAGE, pair[0], &uid));
	assert_int_equal(setgroups(0, NULL), 0);
	close(pair[0]);
	close(pair[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(five_sockets_are_made_for_their_owner_alone),
		TEST(nobody_gets_through_before_the_daemon_is_ready),
		TEST(closing_removes_the_files),
		TEST(a_stale_socket_is_replaced),
		TEST(a_living_socket_is_not_replaced),
		TEST(what_is_no_socket_of_ours_is_left_alone),
		TEST(a_path_that_is_too_long_is_an_error),
		TEST(a_directory_that_cannot_be_made_is_an_error),
		TEST(a_group_is_given_its_socket),
		TEST(a_group_that_is_none_is_named),
		TEST(what_is_handed_over_is_known_by_its_name),
		TEST(without_a_name_it_is_known_by_its_path),
		TEST(the_group_that_may_write_the_file_is_the_one_that_may_connect),
		TEST(a_configured_group_counts_before_the_files),
		TEST(what_is_no_listening_socket_of_ours_is_refused),
		TEST(the_longest_path_is_read_to_its_end_only),
		TEST(the_daemons_user_gets_through),
		TEST(others_get_through_by_the_sockets_group_alone),
		TEST(one_of_very_many_groups_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
