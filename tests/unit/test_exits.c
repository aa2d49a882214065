/* SPDX-License-Identifier: ISC */
/* Which addresses are shared, and who is behind a prefix. */
#include "daytest.h"

static struct exits_entry entry(uint32_t ip, unsigned server)
{
	struct exits_entry e = { .server = server_make(server) };

	ip4_make(e.ip, ip);
	return e;
}

static void address_is_shared_when_it_is_listed(void **state)
{
	struct exits_entry e[2] = { entry(0xcb007107, 1), entry(0xcb007109, 2) };
	struct exits *x = exits_new(e, 2);
	uint8_t ip[16];

	(void)state;
	assert_non_null(x);
	assert_int_equal(exits_count(x), 2);
	ip4_make(ip, 0xcb007107);
	assert_true(exits_shared(x, ip));
	ip4_make(ip, 0xcb007108);
	assert_false(exits_shared(x, ip));
	assert_false(exits_shared(NULL, ip));
	exits_unref(x);
}

static void servers_in_a_prefix_come_once_and_ascending(void **state)
{
	struct exits_entry e[5] = { entry(0xcb007107, 3), entry(0xcb007108, 3),
				    entry(0xcb007107, 1), entry(0xcb007207, 2),
				    entry(0xc0000201, 4) };
	struct exits *x = exits_new(e, 5);
	struct server_key out[5];
	uint8_t ip[16];

	(void)state;
	assert_non_null(x);
	ip4_make(ip, 0xcb007100);
	assert_int_equal(exits_servers(x, ip, 96 + 24, out, 5), 2);
	assert_true(memcmp(&out[0], &out[1], sizeof(out[0])) < 0);
	assert_int_equal(exits_servers(x, ip, 96 + 8, out, 5), 3);
	assert_int_equal(exits_servers(x, ip, 0, out, 5), 4);
	assert_int_equal(exits_servers(x, ip, 0, out, 2), 4); /* two written */
	for (int i = 0; i < 4; i++) {
		(void)exits_servers(x, ip, 0, out, 5);
		if (i)
			assert_true(memcmp(&out[i - 1], &out[i], sizeof(out[0])) < 0);
	}
	ip4_make(ip, 0xcb007107);
	assert_int_equal(exits_servers(x, ip, 128, out, 5), 2);
	ip4_make(ip, 0xcb007106);
	assert_int_equal(exits_servers(x, ip, 127, out, 5), 2);
	assert_int_equal(exits_servers(x, ip, 128, out, 5), 0);
	exits_unref(x);
}

static void empty_list_knows_nobody(void **state)
{
	struct exits *x = exits_new(NULL, 0);
	struct server_key out[1];
	uint8_t ip[16] = { 0 };

	(void)state;
	assert_non_null(x);
	assert_int_equal(exits_servers(x, ip, 0, out, 1), 0);
	assert_false(exits_shared(x, ip));
	assert_ptr_equal(exits_ref(x), x);
	exits_unref(x);
	exits_unref(x);
	exits_unref(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_is_shared_when_it_is_listed),
		cmocka_unit_test(servers_in_a_prefix_come_once_and_ascending),
		cmocka_unit_test(empty_list_knows_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
