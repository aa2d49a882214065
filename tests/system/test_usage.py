#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Totals from the socket to billing, against the real daemon."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from nolog import (Daemon, Frame, Workspace, account, main,  # noqa: E402
                   BAD_SEQUENCE, OVER_CAPACITY, USAGE_FIRST, USAGE_LAST)

FAST = "[usage]\ntick = 50ms\n"
TRUST = FAST + "[clock]\ntrust = always\n"


def use(c, name, rx, tx, meter=0, code=0):
    return c.event("USAGE", account=name, rx=rx, tx=tx, aux=meter, code=code)


def total(d, name):
    t = d.quota(name)
    return t.rx, t.tx


def test_differences_add_up():
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        with d.reporter("usage", "nl-1") as c:
            for i in range(100):
                use(c, "alice", i, 2 * i)
                use(c, "bob", 1, 0)
            assert c.sync() == {}
        assert total(d, "alice") == (4950, 9900)
        assert total(d, "bob") == (100, 0)
        assert total(d, "carol") == (0, 0)
        d.kill9()
        d.start()
        assert total(d, "alice") == (4950, 9900)


def test_an_unknown_account_looks_like_one_without_traffic():
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        with d.reporter("usage", "nl-1") as c:
            use(c, "alice", 0, 0)
            c.sync()
        known, unknown = d.quota("alice"), d.quota("nobody")
        assert known.pack() == unknown.pack(), (known, unknown)


def test_meters():
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        with d.reporter("usage", "nl-1") as c:
            use(c, "alice", 100, 200, meter=1, code=USAGE_FIRST)
            c.sync()
            assert total(d, "alice") == (100, 200)
            use(c, "alice", 150, 250, meter=1)
            use(c, "alice", 150, 250, meter=1)
            c.sync()
            assert total(d, "alice") == (150, 250)
            # It fell back: a counter that began again counts whole, both parts.
            use(c, "alice", 10, 260, meter=1)
            c.sync()
            assert total(d, "alice") == (160, 510)
            # Unknown without the first bit: a baseline that counts nothing.
            use(c, "alice", 1000, 1000, meter=2)
            use(c, "alice", 1001, 1002, meter=2)
            c.sync()
            assert total(d, "alice") == (161, 512)
            # Closed by its last reading: what follows is ignored.
            use(c, "alice", 11, 261, meter=1, code=USAGE_LAST)
            use(c, "alice", 5000, 5000, meter=1)
            use(c, "alice", 5000, 5000, meter=1, code=USAGE_FIRST)
            c.sync()
            assert total(d, "alice") == (162, 513)
            # First and last at once.
            use(c, "alice", 7, 8, meter=3, code=USAGE_FIRST | USAGE_LAST)
            c.sync()
            assert total(d, "alice") == (169, 521)
            # A meter belongs to server, account and number.
            use(c, "bob", 9, 9, meter=3, code=USAGE_FIRST)
            c.sync()
            assert total(d, "bob") == (9, 9)
        with d.reporter("usage", "nl-2") as c:
            use(c, "alice", 1, 1, meter=2, code=USAGE_FIRST)
            c.sync()
        assert total(d, "alice") == (170, 522)
        d.kill9()
        d.start()
        with d.reporter("usage", "nl-1") as c:
            use(c, "alice", 1011, 1012, meter=2)
            use(c, "alice", 9000, 9000, meter=1)
            c.sync()
        assert total(d, "alice") == (180, 532)


def test_a_total_that_would_reach_2_63_is_refused_and_nothing_moves():
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        with d.reporter("usage", "nl-1") as c:
            use(c, "alice", 2**63 - 1, 0)
            refused = {use(c, "alice", 1, 5): OVER_CAPACITY,
                       use(c, "alice", 0, 2**63): OVER_CAPACITY,
                       use(c, "alice", 2**64 - 1, 2**64 - 1): OVER_CAPACITY,
                       use(c, "alice", 5, 5, meter=9, code=USAGE_FIRST): OVER_CAPACITY}
            use(c, "alice", 0, 7)
            use(c, "alice", 5, 6, meter=9)  # the refused first reading left no meter: a baseline
            assert c.sync() == refused
        assert total(d, "alice") == (2**63 - 1, 7)


def test_usage_is_committed_on_its_tick_and_at_the_end():
    with Workspace() as w, Daemon(w.state, w.run, "[usage]\ntick = 60s\n") as d:
        c = d.reporter("usage", "nl-1", stream=4)
        use(c, "alice", 1, 2)
        # A HELLO beside it is greeted at once and does not disturb the tick.
        other = d.reporter("usage", "nl-2")
        assert total(d, "alice") == (0, 0)
        other.close()
        # The same stream again: what waits is committed first, so that WELCOME is true.
        again = d.conn("usage")
        assert again.hello("nl-1", 4).seq == 1
        assert total(d, "alice") == (1, 2)
        use(again, "alice", 1, 2)
        d.process.terminate()
        again.sync()
        assert d.wait() == 0
        d.start()
        assert total(d, "alice") == (2, 4)


def test_one_connection_fills_a_commit_before_its_tick():
    every = 65536
    with Workspace() as w, Daemon(w.state, w.run, "[usage]\ntick = 60s\n") as d:
        with d.reporter("usage", "nl-1", stream=4) as c:
            c.sock.setblocking(True)
            c.sock.settimeout(30)
            c.sock.sendall(b"".join(Frame("USAGE", seq=i + 1, account="alice", rx=1, tx=2).pack()
                                    for i in range(every)))
            c.sync(every, timeout=30)
            assert total(d, "alice") == (every, 2 * every)
        assert d.status()["usage_frames_total"] == every


def test_what_is_out_of_sequence_does_not_wait_for_the_tick():
    with Workspace() as w, Daemon(w.state, w.run, "[usage]\ntick = 60s\n") as d:
        with d.reporter("usage", "nl-1", stream=4) as c:
            use(c, "alice", 1, 2)
            c.send(Frame("USAGE", seq=3, account="alice", rx=4, tx=4))
            answers = c.recv_all(timeout=10)
            assert [(f.name, f.seq, f.code) for f in answers] == [
                ("ACK", 1, 0), ("REFUSED", 3, BAD_SEQUENCE)], answers
        assert total(d, "alice") == (1, 2)


def test_the_accounts_are_told_at_the_start():
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        with d.reporter("usage", "nl-1") as c:
            for i in range(7):
                use(c, f"account {i}", 1, 1)
            c.sync()
        d.kill9()
        d.start()
        assert "started: 0 open sessions, 7 accounts" in d.logs(), d.logs()


def test_the_turn_of_the_month():
    with Workspace() as w:
        d = Daemon(w.state, w.run, TRUST, faketime="@2026-11-30 23:59:00")
        with d:
            with d.reporter("usage", "nl-1", stream=8) as c:
                use(c, "alice", 1000, 2000, meter=1, code=USAGE_FIRST)
                use(c, "bob", 10, 20)
                c.sync()
            t = d.quota("alice")
            assert (t.rx, t.tx, t.month, t.resets) == (1000, 2000, 202611, 1796083200000), t
            before = (w.state / "usage.mdb").read_bytes()
            d.term()
            d.faketime = "@2026-12-01 00:00:01"
            d.start()
            t = d.quota("alice")
            assert (t.rx, t.tx, t.month, t.resets) == (0, 0, 202612, 1798761600000), t
            assert total(d, "bob") == (0, 0)
            # The reading of the old month is not counted again; the stream goes on.
            with d.conn("usage") as c:
                assert c.hello("nl-1", 8).seq == 2
                use(c, "alice", 1100, 2200, meter=1)
                c.sync()
            assert total(d, "alice") == (100, 200)
            d.term()
            # With the new keyring, last month's file cannot be read.
            (w.state / "usage.mdb").write_bytes(before)
            d.spawn()
            assert d.wait() == 1
            assert "usage.mdb" in d.logs()


def test_accounts_are_32_bytes_and_nothing_else_is():
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        with d.reporter("usage", "nl-1") as c:
            use(c, account("carol"), 3, 4)
            c.sync()
        assert total(d, "carol") == (3, 4)
        with d.conn("quota") as c:
            c.send(*[Frame("QUOTA", seq=i, account="carol") for i in range(2000)])
            for i in range(2000):
                f = c.recv()
                assert (f.name, f.seq, f.rx, f.tx) == ("TOTAL", i, 3, 4)


if __name__ == "__main__":
    main()
