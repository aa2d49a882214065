/* SPDX-License-Identifier: ISC */
/*
 * clock: clocks that a test moves while a program runs under them (LD_PRELOAD).
 *
 * libfaketime can follow a file, too, but reads it anew at each call and in
 * no order among threads, so that a program sees the real time now and then.
 * Here the offsets lie in shared memory, each in one aligned word.  What the
 * kernel says of its clock (adjtimex) is the test's to say as well.
 *
 * forensics.py compiles it when a test needs it; it is part of no program.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define NS INT64_C(1000000000)

/* As forensics.py writes it. */
struct shown {
	_Atomic int64_t wall_ns, mono_ns; /* added to the real clocks */
	_Atomic int64_t vouched;	  /* 1 synchronised, 0 not, -1 as it is */
};

static const struct shown *shown;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_adjtimex)(struct timex *);

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("TEST_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *at;

	*(void **)&real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	*(void **)&real_adjtimex = dlsym(RTLD_NEXT, "adjtimex");
	if (fd < 0)
		abort();
	at = mmap(NULL, sizeof(*shown), PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		abort();
	shown = at;
	close(fd);
}

int clock_gettime(clockid_t id, struct timespec *out)
{
	int64_t ns = 0;
	int r;

	if (!shown)
		begin(); /* another library's constructor came first */
	r = real_gettime(id, out);
	if (r < 0)
		return r;
	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
		ns = atomic_load(&shown->wall_ns);
		break;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_BOOTTIME:
		ns = atomic_load(&shown->mono_ns);
		break;
	default:
		break;
	}
	ns += out->tv_nsec;
	out->tv_sec += ns / NS;
	out->tv_nsec = ns % NS;
	if (out->tv_nsec < 0) {
		out->tv_nsec += NS;
		out->tv_sec--;
	}
	return 0;
}

time_t time(time_t *out)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (out)
		*out = t.tv_sec;
	return t.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	out->tv_sec = t.tv_sec;
	out->tv_usec = t.tv_nsec / 1000;
	return 0;
}

int adjtimex(struct timex *t)
{
	int state = real_adjtimex(t);
	int64_t vouched = atomic_load(&shown->vouched);

	if (vouched < 0)
		return state;
	t->status = vouched ? t->status & ~STA_UNSYNC : t->status | STA_UNSYNC;
	return vouched ? TIME_OK : TIME_ERROR;
}
