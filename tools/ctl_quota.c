/* SPDX-License-Identifier: ISC */
/*
 * ctl_quota: the month's total of one account, whose name is on standard input.
 */
#include "ctl.h"
#include "ctl_ask.h"
#include "ctl_out.h"

#include <unistd.h>

#define TIMEOUT_MS 60000 /* of silence */

static void print_json(const struct nolog_frame *total)
{
	uint32_t month = total->u.total.month;
	uint64_t rx = total->u.total.rx, tx = total->u.total.tx;
	char resets[NOLOG_DURATION_TEXT + 8];

	ctl_time_text(resets, total->u.total.resets_ms);
	(void)printf("{\"month\":\"%04u-%02u\",\"rx\":%llu,\"tx\":%llu,\"total\":%llu,"
		     "\"resets\":\"%s\"}\n",
		     month / 100, month % 100, (unsigned long long)rx, (unsigned long long)tx,
		     (unsigned long long)(rx + tx), resets);
}

static void print_bytes(const char *name, uint64_t bytes)
{
	char text[CTL_BYTES_TEXT];

	ctl_bytes_text(text, bytes);
	(void)printf("%-8s%llu", name, (unsigned long long)bytes);
	if (bytes >= 1024)
		(void)printf("  (%s)", text);
	(void)putchar('\n');
}

static void print_table(const struct nolog_frame *total)
{
	uint32_t month = total->u.total.month;
	char resets[NOLOG_DURATION_TEXT + 8];

	ctl_time_text(resets, total->u.total.resets_ms);
	(void)printf("month   %04u-%02u\n", month / 100, month % 100);
	print_bytes("rx", total->u.total.rx);
	print_bytes("tx", total->u.total.tx);
	print_bytes("total", total->u.total.rx + total->u.total.tx);
	(void)printf("resets  %s\n", resets);
}

enum ctl_exit ctl_quota(const struct ctl_args *args, const char *name)
{
	struct nolog_frame request = { .type = NOLOG_QUOTA }, total;
	bool over;

	(void)name;
	if (ctl_ask_account(request.u.quota.account, STDIN_FILENO) < 0)
		return CTL_ERROR;
	if (ctl_ask(args, NOLOG_ROLE_QUOTA, &request, NULL, NULL, &total, TIMEOUT_MS) < 0)
		return CTL_ERROR;
	/* Each is below 2^63: their sum fits. */
	over = ctl_given(args, CTL_BIT(LIMIT)) && total.u.total.rx + total.u.total.tx > args->limit;
	if (ctl_given(args, CTL_BIT(JSON)))
		print_json(&total);
	else
		print_table(&total);
	if (over && !ctl_given(args, CTL_BIT(JSON)))
		(void)printf("over the limit of %llu bytes\n", (unsigned long long)args->limit);
	return over ? CTL_NO : CTL_YES;
}
