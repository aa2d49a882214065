#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Sessions from the socket to the look-up, against the real daemon."""

import pathlib
import signal
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from nolog import (Conn, Daemon, Frame, Refused, Workspace, ip_text, main, now_ms, wait_for,  # noqa: E402
                   RECORD_CANDIDATE, RECORD_OPEN, UNKNOWN_HANDLE, HANDLE_OPEN, TIME_RANGE,
                   IP_NOT_ALLOWED, SERVER_NOT_ALLOWED, DAY_FORGOTTEN, OVER_CAPACITY, BAD_SEQUENCE)

HOUR = 3600 * 1000
DAY = 24 * HOUR
TRUST = "[clock]\ntrust = always\n"


def rows(records):
    return sorted((ip_text(r.ip), r.server.rstrip(b"\0").decode(), r.start, r.end, r.code)
                  for r in records)


def refusals(conn):
    return conn.sync()


def test_a_session_is_found_open_and_ended_and_after_a_restart():
    with Workspace() as w:
        t = now_ms() - HOUR
        with Daemon(w.state, w.run) as d:
            with d.reporter("sessions", "nl-1") as c:
                c.event("START", handle=7, start=t, ip="10.8.0.2")
                c.sync()
                found, _ = d.lookup("10.8.0.2")
                assert rows(found) == [("10.8.0.2", "nl-1", t, 0, RECORD_OPEN)], rows(found)
                c.event("END", handle=7, end=t + 1000)
                c.sync()
            expected = [("10.8.0.2", "nl-1", t, t + 1000, 0)]
            assert rows(d.lookup("10.8.0.2")[0]) == expected
            d.kill9()
            d.start()
            assert rows(d.lookup("10.8.0.2")[0]) == expected
            d.term()
            d.start()
            assert rows(d.lookup("10.8.0.2")[0]) == expected
            assert rows(d.lookup(server="nl-1")[0]) == expected
            assert d.lookup(server="nl-2")[0] == []
            assert d.lookup("10.8.0.3")[0] == []


def test_open_sessions_outlive_a_restart_on_whatever_connection():
    with Workspace() as w:
        t = now_ms() - HOUR
        with Daemon(w.state, w.run) as d:
            d.report("nl-1", ("START", {"handle": 2**64 - 1, "start": t, "ip": "fd00::9"}))
            d.kill9()
            d.start()
            assert d.status()["sessions_open"] == 1
            d.report("nl-1", ("END", {"handle": 2**64 - 1, "end": t + 5}))
            assert rows(d.lookup("fd00::9")[0]) == [("fd00::9", "nl-1", t, t + 5, 0)]
            assert d.status()["sessions_open"] == 0


def test_every_refusal_of_a_session_event():
    config = "[servers]\nnl-1 =\n[sessions]\nallow = 10.8.0.0/16, fd00::/8\n[limits]\nopen-sessions = 3\n"
    with Workspace() as w, Daemon(w.state, w.run, config) as d:
        now = now_ms()
        try:
            d.reporter("sessions", "nl-2")
            raise AssertionError("a server that is not listed was welcomed")
        except Refused as e:
            assert e.frame.code == SERVER_NOT_ALLOWED
        with d.reporter("sessions", "nl-1") as c:
            expected = {}

            def refused(code, type_, **fields):
                expected[c.event(type_, **fields)] = code

            c.event("START", handle=1, start=now, ip="10.8.0.1")
            refused(HANDLE_OPEN, "START", handle=1, start=now, ip="10.8.0.2")
            refused(UNKNOWN_HANDLE, "END", handle=2, end=now)
            refused(UNKNOWN_HANDLE, "ALIVE", handle=2, at=now)
            refused(TIME_RANGE, "START", handle=2, start=now + 10 * 60000, ip="10.8.0.1")
            refused(TIME_RANGE, "END", handle=1, end=now + 10 * 60000)
            refused(TIME_RANGE, "END", handle=1, end=now - 1)
            refused(TIME_RANGE, "SESSION", start=now, end=now - 1, ip="10.8.0.1")
            refused(TIME_RANGE, "SESSION", start=now, end=now + 10 * 60000, ip="10.8.0.1")
            refused(TIME_RANGE, "RESTART", at=now + 10 * 60000)
            refused(IP_NOT_ALLOWED, "START", handle=2, start=now, ip="10.9.0.1")
            refused(IP_NOT_ALLOWED, "SESSION", start=now, end=now, ip="2001:db8::1")
            refused(DAY_FORGOTTEN, "SESSION", start=now - 200 * DAY, end=now - 100 * DAY, ip="10.8.0.1")
            # In the contract's order: the time before the day, the day before the address.
            refused(DAY_FORGOTTEN, "SESSION", start=now - 200 * DAY, end=now - 100 * DAY, ip="10.9.0.1")
            refused(HANDLE_OPEN, "START", handle=1, start=now + DAY, ip="10.9.0.1")
            c.event("START", handle=2, start=now, ip="10.8.0.2")
            c.event("START", handle=3, start=now, ip="10.8.0.3")
            refused(OVER_CAPACITY, "START", handle=4, start=now, ip="10.8.0.4")
            # A refused END leaves the session open.
            c.event("END", handle=1, end=now)
            c.event("START", handle=4, start=now, ip="10.8.0.4")
            assert refusals(c) == expected, (refusals(c), expected)
        s = d.status()
        assert s["refused_total"] == len(expected) + 1, s
        assert s["sessions_open"] == 3


def test_a_repeat_of_a_refused_frame_is_only_acknowledged():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        with d.reporter("sessions", "nl-1", stream=77) as c:
            c.event("END", handle=1, end=now_ms())
            assert c.sync() == {1: UNKNOWN_HANDLE}
        with d.conn("sessions") as c:
            assert c.hello("nl-1", 77).seq == 1
            c.seq = c.acked = 0
            c.event("END", handle=1, end=now_ms(), seq=1)
            assert c.sync() == {}


def test_sequence_numbers():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        now = now_ms()

        def session(seq):
            return Frame("SESSION", seq=seq, start=now, end=now, ip="10.0.0.1")

        for first, second in ((0, None), (2, None), (1, 1), (1, 3), (1, 0)):
            with d.reporter("sessions", "nl-1") as c:
                c.send(session(first), *([session(second)] if second is not None else []))
                frames = c.recv_all()
                assert frames[-1].name == "REFUSED" and frames[-1].code == BAD_SEQUENCE, frames
                wrong = second if second is not None else first
                assert frames[-1].seq == wrong
                # What came before is acknowledged first.
                assert [f.name for f in frames[:-1]] == (["ACK"] if second is not None else [])
        stream = 99
        with d.reporter("sessions", "nl-1", stream) as c:
            c.send(session(1), session(2))
            c.sync(2)
        for start, ok in ((1, True), (2, True), (3, True), (5, False)):
            with d.conn("sessions") as c:
                at = c.hello("nl-1", stream).seq
                c.send(session(start))
                frame = c.recv()
                assert (frame.name == "ACK") == ok, (start, at, frame)


def test_the_newer_connection_of_a_stream_wins():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        older = d.reporter("sessions", "nl-1", 5)
        older.event("SESSION", start=now_ms(), end=now_ms(), ip="10.0.0.1")
        older.sync()
        other = d.reporter("sessions", "nl-2", 5)  # the same number at another server is another stream
        assert other.welcome.seq == 0
        newer = d.conn("sessions")
        assert newer.hello("nl-1", 5).seq == 1
        assert older.closed()
        newer.event("SESSION", start=now_ms(), end=now_ms(), ip="10.0.0.2")
        newer.sync()
        for c in (older, newer, other):
            c.close()


def test_restart_ends_what_began_before_it():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        t = now_ms() - HOUR
        d.report("nl-1", *[("START", {"handle": i, "start": t + i, "ip": f"10.0.0.{i}"})
                           for i in range(1, 11)])
        d.report("nl-2", ("START", {"handle": 1, "start": t, "ip": "10.0.1.1"}))
        d.report("nl-1", ("RESTART", {"at": t + 6}))
        found = rows(d.lookup(server="nl-1")[0])
        ended = [r for r in found if not r[4]]
        still = [r for r in found if r[4] == RECORD_OPEN]
        assert [(r[2] - t, r[3] - t) for r in ended] == [(i, 6) for i in range(1, 6)], found
        assert sorted(r[2] - t for r in still) == [6, 7, 8, 9, 10]
        assert rows(d.lookup(server="nl-2")[0])[0][4] == RECORD_OPEN
        assert d.status()["sessions_open"] == 6


def test_handles_are_reused_after_end():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        t = now_ms() - HOUR
        with d.reporter("sessions", "nl-1") as c:
            for i in range(100):
                c.event("START", handle=5, start=t + 10 * i, ip="10.0.0.5")
                c.event("END", handle=5, end=t + 10 * i + 5)
            assert c.sync() == {}
        found = rows(d.lookup("10.0.0.5")[0])
        assert [(r[2] - t, r[3] - t) for r in found] == [(10 * i, 10 * i + 5) for i in range(100)]


def test_silence_ends_a_session_at_its_last_sign_of_life():
    with Workspace() as w, Daemon(w.state, w.run, "[sessions]\nmax-silence = 1s\n") as d:
        t = now_ms() - HOUR
        d.report("nl-1", ("START", {"handle": 1, "start": t, "ip": "10.0.0.1"}),
                 ("START", {"handle": 2, "start": t, "ip": "10.0.0.2"}),
                 ("ALIVE", {"handle": 1, "at": t + 3000}),
                 ("ALIVE", {"handle": 1, "at": t + 2000}))
        wait_for(lambda: d.status()["sessions_open"] == 1, what="the silent session's end")
        assert rows(d.lookup("10.0.0.1")[0]) == [("10.0.0.1", "nl-1", t, t + 3000, 0)]
        assert rows(d.lookup("10.0.0.2")[0])[0][4] == RECORD_OPEN


def test_sessions_that_cross_midnight_and_the_horizon():
    # 2026-11-22 12:00 UTC
    noon = 1795348800000
    midnight = noon - 12 * HOUR
    horizon = midnight - 89 * DAY
    with Workspace() as w:
        d = Daemon(w.state, w.run, TRUST, faketime="@2026-11-22 12:00:00")
        with d:
            d.report("nl-1",
                     ("SESSION", {"start": midnight - HOUR, "end": midnight + HOUR, "ip": "10.0.0.1"}),
                     ("SESSION", {"start": midnight - 40 * DAY, "end": midnight - 5, "ip": "10.0.0.2"}),
                     ("SESSION", {"start": horizon - 5 * DAY, "end": horizon + HOUR, "ip": "10.0.0.3"}),
                     ("SESSION", {"start": midnight - HOUR, "end": midnight, "ip": "10.0.0.4"}),
                     ("SESSION", {"start": midnight, "end": midnight, "ip": "fd00::4"}),
                     ("START", {"handle": 1, "start": horizon - DAY, "ip": "10.0.0.5"}),
                     ("START", {"handle": 2, "start": horizon - DAY, "ip": "10.0.0.6"}),
                     ("END", {"handle": 2, "end": horizon - HOUR}))
            expected = {
                "10.0.0.1": [("10.0.0.1", "nl-1", midnight - HOUR, midnight + HOUR, 0)],
                "10.0.0.2": [("10.0.0.2", "nl-1", midnight - 40 * DAY, midnight - 5, 0)],
                "10.0.0.3": [("10.0.0.3", "nl-1", horizon, horizon + HOUR, 0)],
                "10.0.0.4": [("10.0.0.4", "nl-1", midnight - HOUR, midnight, 0)],
                "fd00::4": [("fd00::4", "nl-1", midnight, midnight, 0)],
                "10.0.0.5": [("10.0.0.5", "nl-1", horizon, 0, RECORD_OPEN)],
                "10.0.0.6": [],
            }

            def check():
                for ip, records in expected.items():
                    found = rows(d.lookup(ip)[0])
                    assert found == records, (ip, found, records)

            check()
            # Asked for the far end of it, the whole session is given.
            found, _ = d.lookup("10.0.0.2", from_=midnight - 40 * DAY, to=midnight - 40 * DAY)
            assert rows(found) == expected["10.0.0.2"]
            found, _ = d.lookup("10.0.0.1", from_=midnight + HOUR + 1, to=noon)
            assert found == []
            d.kill9()
            d.start()
            check()
            d.term()
            d.start()
            check()


def test_a_retention_of_one_day_keeps_today_until_midnight():
    t = 1795386600000  # 2026-11-22 22:30:00 UTC
    config = TRUST + "[store]\nretention-days = 1\n"
    with Workspace() as w:
        with Daemon(w.state, w.run, config, faketime="@2026-11-22 22:30:00") as d:
            d.report("nl-1", ("SESSION", {"start": t - HOUR, "end": t, "ip": "10.0.0.1"}),
                     ("START", {"handle": 1, "start": t - HOUR, "ip": "10.0.0.2"}))
            for stop in (d.kill9, d.term):
                assert rows(d.lookup("10.0.0.1")[0]) == [("10.0.0.1", "nl-1", t - HOUR, t, 0)]
                assert rows(d.lookup("10.0.0.2")[0])[0][2] == t - HOUR
                stop()
                d.start()
            d.term()
            d.faketime = "@2026-11-23 00:00:01"
            d.start()
            midnight = t + 90 * 60000
            assert d.lookup("10.0.0.1")[0] == []
            assert rows(d.lookup("10.0.0.2")[0]) == [("10.0.0.2", "nl-1", midnight, 0, RECORD_OPEN)]


def test_nothing_is_acknowledged_that_is_not_kept_in_a_day_s_last_hours():
    late = 1795388400000  # 2026-11-22 23:00:00 UTC
    oldest = late - 23 * HOUR - 89 * DAY
    with Workspace() as w:
        with Daemon(w.state, w.run, TRUST, faketime="@2026-11-22 23:00:00") as d:
            with d.reporter("sessions", "nl-1") as c:
                whole = c.event("SESSION", start=oldest, end=oldest + HOUR, ip="10.0.0.1")
                c.event("SESSION", start=oldest, end=oldest + DAY + HOUR, ip="10.0.0.2")
                assert c.sync() == {whole: DAY_FORGOTTEN}
            assert rows(d.lookup("10.0.0.2")[0]) == [
                ("10.0.0.2", "nl-1", oldest + DAY, oldest + DAY + HOUR, 0)]


def test_prefixes_of_every_length():
    """Of two addresses and all that differ from them in one bit: one for each bit kept or dropped."""
    bases = [int.from_bytes(socket.inet_pton(socket.AF_INET6, a), "big")
             for a in ("::ffff:10.83.201.6", "2001:db8:6a31:92c7:f5d0:1b4e:8c3f:7a15")]
    bits = [range(96, 128), range(128)]
    ips = [b for base, of in zip(bases, bits) for b in [base, *(base ^ 1 << (127 - k) for k in of)]]
    with Workspace() as w, Daemon(w.state, w.run) as d:
        t = now_ms() - HOUR

        def check():
            for base in bases:
                for length in range(129):
                    found, done = d.lookup(base.to_bytes(16, "big"), length=length)
                    got = sorted(int.from_bytes(r.ip, "big") for r in found)
                    want = sorted(i for i in ips if i >> (128 - length) == base >> (128 - length))
                    assert got == want and done.code == 0, (length, len(got), len(want))

        with d.reporter("sessions", "nl-1", stream=6) as c:
            for i, ip in enumerate(ips):
                c.event("START", handle=i, start=t, ip=ip.to_bytes(16, "big"))
            c.sync()
            check()  # open
            for i in range(len(ips)):
                c.event("END", handle=i, end=t + 1000)
            c.sync()
            check()  # ended, waiting
        d.term()
        d.start()
        check()  # stored


def test_a_shared_exit_gives_candidates_and_their_number():
    config = "[servers]\nnl-1 = 203.0.113.7, 2001:db8::7\nnl-2 = 203.0.113.8\n"
    with Workspace() as w, Daemon(w.state, w.run, config) as d:
        t = now_ms() - HOUR
        d.report("nl-1", *[("SESSION", {"start": t, "end": t + 1000, "ip": f"10.0.0.{i}"}) for i in range(5)],
                 ("START", {"handle": 1, "start": t, "ip": "10.0.0.9"}))
        d.report("nl-2", ("SESSION", {"start": t, "end": t + 1000, "ip": "10.0.1.1"}),
                 ("SESSION", {"start": t, "end": t + 1000, "ip": "203.0.113.7"}))
        for stored in (False, True):
            found = rows(d.lookup("203.0.113.7", from_=t + 500, to=t + 500)[0])
            own = [r for r in found if not r[4] & RECORD_CANDIDATE]
            others = [r for r in found if r[4] & RECORD_CANDIDATE]
            assert [r[0] for r in own] == ["203.0.113.7"], found
            assert len(others) == 6 and all(r[1] == "nl-1" for r in others), (stored, found)
            both, _ = d.lookup("203.0.113.7", server="nl-1", from_=t + 500, to=t + 500)
            assert len(both) == 6 and all(r.code & RECORD_CANDIDATE for r in both)
            none, _ = d.lookup("2001:db8::7", server="nl-2")
            assert none == []
            d.term()
            d.start()


def test_identical_records_are_given_once_but_not_on_a_shared_exit():
    config = "[servers]\nnl-1 = 203.0.113.7\n"
    with Workspace() as w, Daemon(w.state, w.run, config) as d:
        t = now_ms() - HOUR
        same = ("SESSION", {"start": t, "end": t + 1000, "ip": "10.0.0.1"})
        later = ("SESSION", {"start": t, "end": t + 2000, "ip": "10.0.0.1"})
        exit_ = ("SESSION", {"start": t, "end": t + 1000, "ip": "203.0.113.7"})
        d.report("nl-1", same, same, later, exit_, exit_)
        d.term()
        d.start()
        d.report("nl-1", same, exit_)
        assert rows(d.lookup("10.0.0.1")[0]) == [("10.0.0.1", "nl-1", t, t + 2000, 0)]
        found = [r for r in rows(d.lookup("203.0.113.7")[0]) if r[0] == "203.0.113.7"]
        assert len(found) == 3, found


def test_questions_are_answered_in_order_with_their_number():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        t = now_ms() - HOUR
        d.report("nl-1", *[("SESSION", {"start": t, "end": t, "ip": f"10.0.{i // 250}.{i % 250}"})
                           for i in range(1000)])
        with d.conn("lookup") as c:
            asked = [(3, "", 0), (2**64 - 1, "10.0.0.7", 128), (0, "", 0), (7, "10.0.3.1", 128)]
            c.send(*[Frame("LOOKUP", seq=seq, code=length, ip=ip or b"", server=b"", from_=0, to=2**63 - 1)
                     for seq, ip, length in asked])
            for seq, _, length in asked:
                count = 0
                while (frame := c.recv()).name == "RECORD":
                    assert frame.seq == seq
                    count += 1
                assert (frame.name, frame.seq, frame.count) == ("DONE", seq, count)
                assert count == (1000 if length == 0 else 1)


def test_the_limit_of_records_is_said():
    with Workspace() as w, Daemon(w.state, w.run, "[limits]\nrecords = 10\n") as d:
        t = now_ms() - HOUR
        d.report("nl-1", *[("SESSION", {"start": t + i, "end": t + i, "ip": "10.0.0.1"}) for i in range(11)])
        found, done = d.lookup("10.0.0.1")
        assert (len(found), done.code) == (10, 2)
        found, done = d.lookup("10.0.0.1", from_=t, to=t + 9)
        assert (len(found), done.code) == (10, 0)


def test_a_million_sessions_on_one_address():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        t = now_ms() - HOUR
        count = 1_000_000
        with d.reporter("sessions", "nl-1", stream=3) as c:
            for first in range(0, count, 20000):
                c.send_raw(b"".join(
                    Frame("SESSION", seq=first + i + 1, start=t + first + i, end=t + first + i,
                          ip="10.0.0.1").pack() for i in range(20000)))
                c.sync(first + 20000, timeout=60)
        found, done = d.lookup("10.0.0.1", from_=t + 500_000, to=t + 500_009)
        assert len(found) == 10 and done.code == 0
        with d.conn("lookup") as c:
            c.timeout = 120
            c.send(Frame("LOOKUP", seq=1, code=128, ip="10.0.0.1", server=b"", from_=0, to=2**63 - 1))
            got = 0
            while True:
                data = c.sock.recv(1 << 20)
                assert data
                c.buffer += data
                if len(c.buffer) % 64 == 0 and c.buffer[-64] == 0xA1:
                    break
            got = len(c.buffer) // 64 - 1
            assert Frame.unpack(c.buffer[-64:]).count == got == count, got


def test_many_who_ask_for_everything_are_answered_in_turn():
    count, all_of_it = 20000, Frame("LOOKUP", seq=1, code=0, from_=0, to=2**63 - 1)

    def answer(c):
        frames = c.recv_all()  # to the end: nothing more is asked
        records = [f for f in frames if f.name == "RECORD"]
        assert frames[-1].name == "DONE" and frames[-1].count == len(records) == len(frames) - 1
        return frames[-1].code, len(records)

    with Workspace() as w, Daemon(w.state, w.run) as d:
        t = now_ms() - HOUR
        with d.reporter("sessions", "nl-1", stream=3) as c:
            c.send_raw(b"".join(Frame("SESSION", seq=i, start=t + i, end=t + i, ip="10.0.0.1").pack()
                                for i in range(1, count + 1)))
            c.sync(count, timeout=60)
        for ending in (False, True):
            asking = [d.conn("lookup") for _ in range(12)]
            for c in asking:
                c.timeout = 60
                c.send(all_of_it)
            for c in asking[3:5]:
                c.close()  # whoever goes keeps nobody's place
            if ending:
                d.process.send_signal(signal.SIGTERM)
            else:
                assert len(d.lookup("10.0.0.1", from_=t + 7, to=t + 7)[0]) == 1  # not behind them
            for c in asking[:3] + asking[5:]:
                if not ending:
                    c.sock.shutdown(socket.SHUT_WR)
                code, n = answer(c)
                assert (code, n) == (0, count) or (ending and code == 3), (code, n)
                c.close()
        assert d.wait() == 0, d.logs()


def test_closing_the_sending_side_still_gets_the_acknowledgement():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        with d.conn("sessions") as c:
            c.send(Frame("HELLO", server="nl-1"), *[
                Frame("SESSION", seq=i, start=now_ms(), end=now_ms(), ip="10.0.0.1") for i in range(1, 101)])
            c.sock.shutdown(socket.SHUT_WR)
            frames = c.recv_all()
            assert frames[0].name == "WELCOME" and frames[-1].name == "ACK" and frames[-1].seq == 100, frames


if __name__ == "__main__":
    main()
