/* SPDX-License-Identifier: ISC */
/*
 * ctl_out: messages, JSON strings, times, sizes.  Knows no command.
 */
#include "ctl_out.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COLUMNS 80

void ctl_say(const char *fmt, ...)
{
	va_list ap;

	/* What was answered before stands before it, where both go to one place. */
	(void)fflush(stdout);
	(void)fputs("nologctl: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
}

void ctl_json_text(FILE *out, const char *text)
{
	(void)fputc('"', out);
	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '"' || c == '\\')
			(void)fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			(void)fprintf(out, "\\u%04x", c);
		else if (c > 0x7f)
			(void)fputs("\\ufffd", out);
		else
			(void)fputc(c, out);
	}
	(void)fputc('"', out);
}

void ctl_plain_text(FILE *out, const char *text)
{
	for (const char *p = text; *p; p++)
		(void)fputc(*p >= 0x20 && *p < 0x7f ? *p : '?', out);
}

void ctl_time_text(char out[NOLOG_DURATION_TEXT + 8], int64_t time_ms)
{
	if (nolog_time_format(out, time_ms) < 0)
		(void)snprintf(out, NOLOG_DURATION_TEXT + 8, "@%lld", (long long)time_ms / 1000);
}

void ctl_bytes_text(char out[CTL_BYTES_TEXT], uint64_t bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024) {
		(void)snprintf(out, CTL_BYTES_TEXT, "%u B", (unsigned)bytes);
		return;
	}
	for (; v >= 1023.95 && i + 1 < sizeof(units) / sizeof(units[0]); i++)
		v /= 1024;
	(void)snprintf(out, CTL_BYTES_TEXT, "%.1f %s", v, units[i]);
}

unsigned ctl_columns(FILE *out)
{
	struct winsize size;
	int fd = fileno(out);

	if (fd >= 0 && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	return COLUMNS;
}

enum ctl_exit ctl_out_end(enum ctl_exit status)
{
	bool failed = ferror(stdout);

	errno = 0;
	if (fflush(stdout) != 0)
		failed = true;
	if (!failed)
		return status;
	(void)fprintf(stderr, "nologctl: standard output: %s\n",
		      errno ? strerror(errno) : "not everything could be written");
	return CTL_ERROR;
}
