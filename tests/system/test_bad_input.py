#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Bad input on the sockets: every byte that should not come, and every peer that misbehaves.

What a frame deserves is judged here once more, after nolog-frame(5), by
judge(), which shares no line with the daemon.  After each assault the daemon
is alive, is the same process, and answers rightly.

Every choice comes from one seed, which a failure prints and NOLOGD_SEED sets.
"""

import os
import pathlib
import random
import re
import resource
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from nolog import (FACTOR, FRAMES, Closed, Daemon, Frame, Workspace,  # noqa: E402
                   find_traces, ip_text, main, now_ms, wait_for, BAD_SEQUENCE, BAD_VERSION, MALFORMED,
                   SERVER_NOT_ALLOWED, UNKNOWN_HANDLE, UNKNOWN_TYPE, USAGE_FIRST, WRONG_SOCKET)

SEED = int(os.environ.get("NOLOGD_SEED", random.SystemRandom().getrandbits(32)))
ROLES = ("sessions", "usage", "lookup", "quota", "admin")
REPORTERS = ROLES[:2]
CONFIG = "[usage]\ntick = 50ms\n[servers]\nnl-1 =\nnl-2 =\nnl-3 =\n"
SPOKEN = {  # the frames of clients, and where
    0x01: ("sessions", "usage"), 0x10: ("sessions",), 0x11: ("sessions",), 0x12: ("sessions",),
    0x13: ("sessions",), 0x14: ("sessions",), 0x18: ("usage",), 0x20: ("lookup",),
    0x30: ("quota",), 0x40: ("admin",),
}
BODY = {0x01: 24, 0x10: 32, 0x11: 16, 0x12: 32, 0x13: 16, 0x14: 8, 0x18: 48, 0x20: 48, 0x30: 32,
        0x40: 0}
SERVER = re.compile(rb"[a-z0-9.-]{1,16}\0*\Z")


def judge(raw, role):
    """The refusal of a frame by itself, 0: none; in the contract's order."""
    type_, version, code, aux, seq = struct.unpack_from("<BBHIQ", raw)
    if version != 1:
        return BAD_VERSION
    if type_ not in SPOKEN:
        return UNKNOWN_TYPE
    if role not in SPOKEN[type_]:
        return WRONG_SOCKET
    if raw[16 + BODY[type_]:].strip(b"\0"):
        return MALFORMED
    if code & ~{0x18: 3, 0x20: 0xFFFF}.get(type_, 0) or (aux and type_ != 0x18):
        return MALFORMED
    if type_ == 0x01 and (seq or not SERVER.match(raw[16:32])):
        return MALFORMED
    if type_ == 0x18 and not aux and code:
        return MALFORMED
    if type_ == 0x20:
        from_, to = struct.unpack_from("<qq", raw, 48)
        if code > 128 or from_ > to or (raw[32:48].strip(b"\0") and not SERVER.match(raw[32:48])):
            return MALFORMED
    return 0


def hello(server="nl-1", **fields):
    return Frame("HELLO", server=server, **fields)


def good(role, seq):
    """A frame that is welcome on a socket."""
    t = now_ms() - 1000
    return {"sessions": lambda: Frame("SESSION", seq=seq, start=t, end=t, ip="10.9.9.9"),
            "usage": lambda: Frame("USAGE", seq=seq, account="fine", rx=1, tx=1),
            "lookup": lambda: Frame("LOOKUP", seq=seq, code=128, ip="10.0.0.1", to=2**62),
            "quota": lambda: Frame("QUOTA", seq=seq, account="alice"),
            "admin": lambda: Frame("STATUS", seq=seq)}[role]()


class Alive:
    """A nologd with something to ask it for; .check() asks, and so does leaving it."""

    def __init__(self, config=CONFIG):
        self.config = config

    def __enter__(self):
        self.workspace = Workspace()
        self.daemon = Daemon(self.workspace.state, self.workspace.run, self.config)
        self.daemon.start()
        self.t = now_ms() - 3_600_000
        self.daemon.report("nl-1", ("SESSION", {"start": self.t, "end": self.t + 5, "ip": "10.0.0.1"}))
        self.daemon.report("nl-1", ("USAGE", {"account": "alice", "rx": 3, "tx": 4}))
        self.more = 0
        self.pid = self.daemon.pid
        return self

    def check(self, lookup_s=2):
        d = self.daemon
        assert d.process.poll() is None, f"nologd ended with {d.process.returncode}:\n{d.logs()}"
        began = time.monotonic()
        found, done = d.lookup("10.0.0.1")
        took = time.monotonic() - began
        assert took < lookup_s * FACTOR, f"it took {took:.1f} s to look up"
        began = time.monotonic()
        assert [(ip_text(r.ip), r.start, r.end) for r in found] == [("10.0.0.1", self.t, self.t + 5)], found
        assert done.code == 0
        t = d.quota("alice")
        assert (t.rx, t.tx) == (3, 4), t
        # It still takes events, and counts them.
        self.more += 1
        with d.reporter("sessions", "nl-3") as c, d.reporter("usage", "nl-3") as u:
            c.event("SESSION", start=self.t, end=self.t, ip=f"10.5.{self.more >> 8}.{self.more & 255}")
            u.event("USAGE", account="counted", rx=1, tx=0)
            assert c.sync() == {} and u.sync() == {}
        assert d.quota("counted").rx == self.more
        assert len(d.lookup(server="nl-3")[0]) == self.more
        assert d.status()["stalled"] == 0
        took = time.monotonic() - began
        assert took < 2 * FACTOR, f"it took {took:.1f} s to answer"

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.check()
                assert self.daemon.pid == self.pid
                self.daemon.term()
            elif self.daemon.process.poll() is None:
                self.daemon.kill9()
        finally:
            self.workspace.remove()


def seeded(test):
    def run():
        try:
            test(random.Random(f"{SEED} {test.__name__}"))
        except BaseException:
            print(f"# NOLOGD_SEED={SEED}", flush=True)
            raise
    run.__name__ = test.__name__
    return run


def send_all(conn, data):
    """Sends what the other side still takes: it may hang up in between."""
    try:
        conn.send_raw(data)
    except Closed:
        pass


def answers(a, role, *raw):
    """All that a connection answers to these bytes until it is closed by nologd."""
    with a.daemon.conn(role) as c:
        send_all(c, b"".join(raw))
        return c.recv_all()


def refused(frames, code, seq):
    assert frames, "no answer"
    last = frames[-1]
    assert (last.name, last.code, last.seq) == ("REFUSED", code, seq), (frames[-3:], code, seq)
    assert sum(f.name == "REFUSED" for f in frames) == 1, frames


# --- Refusing ---------------------------------------------------------------

def test_every_type_on_every_socket_is_welcome_or_refused_with_its_code():
    with Alive() as a:
        for role in ROLES:
            for type_ in range(256):
                raw = Frame(type_, seq=7).pack()
                if type_ == 0x01:
                    raw = hello().pack()
                code = judge(raw, role)
                if not code and role in REPORTERS:
                    continue  # welcome after HELLO: the other tests'
                if not code:
                    with a.daemon.conn(role) as c:
                        c.send_raw(raw)
                        frame = c.recv()
                        assert frame.seq == 7 and frame.name != "REFUSED", frame
                    continue
                refused(answers(a, role, raw), code, 0 if type_ == 0x01 else 7)


def test_what_is_wrong_in_several_ways_is_refused_in_the_contracts_order():
    t = now_ms()
    cases = [
        # version before all else
        ("sessions", Frame(0xEE, version=2, seq=1, code=9, tail=b"x"), BAD_VERSION),
        ("sessions", Frame("SESSION", version=0, seq=0, start=t, end=t), BAD_VERSION),
        ("admin", Frame("START", version=255, seq=3), BAD_VERSION),
        # the type before the socket and the content
        ("usage", Frame("ACK", seq=1), UNKNOWN_TYPE),
        ("lookup", Frame("RECORD", seq=1), UNKNOWN_TYPE),
        ("sessions", Frame(0x15, seq=1, code=1, tail=b"x"), UNKNOWN_TYPE),
        ("quota", Frame(0, seq=1), UNKNOWN_TYPE),
        # the socket before the content
        ("usage", Frame("SESSION", seq=1, code=1, tail=b"x"), WRONG_SOCKET),
        ("sessions", Frame("USAGE", seq=1, code=3), WRONG_SOCKET),
        ("lookup", hello("NOT-AN-ID"), WRONG_SOCKET),
        ("sessions", Frame("LOOKUP", seq=1, code=999), WRONG_SOCKET),
        # the content before the sequence
        ("sessions", Frame("SESSION", seq=99, code=1, start=t, end=t), MALFORMED),
        ("sessions", Frame("SESSION", seq=0, aux=1, start=t, end=t), MALFORMED),
        ("sessions", Frame("END", seq=99, handle=1, end=t, tail=b"\1"), MALFORMED),
        ("usage", Frame("USAGE", seq=99, account="a", code=1), MALFORMED),
        ("usage", Frame("USAGE", seq=99, account="a", code=4, aux=1), MALFORMED),
        # the sequence before the meaning
        ("sessions", Frame("END", seq=99, handle=404, end=t), BAD_SEQUENCE),
        ("sessions", Frame("END", seq=2**64 - 1, handle=404, end=t + 10**9), BAD_SEQUENCE),
        ("usage", Frame("USAGE", seq=0, account="a", rx=2**64 - 1), BAD_SEQUENCE),
    ]
    with Alive() as a:
        for role, frame, code in cases:
            greeting = [hello().pack()] if role in REPORTERS else []
            got = answers(a, role, *greeting, frame.pack())
            refused(got, code, frame.seq)
            assert [f.name for f in got[:-1]] == ["WELCOME"] * len(greeting), got


def test_a_refusal_comes_after_the_acknowledgement_and_nothing_after_it_counts():
    # Also where nothing would be committed for a minute.
    with Alive() as a:
        a.daemon.reload(CONFIG.replace("50ms", "60s"))
        wait_for(lambda: a.daemon.logs().count("configuration reread") == 1, what="the reload")
        for role in REPORTERS:
            for stream in (0, 6):
                for bad, code in ((Frame(0x77, seq=51), UNKNOWN_TYPE),
                                  (Frame("QUOTA", seq=51), WRONG_SOCKET),
                                  (hello(), MALFORMED),
                                  (Frame(good(role, 51).type, seq=51, code=1), MALFORMED),
                                  (good(role, 53), BAD_SEQUENCE)):
                    if (role, code) == ("usage", BAD_SEQUENCE):
                        continue  # found when the tick's batch is decided
                    before = a.daemon.quota("fine").rx
                    stream += bool(stream)
                    began = time.monotonic()
                    got = answers(a, role, hello(stream=stream).pack(),
                                  *[good(role, i).pack() for i in range(1, 51)], bad.pack(),
                                  *[good(role, i).pack() for i in range(51, 61)])
                    assert time.monotonic() - began < 5 * FACTOR, "it waited for the tick"
                    refused(got, code, bad.seq)
                    assert [f.name for f in got[:2]] == ["WELCOME", "ACK"], got
                    assert got[-2].name == "ACK" and got[-2].seq == 50, got
                    if role == "usage":
                        assert a.daemon.quota("fine").rx == before + 50
                    if stream:
                        with a.daemon.conn(role) as c:  # it took no seq
                            assert c.hello("nl-1", stream).seq == 50
        a.daemon.reload(CONFIG)
        wait_for(lambda: a.daemon.logs().count("configuration reread") == 2, what="the reload")


def test_a_refusal_by_the_ledger_leaves_the_connection_open():
    with Alive() as a:
        with a.daemon.reporter("sessions", "nl-1", 5) as c:
            for i in range(1, 200, 2):
                c.event("END", handle=i, end=now_ms())
                c.event("SESSION", start=a.t, end=a.t, ip="10.1.0.1")
            assert c.sync() == {i: UNKNOWN_HANDLE for i in range(1, 200, 2)}


def test_every_way_not_to_say_hello():
    ids = [b"", b"\0nl-1", b"nl-1\0x", b"NL-1", b"nl_1", b"nl 1", b"nl-1\xff", b"\xc3\xa4", b"a" * 15 + b"\n"]
    with Alive() as a:
        for role in REPORTERS:
            for id_ in ids:
                refused(answers(a, role, hello(id_).pack()), MALFORMED, 0)
            refused(answers(a, role, hello(seq=1).pack()), MALFORMED, 1)
            refused(answers(a, role, hello(code=1).pack()), MALFORMED, 0)
            refused(answers(a, role, hello(aux=1).pack()), MALFORMED, 0)
            refused(answers(a, role, hello(tail=b"\0" * 23 + b"\1").pack()), MALFORMED, 0)
            for id_ in ("nl-9", "nl-11", "nl-", "n", "a" * 16, "nl-1.", "..."):
                refused(answers(a, role, hello(id_).pack()), SERVER_NOT_ALLOWED, 0)
            # A frame before HELLO, a HELLO after HELLO, also behind unanswered frames.
            refused(answers(a, role, good(role, 1).pack()), MALFORMED, 1)
            refused(answers(a, role, good(role, 1).pack(), hello().pack()), MALFORMED, 1)
            for second in (hello(), hello("nl-2"), hello(stream=1), hello("nl-9")):
                got = answers(a, role, hello().pack(), second.pack())
                refused(got, MALFORMED, 0)
                assert [f.name for f in got] == ["WELCOME", "REFUSED"]
                got = answers(a, role, hello().pack(), *[good(role, i).pack() for i in (1, 2, 3)],
                              second.pack())
                refused(got, MALFORMED, 0)
                assert got[-2].name == "ACK" and got[-2].seq == 3, got
            # Nothing but a HELLO is fine, and so is nothing at all.
            with a.daemon.conn(role) as c:
                c.sock.shutdown(socket.SHUT_WR)
                assert c.closed()
            with a.daemon.reporter(role, "nl-1") as c:
                c.sock.shutdown(socket.SHUT_WR)
                assert c.closed()


def test_questions_that_cannot_be_asked():
    with Alive() as a:
        for bad in (dict(code=129), dict(code=0xFFFF), dict(code=128, from_=1, to=0),
                    dict(code=0, from_=2**63 - 1, to=-(2**63)), dict(server=b"NL"), dict(aux=1),
                    dict(server=b"nl-1\0x"), dict(server=b"\0nl")):
            frame = Frame("LOOKUP", seq=2**64 - 1, ip="10.0.0.1", **{"to": 5, **bad})
            refused(answers(a, "lookup", frame.pack()), MALFORMED, 2**64 - 1)
            # What was asked before is answered first; what comes after, not at all.
            got = answers(a, "lookup", good("lookup", 1).pack(), good("lookup", 2).pack(), frame.pack(),
                          good("lookup", 3).pack())
            refused(got, MALFORMED, 2**64 - 1)
            assert [(f.name, f.seq) for f in got[:-1]] == [
                ("RECORD", 1), ("DONE", 1), ("RECORD", 2), ("DONE", 2)], got
        # Extremes that are no mistakes.
        for fine in (dict(code=128, from_=-(2**63), to=2**63 - 1), dict(code=0, from_=5, to=5),
                     dict(code=97, from_=0, to=2**63 - 1), dict(code=128, server=b"z" * 16, to=2**62)):
            with a.daemon.conn("lookup") as c:
                c.ask(Frame("LOOKUP", seq=9, ip="10.0.0.1", **fine), "DONE")
        for role, bad in (("quota", Frame("QUOTA", seq=8, account="alice", tail=b"\1")),
                          ("quota", Frame("QUOTA", seq=8, account="alice", aux=1)),
                          ("quota", Frame("QUOTA", seq=8, account="alice", code=1)),
                          ("admin", Frame("STATUS", seq=8, tail=b"\1")),
                          ("admin", Frame("STATUS", seq=8, code=1))):
            got = answers(a, role, good(role, 1).pack(), good(role, 2).pack(), bad.pack(),
                          good(role, 3).pack())
            refused(got, MALFORMED, 8)
            assert {f.seq for f in got[:-1]} == {1, 2}, got
            assert sum(f.name in ("TOTAL", "DONE") for f in got) == 2, got


# --- Random -----------------------------------------------------------------

def mutate(rng, role, seq):
    """A frame that may have anything wrong with it, or nothing."""
    frame = rng.choice([
        good(role, seq), Frame("START", seq=seq, handle=rng.getrandbits(64), start=now_ms(), ip="10.7.0.1"),
        Frame("END", seq=seq, handle=rng.getrandbits(3), end=now_ms()), hello(),
        Frame("USAGE", seq=seq, account="a", aux=rng.getrandbits(2), code=rng.getrandbits(2)),
        Frame(rng.choice([n for n, _, _ in FRAMES.values()]), seq=seq)]
        if rng.random() < 0.4 else [good(role, seq)])
    raw = bytearray(frame.pack())
    how = rng.randrange(8)
    if how == 0:
        raw[rng.randrange(64)] ^= 1 << rng.randrange(8)
    elif how == 1:
        raw[rng.randrange(8)] = rng.getrandbits(8)
    elif how == 2:
        raw[:] = rng.randbytes(64)
    elif how == 3:
        raw[2:] = rng.randbytes(62)
    elif how == 4 and rng.random() < 0.3:
        raw[:] = bytes(64)
    return bytes(raw)


@seeded
def test_thousands_of_random_frames_get_exactly_the_refusals_they_deserve(rng):
    """Behind good frames; the first bad one ends the connection, with its code and number."""
    frames = 0
    with Alive() as a:
        for role in ROLES:
            for _ in range(400):
                sent, code, expect_seq = [], 0, 0
                if role in REPORTERS:
                    sent.append(hello().pack())
                for seq in range(1, rng.choice([2, 4, 30])):
                    raw = mutate(rng, role, seq)
                    sent.append(raw)
                    code = judge(raw, role)
                    got_seq = struct.unpack_from("<Q", raw, 8)[0]
                    if not code and raw[0] == 0x01:
                        code = MALFORMED  # the second HELLO
                    if not code and role in REPORTERS and got_seq != seq:
                        code = BAD_SEQUENCE
                    if code:
                        expect_seq = got_seq
                        break
                frames += len(sent)
                with a.daemon.conn(role) as c:
                    send_all(c, b"".join(sent) + (rng.randbytes(rng.randrange(200)) if code else b""))
                    if code:
                        got = c.recv_all()
                        last = got[-1] if got else None
                        assert last and (last.name, last.code, last.seq) == ("REFUSED", code, expect_seq), (
                            role, [s.hex() for s in sent[-2:]], got[-2:], code)
                    else:
                        c.sock.shutdown(socket.SHUT_WR)
                        got = c.recv_all()
                        assert not any(f.name == "REFUSED" and f.code < 16 for f in got), got
                    if role in REPORTERS:
                        whole = len(sent) - 1 - bool(code)
                        acks = [f.seq for f in got if f.name == "ACK"]
                        assert (acks[-1] if acks else 0) == whole, (role, acks, whole)
        a.check()
        print(f"# {frames} frames")


@seeded
def test_reordered_repeated_and_missing_frames_are_refused_at_the_first_wrong_one(rng):
    with Alive() as a:
        for round_ in range(150):
            role, stream = rng.choice(REPORTERS), rng.choice([0, 1000 + round_])
            order = list(range(1, 31))
            for _ in range(rng.randrange(1, 4)):
                i, j = rng.randrange(30), rng.randrange(30)
                what = rng.randrange(3)
                if what == 0:
                    order[i], order[j] = order[j], order[i]
                elif what == 1:
                    order.insert(i, order[j])
                else:
                    del order[i % len(order)]
                    order.append(31)
            right = next((n for n, seq in enumerate(order) if seq != n + 1), len(order))
            with a.daemon.conn(role) as c:
                send_all(c, hello(stream=stream).pack() + b"".join(good(role, s).pack() for s in order))
                if right < len(order):
                    got = c.recv_all()
                    refused(got, BAD_SEQUENCE, order[right])
                    acks = [f.seq for f in got if f.name == "ACK"]
                    assert (acks[-1] if acks else 0) == right, (order, acks)
            if stream and right < len(order):
                with a.daemon.conn(role) as c:
                    assert c.hello("nl-1", stream).seq == right


@seeded
def test_streams_of_garbage_zeros_and_ones_end_at_their_first_frame(rng):
    with Alive() as a:
        for role in ROLES:
            for data in (rng.randbytes(1 << 20), bytes(1 << 20), b"\xff" * (1 << 20), b"\x01" * 100_000,
                         b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50, b"\x81\x01" * 5000):
                got = answers(a, role, data)
                refused(got, judge(data[:64], role), struct.unpack_from("<Q", data, 8)[0])
                assert len(got) == 1, got
            a.check()


# --- Parts ------------------------------------------------------------------

def test_part_of_a_frame_is_dropped_whatever_its_length():
    with Alive() as a:
        for role in ROLES:
            start = [hello(stream=8).pack(), good(role, 1).pack()] if role in REPORTERS else []
            for n in range(1, 64):
                with a.daemon.conn(role) as c:
                    c.send_raw(good(role, 1).pack()[:n] if not start else hello().pack()[:n])
                    if n % 2:
                        c.sock.shutdown(socket.SHUT_WR)
                        assert c.closed()
            for n in (1, 17, 63):
                with a.daemon.conn(role) as c:
                    c.send_raw(b"".join(start) + good(role, 2).pack()[:n])
                    c.sock.shutdown(socket.SHUT_WR)
                    got = c.recv_all()
                    assert not any(f.name == "REFUSED" for f in got), got
            if start:
                with a.daemon.conn(role) as c:
                    assert c.hello("nl-1", 8).seq == 1


def test_peers_that_write_byte_by_byte_are_understood():
    with Alive() as a:
        conns = {role: a.daemon.conn(role) for role in ROLES}
        data = {role: b"".join(f.pack() for f in (
            [hello()] if role in REPORTERS else []) + [good(role, i) for i in (1, 2, 3)]) for role in ROLES}
        for i in range(max(map(len, data.values()))):
            for role, c in conns.items():
                c.send_raw(data[role][i:i + 1])
            if i == 100:
                a.check()  # others are not held up
        for role, c in conns.items():
            c.sock.shutdown(socket.SHUT_WR)
            got = c.recv_all()
            last = {"sessions": "ACK", "usage": "ACK", "lookup": "DONE", "quota": "TOTAL", "admin": "DONE"}
            assert (got[-1].name, got[-1].seq) == (last[role], 3), (role, got[-3:])


def test_half_closed_connections_get_all_their_answers():
    with Alive() as a:
        for role, last in (("lookup", "DONE"), ("quota", "TOTAL"), ("admin", "DONE")):
            with a.daemon.conn(role) as c:
                c.send(*[good(role, i) for i in range(100)])
                c.sock.shutdown(socket.SHUT_WR)
                got = c.recv_all()
                assert [f.seq for f in got if f.name == last] == list(range(100)), (role, got[-3:])
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            for role in ROLES:
                with a.daemon.conn(role) as c:
                    c.send(*([hello()] if role in REPORTERS else []), *[good(role, i) for i in range(1, 50)])
                    c.sock.shutdown(how)
            a.check()


# --- Peers that do not read, and many of them --------------------------------

def memory(pid, what="VmRSS"):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(rf"{what}:\s+(\d+) kB", f.read())[1]) * 1024


def sanitized(daemon):
    """A sanitizer is slow, shadows memory, and keeps what was freed."""
    binary = daemon.binary.read_bytes()
    return b"__asan_init" in binary or b"__tsan_init" in binary


def flood(conn, raw, seconds):
    """Writes as long as the other side takes it; the number of bytes."""
    conn.sock.settimeout(0.05)
    sent, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            sent += conn.sock.send(raw)
        except (TimeoutError, BlockingIOError):
            continue
        except OSError:
            break
    return sent


def test_peers_that_never_read_cost_bounded_memory_and_delay_nobody():
    config = CONFIG + "[limits]\nmemory = 16M\n"
    with Alive(config) as a:
        t = now_ms() - 1000
        with a.daemon.reporter("sessions", "nl-2") as c:
            c.send_raw(b"".join(Frame("SESSION", seq=i, start=t + i % 500, end=t + i % 500,
                                      ip=f"10.3.{i >> 8}.{i & 255}").pack() for i in range(1, 50_001)))
            c.seq = 50_000
            c.sync()
        before = memory(a.pid)
        bad = [(role, a.daemon.conn(role)) for role in ROLES for _ in range(12)]
        everything = Frame("LOOKUP", seq=1, server="nl-2", to=2**62).pack() * 500

        def assault(role, conn):
            if role in REPORTERS:
                conn.send(hello())
                seq, until = 1, time.monotonic() + 2
                while time.monotonic() < until:  # its ACKs are never read
                    try:
                        conn.sock.settimeout(0.05)
                        conn.sock.sendall(b"".join(good(role, seq + i).pack() for i in range(50)))
                    except OSError:
                        break
                    seq += 50
            else:
                flood(conn, everything if role == "lookup" else good(role, 1).pack() * 1000, 2)

        threads = [threading.Thread(target=assault, args=b, daemon=True) for b in bad]
        for t_ in threads:
            t_.start()
        # Look-ups wait for the memory that the others' unread answers hold: a second or so a time.
        while any(t_.is_alive() for t_ in threads):
            a.check(lookup_s=9)
        for t_ in threads:
            t_.join()
        grown = memory(a.pid, "VmHWM") - before
        # 16 MiB of look-ups' answers and those on their way, 256 KiB a connection.
        most = 640 if sanitized(a.daemon) else 160
        assert grown < most << 20, f"grew by {grown >> 20} MiB"
        for _, conn in bad:
            conn.close()
        wait_for(lambda: a.daemon.status()["connections_open"] == 1, 20, "the end of the connections")


def test_many_large_questions_at_once_cost_bounded_memory_too():
    with Alive(CONFIG + "[limits]\nmemory = 16M\n") as a:
        t = now_ms() - 1000
        with a.daemon.reporter("sessions", "nl-2") as c:
            c.send_raw(b"".join(Frame("SESSION", seq=i, start=t + i % 500, end=t + i % 500,
                                      ip=f"10.3.{i >> 8}.{i & 255}").pack() for i in range(1, 50_001)))
            c.seq = 50_000
            c.sync()
        before = memory(a.pid)
        conns = [a.daemon.conn("lookup") for _ in range(100 if sanitized(a.daemon) else 400)]
        for c in conns:
            c.send(Frame("LOOKUP", seq=1, server="nl-2", to=2**62))
        # Whoever reports, or asks for a total, does not notice.
        for i in range(20):
            began = time.monotonic()
            with a.daemon.reporter("sessions", "nl-1") as c:
                c.event("SESSION", start=a.t, end=a.t, ip="10.1.0.1")
                assert c.sync() == {}
            assert a.daemon.quota("alice").rx == 3
            assert time.monotonic() - began < 2 * FACTOR, f"round {i}"
        # All 400 answers together would take a GiB.
        grown = memory(a.pid, "VmHWM") - before
        most = 900 if sanitized(a.daemon) else 250
        assert grown < most << 20, f"grew by {grown >> 20} MiB"
        for c in conns:
            c.close()
        # What they had asked is still looked up.
        wait_for(lambda: a.daemon.status()["connections_open"] == 1, 60, "the end of the connections")


def test_five_hundred_connections_at_once_are_all_served():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with Alive() as a:
        conns = [(ROLES[i % 5], a.daemon.conn(ROLES[i % 5])) for i in range(500)]
        for role, c in conns:
            c.send(*([hello()] if role in REPORTERS else []), *[good(role, i) for i in (1, 2, 3)])
        a.check()
        for role, c in conns:
            if role in REPORTERS:
                assert c.recv().name == "WELCOME"
                c.seq = 3
                assert c.sync() == {}
            else:
                last = {"lookup": "DONE", "quota": "TOTAL", "admin": "DONE"}[role]
                done = 0
                while done < 3:
                    done += c.recv().name == last
        assert a.daemon.status()["connections_open"] == 501
        for _, c in conns:
            c.close()
        # They come and go without a trace, also without a word.
        for _ in range(1500):
            a.daemon.conn("sessions").close()
        wait_for(lambda: a.daemon.status()["connections_open"] == 1, 20, "the end of the connections")


def test_more_connections_than_allowed_are_closed_without_an_answer():
    with Alive(CONFIG + "[limits]\nconnections = 20\n") as a:
        # An eighth is kept for questions: reporters cannot shut out the abuse desk.
        conns = [a.daemon.reporter("sessions", "nl-1") for _ in range(18)]
        for role in ("sessions", "usage"):
            with a.daemon.conn(role) as c:
                assert c.closed()
        for role in ("lookup", "quota"):
            conns.append(a.daemon.conn(role))
        conns[-2].lookup("10.1.0.1")
        conns[-1].quota("alice")
        for role in ROLES:
            with a.daemon.conn(role) as c:
                assert c.closed()
        conns[0].event("SESSION", start=a.t, end=a.t, ip="10.1.0.1")
        assert conns[0].sync() == {}
        for c in conns:
            c.close()

        def back():
            try:
                return a.daemon.status()
            except Closed:
                return None
        wait_for(back, what="a free connection")
        # The limit holds over any number of comings and goings.
        for i in range(200):
            try:
                with a.daemon.reporter("sessions", "nl-1") as c:
                    c.event("SESSION", start=a.t, end=a.t, ip="10.1.0.1")
                    c.sync()
            except Closed:
                raise AssertionError(f"turned away at the {i}th") from None


def test_answers_that_are_asked_for_and_abandoned_do_no_harm():
    with Alive() as a:
        t = now_ms() - 1000
        with a.daemon.reporter("sessions", "nl-2") as c:
            c.send_raw(b"".join(Frame("SESSION", seq=i, start=t, end=t + i % 900, ip=f"10.3.{i >> 8}.{i & 255}")
                                .pack() for i in range(1, 20_001)))
            c.seq = 20_000
            c.sync()
        for i in range(300):
            c = a.daemon.conn("lookup")
            c.send(Frame("LOOKUP", seq=1, server="nl-2", to=2**62))
            if i % 3 == 0:
                c.recv()
            c.close()
        for _ in range(300):
            with a.daemon.conn("quota") as c:
                c.send(*[good("quota", i) for i in range(50)])
        assert len(a.daemon.lookup(server="nl-2")[0]) == 20_000


# --- No word of it ------------------------------------------------------------

def test_the_log_says_nothing_of_what_came():
    names = ["canary-account", "canary-server"]
    with Workspace() as w, Daemon(w.state, w.run, CONFIG) as d:
        t = now_ms()
        for frame in (hello("canary-server"), Frame("SESSION", seq=1, start=t, end=t, ip="10.77.66.55"),
                      hello(b"CANARY-SERVER")):
            with d.conn("sessions") as c:
                c.send(frame)
                c.recv_all()
        with d.reporter("sessions", "nl-1") as c:
            for i in range(3):
                c.event("END", handle=0xCA9A51E5 + i, end=t)
                c.event("START", handle=0xCA9A51E5, start=t, ip="10.77.66.55")
                c.event("START", handle=5, start=t + 10**9, ip="fd00:ca9a::1")
            c.sync()
            c.send(Frame(0x99, seq=1, tail=b"canary-account"))
            c.recv_all()
        with d.reporter("usage", "nl-1") as c:
            c.event("USAGE", account="canary-account", rx=2**64 - 1, tx=0)
            c.event("USAGE", account="canary-account", rx=5, tx=5, aux=77, code=USAGE_FIRST)
            c.sync()
        d.quota("canary-account")
        d.lookup("10.77.66.55")
        with d.conn("lookup") as c:
            c.send(Frame("LOOKUP", seq=1, code=300, ip="10.77.66.55", server="canary-server"))
            c.recv_all()
        d.term()
        canaries = [*names, "10.77.66.55", "fd00:ca9a::1", 0xCA9A51E5]
        assert find_traces(d.log_path, canaries) == []
        d.log_path.write_text(d.logs() + "10.77.66.55")
        assert find_traces(d.log_path, canaries)
        lines = d.logs().splitlines()
        assert len(lines) < 15, lines


if __name__ == "__main__":
    main()
