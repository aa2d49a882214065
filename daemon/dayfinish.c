/* SPDX-License-Identifier: ISC */
/*
 * dayfinish: a list and a thread.  How a look-up is finished is its caller's.
 */
#include "dayfinish.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct dayfinish {
	dayfinish_fn *finish;
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct lookup *first, **last;
	bool stop;
};

static void *dayfinish_main(void *arg)
{
	struct dayfinish *f = arg;

	(void)pthread_mutex_lock(&f->lock);
	for (;;) {
		struct lookup *l = f->first;

		if (!l && f->stop)
			break;
		if (!l) {
			(void)pthread_cond_wait(&f->more, &f->lock);
			continue;
		}
		f->first = l->next;
		if (!f->first)
			f->last = &f->first;
		(void)pthread_mutex_unlock(&f->lock);
		f->finish(l, f->arg);
		(void)pthread_mutex_lock(&f->lock);
	}
	(void)pthread_mutex_unlock(&f->lock);
	return NULL;
}

int dayfinish_start(struct dayfinish **out, dayfinish_fn *finish, void *arg)
{
	struct dayfinish *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->finish = finish;
	f->arg = arg;
	f->last = &f->first;
	(void)pthread_mutex_init(&f->lock, NULL); /* with these attributes neither can fail */
	(void)pthread_cond_init(&f->more, NULL);
	r = -pthread_create(&f->thread, NULL, dayfinish_main, f);
	if (r < 0) {
		(void)pthread_cond_destroy(&f->more);
		(void)pthread_mutex_destroy(&f->lock);
		free(f);
		return r;
	}
	*out = f;
	return 0;
}

void dayfinish_give(struct dayfinish *f, struct lookup *l)
{
	l->next = NULL;
	(void)pthread_mutex_lock(&f->lock);
	*f->last = l;
	f->last = &l->next;
	(void)pthread_cond_signal(&f->more);
	(void)pthread_mutex_unlock(&f->lock);
}

void dayfinish_stop(struct dayfinish *f)
{
	if (!f)
		return;
	(void)pthread_mutex_lock(&f->lock);
	f->stop = true;
	(void)pthread_cond_signal(&f->more);
	(void)pthread_mutex_unlock(&f->lock);
	(void)pthread_join(f->thread, NULL); /* ours, joined once */
	(void)pthread_cond_destroy(&f->more);
	(void)pthread_mutex_destroy(&f->lock);
	free(f);
}
