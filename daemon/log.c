/* SPDX-License-Identifier: ISC */
/* log: see log.h.  Knows no event, no address and no key. */
#include "log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool prefixed;

static const struct {
	int priority;
	const char *text;
} messages[] = {
#define LOG_X(name, priority, text) { priority, text },
	LOG_MESSAGES(LOG_X)
#undef LOG_X
};

void log_init(void)
{
	prefixed = getenv("JOURNAL_STREAM") != NULL;
}

/* One write, so that lines of several threads do not mix; a log that cannot be written is no reason to stop. */
static void put(int priority, const char *text)
{
	char line[1024];
	int n;

	if (prefixed)
		n = snprintf(line, sizeof(line), "<%d>%s\n", priority, text);
	else
		n = snprintf(line, sizeof(line), "nologd: %s\n", text);
	if (n <= 0)
		return;
	if ((size_t)n >= sizeof(line))
		n = (int)sizeof(line) - 1;
	/* It stays one line, and says nothing to a terminal, whatever stood in a path or a file. */
	for (int i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n - 1] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

void log_say(enum log_message m, long long a, long long b, long long c)
{
	char text[512];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	/* The formats are the literals of LOG_MESSAGES. */
	(void)snprintf(text, sizeof(text), messages[m].text, a, b, c);
#pragma GCC diagnostic pop
	put(messages[m].priority, text);
}

void log_fault(const struct fault *f)
{
	char text[512];
	const char *why = f->error ? strerror(-f->error) : "";

	if (f->block)
		(void)snprintf(text, sizeof(text), "%s: block %llu: %s (%s)", f->file,
			       (unsigned long long)f->block, f->what ? f->what : "failed", why);
	else
		(void)snprintf(text, sizeof(text), "%s: %s (%s)", f->file,
			       f->what ? f->what : "failed", why);
	put(3, text);
}

void log_error(const char *format, ...)
{
	char text[900];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	put(3, text);
}
