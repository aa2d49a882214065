/* SPDX-License-Identifier: ISC */
/*
 * server: see server.h.  Opens the stations from the keyring upward, closes
 * them the other way round, and in between keeps the clock's tick.
 */
#include "server.h"

#include "calendar.h"
#include "log.h"
#include "notify.h"
#include "sandbox.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK_MS 1000
#define HOLD_SAVE_MS (INT64_C(10) * 60 * 1000)
#define STOP_PATIENCE_MS 3000 /* for peers to read their last answers */
#define ACCEPT_ROUND 64
#define HUNG_MS 60000 /* no disk takes that long for a commit, and a writer rests for 2 s */

static const char *const journal_names[BOOKS] = { "sessions.mdb", "usage.mdb" };

/* --- Opening --- */

static char *in_state(const struct server *s, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", s->config->state, name) < 0 ? NULL : path;
}

static bool exists(const struct server *s, const char *name)
{
	return faccessat(s->state_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A keyring that is not there is made only where there is nothing it could have opened. */
static int open_keyring(struct server *s, const struct clock_reading *now, struct fault *fault)
{
	int32_t today = calendar_day(now->wall_ms);
	int r = keyring_open(&s->keyring, s->config->keyring, fault);

	if (r != -ENOENT)
		return r;
	if (exists(s, journal_names[0]) || exists(s, journal_names[1]) || exists(s, "days"))
		return fault_set(fault, -ENOENT, "keyring", 0,
				 "the keyring is missing beside data that only it can open; put it "
				 "back, or remove the data");
	r = keyring_create(&s->keyring, s->config->keyring, today, calendar_month(today),
			   now->wall_ms, fault);
	if (r == 0)
		log_say(LOG_KEYRING_NEW, 0, 0, 0);
	return r;
}

void server_init(struct server *s, const char *config_path, const char *state, const char *run)
{
	s->config_path = config_path;
	s->state_option = state;
	s->run_option = run;
	s->state_fd = -1;
	for (int i = 0; i < NOLOG_ROLES; i++)
		s->sockets.fd[i] = -1;
}

int server_lock(struct server *s, uid_t owner)
{
	const char *path = s->config->state;
	struct stat st;
	int r;

	if (mkdir(path, 0700) < 0) {
		if (errno != EEXIST)
			goto fail;
	} else if (geteuid() == 0 && chown(path, owner, (gid_t)-1) < 0) {
		goto fail;
	}
	s->state_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (s->state_fd < 0 || fstat(s->state_fd, &st) < 0)
		goto fail;
	if (st.st_uid != owner) {
		log_error("%s: the state directory belongs to another user than nologd runs as",
			  path);
		return -EACCES;
	}
	if (st.st_mode & 077) {
		log_error("%s: the state directory is open to others (mode %04o); it must be 0700",
			  path, (unsigned)(st.st_mode & 07777));
		return -EACCES;
	}
	if (flock(s->state_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			goto fail;
		log_error("%s: in use by another nologd", path);
		return -EBUSY;
	}
	return 0;
fail:
	r = -errno;
	log_error("%s: %s", path, strerror(-r));
	return r;
}

/*
 * The files are made in this order: one that is missing beside a later one was
 * there and is lost.  A new journal in its place would begin its numbers again,
 * and what it held would be dropped as if it were in the day files already.
 */
static int check_complete(const struct server *s, struct fault *fault)
{
	bool later = exists(s, "days");

	for (int i = BOOKS - 1; i >= 0; i--) {
		if (later && !exists(s, journal_names[i]))
			return fault_set(fault, -ENOENT, journal_names[i], 0,
					 "the journal is missing beside the data that go with it; "
					 "put it back, or remove the whole store");
		later = later || exists(s, journal_names[i]);
	}
	return 0;
}

static void failed(const struct fault *fault, void *arg)
{
	(void)arg;
	log_fault(fault);
	/* Damage met while reading: what is sound goes on being served. */
	if (fault->error == -EBADMSG)
		return;
	/* At once and from any thread: no acknowledgement may follow. */
	_exit(1);
}

/* A writer has ended: also damage is no reason to go on without it. */
static void writer_failed(const struct fault *fault, void *arg)
{
	(void)arg;
	log_fault(fault);
	_exit(1);
}

static void days_answered(struct lookup *l, void *arg)
{
	struct server *s = arg;

	lookup_box_put(s->box, l);
}

static void days_progressed(void *arg)
{
	struct server *s = arg;

	if (s->writers[BOOK_SESSIONS])
		writer_wake(s->writers[BOOK_SESSIONS]);
}

static int open_days(struct server *s, const struct clock_reading *now, struct fault *fault)
{
	int32_t today = calendar_day(now->wall_ms), newest = keyring_newest_day(s->keyring);
	struct days_options o = {
		.keyring = s->keyring,
		.retention_days = (int)s->config->retention_days,
		.vouched = !clock_held(s->clock),
		.events = { days_answered, days_progressed, failed, s },
	};
	int r = 0;

	s->days_dir = in_state(s, "days");
	if (!s->days_dir)
		return -ENOMEM;
	o.dir = s->days_dir;
	o.today = clock_held(s->clock) || today < newest ? newest : today;
	s->narrowed = calendar_horizon(newest, o.retention_days) > keyring_first_day(s->keyring);
	/* Keys first: what is over is over before anything is read. */
	if (o.vouched)
		r = keyring_forget_days(s->keyring, o.today,
					calendar_horizon(o.today, o.retention_days));
	if (r == 0) {
		clock_newest_day_set(s->clock, keyring_newest_day(s->keyring));
		r = days_open(&s->days, &o, fault);
	} else {
		(void)fault_set(fault, r, "keyring", 0,
				"the keys of past days cannot be destroyed");
	}
	return r;
}

static int open_journal(struct server *s, int book, struct fault *fault)
{
	struct journal_options o = {
		.name = journal_names[book],
		.book = book == BOOK_SESSIONS ? KEYRING_SESSIONS : KEYRING_USAGE,
		.keyring = s->keyring,
	};
	char *path = in_state(s, journal_names[book]);
	int r;

	if (!path)
		return -ENOMEM;
	o.path = path;
	r = journal_open(&s->journals[book], &o, fault);
	free(path);
	return r;
}

static struct sessionbook_rules *session_rules(const struct config *c)
{
	struct sessions_rules rules = {
		.allow = c->allow,
		.allow_count = c->allow_count,
		.max_silence_ms = c->max_silence_ms,
		.max_open = c->open_sessions,
	};

	return sessionbook_rules_new(&rules);
}

static struct usage_rules usage_rules(const struct config *c)
{
	return (struct usage_rules){ .max_accounts = c->accounts, .max_meters = c->accounts };
}

static int open_books(struct server *s)
{
	struct sessionbook_rules *rules = session_rules(s->config);
	struct usage_rules usage = usage_rules(s->config);
	int r;

	if (!rules)
		return -ENOMEM;
	r = sessionbook_new(&s->sessionbook, s->days, s->keyring, rules);
	if (r < 0) {
		sessionbook_rules_free(rules);
		return r;
	}
	return usagebook_new(&s->usagebook, s->keyring, s->clock, &usage);
}

static int open_writer(struct server *s, int book, struct fault *fault)
{
	struct writer_options o = {
		.book = book == BOOK_SESSIONS ? sessionbook_writer(s->sessionbook)
					      : usagebook_writer(s->usagebook),
		.journal = s->journals[book],
		.keyring = s->keyring,
		.clock = s->clock,
		.retention_days = (int)s->config->retention_days,
		.narrowed = s->narrowed,
		.links = s->config->connections * 2,
		.tick_ms = book == BOOK_SESSIONS ? 0 : s->config->tick_ms,
		.events = { writer_failed, s },
	};
	int r = writer_new(&s->writers[book], &o);

	if (r < 0)
		return r;
	if (book == BOOK_USAGE)
		usagebook_attach(s->usagebook, s->writers[book]);
	return writer_replay(s->writers[book], fault);
}

/* What the keys open is sound: from here on they are used, and both slots say the same. */
static int settle_keyring(struct server *s, struct fault *fault)
{
	int r = keyring_settle(s->keyring);

	if (r < 0)
		return fault_set(fault, r, "keyring", 0, "cannot be written");
	if (keyring_repaired(s->keyring))
		log_say(LOG_KEYRING_REPAIRED, 0, 0, 0);
	return 0;
}

/* From the keyring upward; what start-up has to forget is forgotten before it returns. */
static int open_store(struct server *s, struct fault *fault)
{
	struct clock_reading now;
	int r;

	clock_read(&now);
	r = open_keyring(s, &now, fault);
	if (r == 0)
		r = check_complete(s, fault);
	if (r < 0)
		return r;
	r = clock_new(&s->clock, (enum clock_trust)s->config->trust, keyring_newest_day(s->keyring),
		      keyring_held_ms(s->keyring));
	if (r < 0)
		return r;
	if (clock_tick(s->clock, &now))
		log_say(LOG_CLOCK_HELD, 0, 0, 0);
	s->clock_was_held = clock_held(s->clock);
	/* Everything is opened before anything is written: a start that fails changes nothing. */
	for (int i = 0; i < BOOKS && r == 0; i++)
		r = open_journal(s, i, fault);
	if (r == 0)
		r = open_days(s, &now, fault);
	if (r == 0)
		r = open_books(s);
	for (int i = 0; i < BOOKS && r == 0; i++)
		r = open_writer(s, i, fault);
	if (r == 0)
		r = days_check_last(s->days, journal_last(s->journals[BOOK_SESSIONS]), fault);
	if (r == 0)
		r = settle_keyring(s, fault);
	if (r == 0)
		r = days_start(s->days);
	if (r < 0)
		return r;
	for (int i = 0; i < BOOKS && r == 0; i++)
		r = writer_catch_up(s->writers[i], fault);
	if (r < 0) { /* its threads run: not to be freed under them */
		(void)days_stop(s->days, NULL);
		s->days = NULL;
	}
	return r;
}

/* --- The loop's events --- */

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	enum nolog_role role = NOLOG_ROLE_SESSIONS;

	(void)what;
	while (s->sockets.fd[role] != fd)
		role++;
	for (int i = 0; i < ACCEPT_ROUND; i++) {
		int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (peer >= 0) {
			conn_accepted(s, role, peer);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			/* Not readable in circles: again when a connection ends, or at the tick. */
			log_say(LOG_NO_DESCRIPTORS, 0, 0, 0);
			s->accept_paused = true;
			(void)event_del(s->accepting[role]);
		}
		return;
	}
}

static void on_answers(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;

	(void)what;
	for (int i = 0; i < BOOKS; i++)
		if (queue_fd(writer_answers(s->writers[i])) == fd)
			conns_take_answers(s, i);
	if (s->stopping && writer_stopped(s->writers[0]) && writer_stopped(s->writers[1]))
		(void)event_base_loopbreak(s->base);
}

static void on_lookups(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	conns_take_lookups(arg);
}

/* A keyring that failed takes no change any more. */
static void keyring_failed(int error)
{
	struct fault fault;

	(void)fault_set(&fault, error, "keyring", 0, "cannot be written");
	log_fault(&fault);
	_exit(1);
}

static void say_forgotten(struct server *s)
{
	struct days_stats d;
	int32_t day = days_forgotten(s->days);

	if (day == s->said_day)
		return;
	s->said_day = day;
	days_stats(s->days, &d);
	log_say(LOG_DAY_FORGOTTEN, calendar_number(day), (long long)d.forgotten_days,
		(long long)d.days_held);
}

/*
 * The time the clock has been held is kept over restarts, so that 24 hours pass
 * also for one that is restarted daily; and kept up to date when it is over, or
 * the next clock that does not fit would be believed at once.
 */
static void save_hold(struct server *s, int64_t least_ms)
{
	int64_t ms = clock_held_ms(s->clock), kept = keyring_held_ms(s->keyring);
	bool same_kind = (ms > 0) == (kept > 0) && (ms < 0) == (kept < 0);
	int r;

	if (same_kind && llabs(ms - kept) < least_ms)
		return;
	r = keyring_held_set(s->keyring, ms);
	if (r < 0)
		keyring_failed(r);
}

static void keep_hold(struct server *s, bool held)
{
	if (held != s->clock_was_held) {
		log_say(held ? LOG_CLOCK_HELD : LOG_CLOCK_FREE, 0, 0, 0);
		for (int i = 0; i < BOOKS; i++)
			writer_wake(s->writers[i]);
	}
	save_hold(s, HOLD_SAVE_MS);
	s->clock_was_held = held;
}

static void arm_tick(struct server *s)
{
	int64_t now = clock_now(s->clock);
	int64_t wait = calendar_day_start(calendar_day(now) + 1) - now;
	struct timeval tv;

	if (wait > TICK_MS || wait <= 0)
		wait = TICK_MS;
	tv.tv_sec = wait / 1000;
	tv.tv_usec = (wait % 1000) * 1000;
	(void)event_add(s->tick, &tv);
}

/* A writer that hangs is no reason to be called well: the service manager starts us again. */
static bool writers_alive(const struct server *s)
{
	int64_t now = clock_running_ms(s->clock);

	for (int i = 0; i < BOOKS; i++) {
		struct writer_stats w;

		writer_stats(s->writers[i], &w);
		if (now - w.heard_ms > HUNG_MS) {
			log_say(LOG_WATCHDOG_LATE, (now - w.heard_ms) / 1000, 0, 0);
			return false;
		}
	}
	return true;
}

/*
 * What is over is over now, whatever else goes on: the keys die here.  Closing
 * and removing the files is the days' thread's, when it comes to it; it is told
 * again should it have had no memory for that.
 */
static void move_on(struct server *s, int32_t today)
{
	bool moved = today > keyring_newest_day(s->keyring);
	int r = keyring_forget_days(s->keyring, today,
				    calendar_horizon(today, (int)s->config->retention_days));

	if (r < 0)
		keyring_failed(r);
	clock_newest_day_set(s->clock, today);
	days_advance(s->days, today);
	for (int i = 0; i < BOOKS && moved; i++)
		writer_wake(s->writers[i]);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	struct clock_reading now;
	int32_t today;
	bool held;

	(void)fd;
	(void)what;
	clock_read(&now);
	held = clock_tick(s->clock, &now);
	today = calendar_day(now.wall_ms);
	if (today < keyring_newest_day(s->keyring))
		today = keyring_newest_day(s->keyring);
	/* Also when it was held at the start, and what was over then has not been forgotten. */
	if (!held && today > days_forgotten(s->days))
		move_on(s, today);
	keep_hold(s, held);
	say_forgotten(s);
	if (s->accept_paused) {
		s->accept_paused = false;
		for (int i = 0; i < NOLOG_ROLES; i++)
			(void)event_add(s->accepting[i], NULL);
	}
	conns_hurry(s);
	conns_resume(s);
	if (notify_watchdog_ms() && writers_alive(s))
		notify_send("WATCHDOG=1");
	arm_tick(s);
}

/* --- Reloading --- */

/* There is room for one. */
static void send_rules(struct server *s, int book, void *rules)
{
	struct queue *q = writer_queries(s->writers[book]);
	struct request *r = queue_place(q, 0);

	*r = (struct request){ .kind = REQUEST_RULES, .u.pointer = rules };
	queue_push(q, 1);
	queue_ring(q);
}

static int apply_rules(struct server *s, const struct config *c)
{
	struct usage_rules usage = usage_rules(c), *copy;
	struct sessionbook_rules *sessions;

	if (queue_room(writer_queries(s->writers[BOOK_SESSIONS])) == 0 ||
	    queue_room(writer_queries(s->writers[BOOK_USAGE])) == 0)
		return -EBUSY;
	sessions = session_rules(c);
	copy = malloc(sizeof(*copy));
	if (!sessions || !copy) {
		sessionbook_rules_free(sessions);
		free(copy);
		return -ENOMEM;
	}
	*copy = usage;
	send_rules(s, BOOK_SESSIONS, sessions); /* theirs now */
	send_rules(s, BOOK_USAGE, copy);
	writer_tick_set(s->writers[BOOK_USAGE], c->tick_ms);
	return 0;
}

static void reload(struct server *s)
{
	char error[512];
	struct config *c = NULL;
	const char *fixed;
	/* A file that was there and is gone is a mistake, and no empty one: it may have limited much. */
	int r = config_read(&c, s->config_path, s->config->absent, s->state_option, s->run_option,
			    error, sizeof(error));

	if (r < 0) {
		log_error("%s", error);
	} else if ((fixed = config_fixed_difference(s->config, c))) {
		log_error("%s: %s cannot change while nologd runs", s->config_path, fixed);
		r = -EINVAL;
	} else {
		r = apply_rules(s, c);
	}
	if (r < 0) {
		config_free(c);
		log_say(LOG_RELOAD_FAILED, 0, 0, 0);
		return;
	}
	config_free(s->config);
	s->config = c;
	conns_check_servers(s);
	log_say(LOG_RELOADED, 0, 0, 0);
}

static void on_reload(evutil_socket_t fd, short what, void *arg)
{
	char state[64];
	struct timespec now;

	(void)fd;
	(void)what;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	(void)snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%lld",
		       (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	notify_send(state);
	reload(arg);
	notify_send("READY=1");
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;

	(void)fd;
	(void)what;
	if (s->stopping)
		return;
	s->stopping = true;
	s->accept_paused = false; /* nobody is to be accepted again */
	notify_send("STOPPING=1");
	log_say(LOG_STOPPING, 0, 0, 0);
	for (int i = 0; i < NOLOG_ROLES; i++)
		(void)event_del(s->accepting[i]);
	conns_stop_reading(s);
	for (int i = 0; i < BOOKS; i++)
		writer_stop(s->writers[i]);
}

/* --- Life --- */

static bool add(struct server *s, struct event **at, evutil_socket_t fd, short what,
		event_callback_fn fn)
{
	*at = event_new(s->base, fd, what, fn, s);
	return *at && event_add(*at, NULL) == 0;
}

/* Those that main() has held back since the start: what came meanwhile is acted upon now. */
static int take_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set); /* none of these can fail */
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	return sigprocmask(SIG_UNBLOCK, &set, NULL) < 0 ? -errno : 0;
}

static int open_loop(struct server *s)
{
	bool ok;
	int r;

	s->base = event_base_new();
	if (!s->base)
		return -ENOMEM;
	ok = add(s, &s->signals[0], SIGTERM, EV_SIGNAL | EV_PERSIST, on_stop) &&
	     add(s, &s->signals[1], SIGINT, EV_SIGNAL | EV_PERSIST, on_stop) &&
	     add(s, &s->signals[2], SIGHUP, EV_SIGNAL | EV_PERSIST, on_reload);
	for (int i = 0; i < NOLOG_ROLES && ok; i++)
		ok = add(s, &s->accepting[i], s->sockets.fd[i], EV_READ | EV_PERSIST, on_accept);
	for (int i = 0; i < BOOKS && ok; i++)
		ok = add(s, &s->answering[i], queue_fd(writer_answers(s->writers[i])),
			 EV_READ | EV_PERSIST, on_answers);
	ok = ok && add(s, &s->answered, lookup_box_fd(s->box), EV_READ | EV_PERSIST, on_lookups);
	s->tick = ok ? evtimer_new(s->base, on_tick, s) : NULL;
	if (!s->tick)
		return -ENOMEM;
	arm_tick(s);
	r = conns_init(s);
	return r < 0 ? r : take_signals();
}

int server_open(struct server *s)
{
	struct fault fault = { 0 };
	int r;

	s->box = lookup_box_new();
	if (!s->box)
		return -ENOMEM;
	r = open_store(s, &fault);
	if (r < 0) {
		if (!fault.what)
			(void)fault_set(&fault, r, "state", 0, "cannot be opened");
		log_fault(&fault);
		return r;
	}
	/* Not beside the one line that says why it does not start. */
	if (keyring_weak(s->keyring))
		log_say(LOG_KEYRING_WEAK, 0, 0, 0);
	s->said_day = days_forgotten(s->days);
	return open_loop(s);
}

static void say_started(struct server *s)
{
	struct sessionbook_stats sessions;
	struct usagebook_stats usage;
	struct days_stats days;

	sessionbook_stats(s->sessionbook, &sessions);
	usagebook_stats(s->usagebook, &usage);
	days_stats(s->days, &days);
	log_say(LOG_STARTED, (long long)sessions.open, (long long)usage.accounts, days.days_held);
}

/* The writers have ended; their last answers and days' go out, then the rest is written. */
static void finish(struct server *s)
{
	struct fault fault = { 0 };
	struct timeval step = { .tv_usec = 20000 };
	int64_t until;
	int r;

	(void)event_del(s->tick);
	save_hold(s, 1);
	for (int i = 0; i < BOOKS; i++) {
		writer_join(s->writers[i]);
		conns_take_answers(s, i);
	}
	r = days_stop(s->days, &fault);
	s->days = NULL;
	conns_take_lookups(s);
	until = clock_running_ms(s->clock) + STOP_PATIENCE_MS;
	while (!conns_flush(s) && clock_running_ms(s->clock) < until) {
		(void)event_base_loopexit(s->base, &step);
		(void)event_base_dispatch(s->base);
	}
	if (r < 0) {
		log_fault(&fault);
		s->exit_status = 1;
	} else if (writer_dropped(s->writers[0]) || writer_dropped(s->writers[1])) {
		log_say(LOG_STOP_UNWRITTEN, 0, 0, 0);
		s->exit_status = 1;
	} else {
		log_say(LOG_STOPPED, 0, 0, 0);
	}
}

int server_run(struct server *s)
{
	int r = 0;

	for (int i = 0; i < BOOKS && r == 0; i++)
		r = writer_start(s->writers[i]);
	if (r == 0)
		r = sandbox_enter();
	if (r < 0) {
		log_error("cannot confine itself or start its threads: %s", strerror(-r));
		_exit(1);
	}
	r = listen_begin(&s->sockets);
	if (r < 0) {
		log_error("cannot listen: %s", strerror(-r));
		_exit(1);
	}
	say_started(s);
	log_say(LOG_READY, 0, 0, 0);
	notify_send("READY=1\nSTATUS=Keeping what it may, forgetting the rest");
	(void)event_base_dispatch(s->base);
	finish(s);
	return s->exit_status;
}

static void free_event(struct event *e)
{
	if (e)
		event_free(e);
}

void server_close(struct server *s)
{
	conns_free(s);
	for (int i = 0; i < NOLOG_ROLES; i++)
		free_event(s->accepting[i]);
	for (int i = 0; i < BOOKS; i++)
		free_event(s->answering[i]);
	for (int i = 0; i < 3; i++)
		free_event(s->signals[i]);
	free_event(s->answered);
	free_event(s->tick);
	if (s->base)
		event_base_free(s->base);
	for (int i = 0; i < BOOKS; i++) {
		writer_free(s->writers[i]);
		journal_close(s->journals[i]);
	}
	sessionbook_free(s->sessionbook);
	usagebook_free(s->usagebook);
	if (s->days)
		days_free(s->days);
	free(s->days_dir);
	lookup_box_free(s->box);
	clock_free(s->clock);
	keyring_close(s->keyring);
	listen_close(&s->sockets);
	config_free(s->config);
	if (s->state_fd >= 0)
		close(s->state_fd);
}
