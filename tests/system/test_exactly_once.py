#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Exactly once: reporters are cut off and nologd is killed, at random points.

At the end every session is there once and every total is exact.

The reporter is written here after nolog-frame(5), and so is the model that says
what must come out: neither shares a line with the daemon or the client
library.  Most sessions lie on shared exit addresses, where a look-up hides no
repeated record.

Every choice comes from one seed, which a failure prints and NOLOGD_SEED sets;
threads and signals make of one seed more than one run.

tests/run: timeout=600
"""

import collections
import contextlib
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from nolog import (FACTOR, Closed, Conn, Daemon, Frame, Timeout, Workspace, ip_text, main,  # noqa: E402
                   now_ms, program, wait_for, DAY_FORGOTTEN, HANDLE_OPEN, IP_NOT_ALLOWED,
                   OVER_CAPACITY, RECORD_OPEN, TIME_RANGE, UNKNOWN_HANDLE, USAGE_FIRST, USAGE_LAST)

SEED = int(os.environ.get("NOLOGD_SEED", random.SystemRandom().getrandbits(32)))
HOUR = 3600 * 1000
DAY = 24 * HOUR
CONFIG = """
[usage]
tick = 50ms
[sessions]
allow = 10.0.0.0/8, 203.0.113.0/24, fd00::/8
[servers]
nl-1 = 203.0.113.1, fd00::e1
nl-2 = 203.0.113.2
nl-3 = 203.0.113.3
[limits]
records = 1000000
"""


# --- What must come out -----------------------------------------------------

class SessionModel:
    """Makes the events of one stream, and knows what they leave behind.

    Streams of one server must not share handles: `tag` keeps them apart.
    """

    role = "sessions"

    def __init__(self, rng, server, tag, alone):
        self.rng, self.server, self.tag, self.alone = rng, server, tag, alone
        self.frames, self.refused = [], {}
        self.open, self.ended, self.records = {}, [], []
        self.exits = {"nl-1": ["203.0.113.1", "fd00::e1"], "nl-2": ["203.0.113.2"],
                      "nl-3": ["203.0.113.3"]}[server]
        # Yesterday: a test that runs over midnight sees the same.
        self.day = (now_ms() // DAY - 1) * DAY
        self.count = 0

    def make(self, n):
        kinds = [(self.start, 40), (self.end, 25), (self.session, 14), (self.alive, 5),
                 (self.wrong, 15), (self.restart, 0.4 if self.alone else 0)]
        for _ in range(n):
            self.rng.choices([k for k, _ in kinds], [w for _, w in kinds])[0]()
        return self

    def add(self, type_, refusal=None, **fields):
        seq = len(self.frames) + 1
        self.frames.append(Frame(type_, seq=seq, **fields).pack())
        if refusal:
            self.refused[seq] = refusal

    def when(self):
        """A start like no other, and the address; one in ten crosses midnight."""
        self.count += 1
        unique = self.count * 40 + self.tag
        if self.rng.random() < 0.1:
            return self.day - 2 * HOUR + unique, f"10.{self.tag}.{self.count >> 8}.{self.count & 255}"
        return self.day + HOUR + unique, self.rng.choice(self.exits)

    def handle(self):
        if self.ended and self.rng.random() < 0.2:
            return self.ended.pop(self.rng.randrange(len(self.ended)))
        while True:
            handle = self.rng.getrandbits(56) << 8 | self.tag
            if handle not in self.open:
                return handle

    def close(self, handle, end):
        start, ip = self.open.pop(handle)
        self.ended.append(handle)
        self.records.append((ip, self.server, start, end, 0))

    def start(self):
        handle, (start, ip) = self.handle(), self.when()
        self.open[handle] = (start, ip)
        self.add("START", handle=handle, start=start, ip=ip)

    def end(self):
        if not self.open:
            return self.start()
        handle = self.rng.choice(list(self.open))
        end = self.open[handle][0] + self.rng.choice([0, 1, self.rng.randrange(10 * HOUR)])
        self.add("END", handle=handle, end=end)
        return self.close(handle, end)

    def session(self):
        start, ip = self.when()
        end = start + self.rng.randrange(10 * HOUR)
        self.add("SESSION", start=start, end=end, ip=ip)
        self.records.append((ip, self.server, start, end, 0))

    def alive(self):
        if not self.open:
            return self.start()
        handle = self.rng.choice(list(self.open))
        return self.add("ALIVE", handle=handle, at=self.open[handle][0] + self.rng.randrange(HOUR))

    def restart(self):
        at = self.day + HOUR + self.rng.randrange(max(1, self.count * 40))
        self.add("RESTART", at=at)
        for handle in [h for h, (start, _) in self.open.items() if start < at]:
            self.close(handle, at)

    def wrong(self):
        start, ip = self.when()
        kind = self.rng.randrange(7)
        unknown = self.rng.getrandbits(55) << 8 | 0xF0 | self.tag
        if kind == 0 and self.open:
            self.add("START", HANDLE_OPEN, handle=self.rng.choice(list(self.open)), start=start, ip=ip)
        elif kind == 1:
            self.add("END", UNKNOWN_HANDLE, handle=unknown, end=start)
        elif kind == 2:
            self.add("SESSION", TIME_RANGE, start=start, end=start - 1, ip=ip)
        elif kind == 3:
            self.add("SESSION", DAY_FORGOTTEN, start=start - 200 * DAY, end=start - 100 * DAY, ip=ip)
        elif kind == 4:
            self.add("SESSION", IP_NOT_ALLOWED, start=start, end=start, ip="192.0.2.1")
        elif kind == 5 and self.open:
            handle = self.rng.choice(list(self.open))
            self.add("END", TIME_RANGE, handle=handle, end=self.open[handle][0] - 1)
        else:
            self.add("START", IP_NOT_ALLOWED, handle=unknown, start=start, ip="2001:db8::1")

    def expected(self):
        return collections.Counter(self.records + [
            (ip, self.server, start, 0, RECORD_OPEN) for start, ip in self.open.values()])


class UsageModel:
    """The same for usage: differences and meters; totals are shared by all streams."""

    role = "usage"

    def __init__(self, rng, server, tag, totals):
        self.rng, self.server, self.tag, self.totals = rng, server, tag, totals
        self.frames, self.refused = [], {}
        self.meters, self.closed = {}, []

    def make(self, n):
        for _ in range(n):
            self.rng.choices([self.plain, self.first, self.reading, self.baseline, self.late, self.over],
                             [45, 8, 35, 4, 3, 5])[0]()
        return self

    def add(self, name, rx, tx, aux=0, code=0, refusal=None):
        seq = len(self.frames) + 1
        self.frames.append(Frame("USAGE", seq=seq, account=name, rx=rx, tx=tx, aux=aux, code=code).pack())
        if refusal:
            self.refused[seq] = refusal

    def count(self, name, rx, tx):
        have = self.totals.setdefault(name, [0, 0])
        have[0] += rx
        have[1] += tx

    def name(self):
        return f"account-{self.rng.randrange(40)}"

    def bytes(self):
        return self.rng.choice([0, 1, self.rng.getrandbits(12), self.rng.getrandbits(40)])

    def plain(self):
        name, rx, tx = self.name(), self.bytes(), self.bytes()
        self.add(name, rx, tx)
        self.count(name, rx, tx)

    def new_meter(self):
        while True:
            number = (self.rng.getrandbits(24) << 8) | self.tag
            if number >> 8 and all(number != m for _, m in [*self.meters, *self.closed]):
                return number

    def first(self):
        name, number, rx, tx = self.name(), self.new_meter(), self.bytes(), self.bytes()
        last = self.rng.random() < 0.1
        self.add(name, rx, tx, number, USAGE_FIRST | (USAGE_LAST if last else 0))
        self.count(name, rx, tx)
        if last:
            self.closed.append((name, number))
        else:
            self.meters[name, number] = (rx, tx)

    def baseline(self):
        name, number, rx, tx = self.name(), self.new_meter(), self.bytes(), self.bytes()
        self.add(name, rx, tx, number)
        self.meters[name, number] = (rx, tx)

    def reading(self):
        if not self.meters:
            return self.first()
        name, number = key = self.rng.choice(list(self.meters))
        was = self.meters[key]
        fell = self.rng.random() < 0.1
        now = tuple(self.rng.randrange(w + 1) if fell else w + self.bytes() for w in was)
        whole = any(n < w for n, w in zip(now, was))
        last = self.rng.random() < 0.15
        self.add(name, *now, number, USAGE_LAST if last else 0)
        self.count(name, *(n if whole else n - w for n, w in zip(now, was)))
        self.meters[key] = now
        if last:
            del self.meters[key]
            self.closed.append(key)
        return None

    def late(self):
        """What comes after a last reading is ignored."""
        if not self.closed:
            return self.first()
        name, number = self.rng.choice(self.closed)
        return self.add(name, self.bytes(), self.bytes(), number)

    def over(self):
        self.add(self.name(), self.rng.choice([2**63, 2**64 - 1]), self.bytes(), refusal=OVER_CAPACITY)


# --- A reporter that is cut off ----------------------------------------------

class Reporter(threading.Thread):
    """Keeps what is not acknowledged, and sends it again after WELCOME's seq.

    Its connections end at random points: after any byte, with ACKs unread, or
    left hanging while the next one begins.
    """

    def __init__(self, model, run, seed, gate):
        super().__init__(daemon=True)
        self.model, self.frames = model, model.frames
        self.path = run / f"{model.role}.sock"
        self.rng = random.Random(seed)
        self.stream = self.rng.getrandbits(64) or 1
        self.gate = gate
        self.acked = self.sent = self.connections = self.cuts = self.repeats = 0
        self.hanging = []
        self.error = None
        self.deadline = time.monotonic() + 300 * FACTOR

    def run(self):
        try:
            while self.acked < len(self.frames):
                assert time.monotonic() < self.deadline, f"stands at {self.acked}"
                try:
                    self.one_connection()
                except (Closed, ConnectionError, FileNotFoundError, BlockingIOError):
                    time.sleep(0.002)
        except Exception as e:  # pylint: disable=broad-except
            self.error = e
        for conn in self.hanging:
            conn.close()

    def one_connection(self):
        conn = Conn(self.path)
        try:
            self.talk(conn)
        finally:
            if self.rng.random() < 0.1 and len(self.hanging) < 20:
                self.hanging.append(conn)
            else:
                conn.close()
            while self.hanging and self.rng.random() < 0.3:
                self.hanging.pop(0).close()

    def talk(self, conn):
        welcome = conn.hello(self.model.server, self.stream).seq
        self.connections += 1
        # What was acknowledged is kept; what was never sent cannot be.
        assert self.acked <= welcome <= self.sent, (self.acked, welcome, self.sent)
        self.acked = conn.acked = welcome
        at = welcome + 1
        if self.rng.random() < 0.3:
            at = max(1, at - self.rng.randrange(60))
            conn.acked = at - 1
            self.repeats += welcome + 1 - at
        while self.acked < len(self.frames):
            until = min(at + self.rng.choice([1, 3, 20, 200]), self.gate(self) + 1)
            data = b"".join(self.frames[at - 1:until - 1])
            if data and self.rng.random() < 0.12:
                cut = self.rng.randrange(len(data) + 1)
                self.sent = max(self.sent, at - 1 + cut // 64)
                self.cuts += 1
                conn.send_raw(data[:cut])
                return
            self.sent = max(self.sent, until - 1)
            conn.send_raw(data)
            at = max(at, until)
            if not data or self.rng.random() < 0.5:
                self.listen(conn, welcome, 0.02 if not data else 0)
            if not data and self.rng.random() < 0.01:
                return

    def listen(self, conn, welcome, timeout):
        """Takes what has come, and holds it against the model."""
        try:
            while self.acked < len(self.frames):
                before = conn.acked
                conn.take(conn.recv(timeout / FACTOR))
                timeout = 0
                assert conn.acked <= self.sent
                for seq in range(max(before, welcome) + 1, conn.acked + 1):
                    # The refusal comes before the ACK that covers it.
                    assert conn.refused.get(seq) == self.model.refused.get(seq), (
                        seq, conn.refused.get(seq), self.model.refused.get(seq))
                assert not any(seq <= welcome for seq in conn.refused), (welcome, conn.refused)
                self.acked = max(self.acked, conn.acked)
        except Timeout:
            pass


# --- The storm ---------------------------------------------------------------

class Storm:
    """nologd among reporters: ended `times` times by end(daemon), which may check how."""

    def __init__(self, workspace, rng, times, end):
        self.daemon = Daemon(workspace.state, workspace.run, CONFIG)
        if (now_ms() + HOUR) // DAY != now_ms() // DAY:
            # Not near the turn of a month, which is another test's.
            self.daemon.faketime = "-2h"
        self.rng, self.times, self.end = rng, times, end
        self.done = 0
        self.reporters = []

    def gate(self, reporter):
        """Nobody is through before the storm is."""
        if self.done >= self.times:
            return len(reporter.frames)
        return len(reporter.frames) * (self.done + 2) // (self.times + 2)

    def add(self, model):
        self.reporters.append(Reporter(model, self.daemon.run, self.rng.getrandbits(32), self.gate))

    def check(self):
        for r in self.reporters:
            if r.error:
                raise AssertionError(f"{r.model.role} of {r.model.server}") from r.error

    def acked(self):
        return sum(r.acked for r in self.reporters)

    def wait(self):
        """Until the next blow: some time, or right behind an acknowledgement."""
        if self.rng.random() < 0.5:
            time.sleep(self.rng.uniform(0, 0.08))
            return
        have, until = self.acked(), time.monotonic() + 0.2
        while self.acked() == have and time.monotonic() < until:
            time.sleep(0.0005)

    def run(self):
        """The reporters' work among the blows; afterwards nologd runs."""
        for r in self.reporters:
            r.start()
        try:
            while self.done < self.times:
                if self.rng.random() < 0.15 and self.done:
                    self.daemon.spawn()
                    time.sleep(self.rng.uniform(0, 0.04))
                    self.daemon.kill9()  # in the middle of starting: also where SIGTERM is meant
                else:
                    self.daemon.start()
                    self.wait()
                    self.end(self.daemon)
                self.check()
                self.done += 1
            self.daemon.start()
            for r in self.reporters:
                wait_for(lambda r=r: not r.is_alive(), 120, "the last acknowledgement")
                self.check()
            return self.daemon
        except BaseException:
            self.close()
            raise

    def close(self):
        self.done = self.times
        if self.daemon.process.poll() is None:
            self.daemon.kill9()


def seeded(test):
    """Says the seed when the test fails."""
    def run():
        rng = random.Random(f"{SEED} {test.__name__}")
        try:
            test(rng)
        except BaseException:
            print(f"# NOLOGD_SEED={SEED}", flush=True)
            raise
    run.__name__ = test.__name__
    return run


def found(daemon):
    records, done = daemon.lookup()
    assert done.code == 0, done
    return collections.Counter(
        (ip_text(r.ip), r.server.rstrip(b"\0").decode(), r.start, r.end, r.code) for r in records)


def compare(daemon, sessions, totals):
    expected = sum((m.expected() for m in sessions), collections.Counter())
    got = found(daemon)
    assert got == expected, (f"missing {list((expected - got).items())[:5]}, "
                             f"too many {list((got - expected).items())[:5]}")
    assert daemon.status()["sessions_open"] == sum(len(m.open) for m in sessions)
    for name, total in totals.items():
        t = daemon.quota(name)
        assert [t.rx, t.tx] == total, (name, t.rx, t.tx, total)


def storm(rng, times, end, frames):
    totals = {}
    with Workspace() as w:
        s = Storm(w, rng, times, end)
        # Two streams on one server; one server whose RESTART meets no other stream.
        sessions = [SessionModel(rng, server, tag, alone).make(frames // 4) for tag, (server, alone)
                    in enumerate([("nl-1", False), ("nl-1", False), ("nl-2", True), ("nl-3", True)], 1)]
        usage = [UsageModel(rng, server, tag, totals).make(frames // 4)
                 for tag, server in enumerate(["nl-1", "nl-1", "nl-2", "nl-3"], 1)]
        for model in sessions + usage:
            s.add(model)
        with contextlib.closing(s):
            d = s.run()
            compare(d, sessions, totals)
            d.kill9()
            d.start()
            compare(d, sessions, totals)
            d.term()
            d.start()
            compare(d, sessions, totals)
            # No row hides behind another: those on the disk are counted, too.
            midnight = sessions[0].day
            rows = sum(1 + (start < midnight < end) for m in sessions
                       for _, _, start, end, _ in m.records)
            status = d.status()
            assert status["rows_stored"] + status["rows_waiting"] == rows, (status, rows)
        print(f"# {s.times} ends, {sum(r.connections for r in s.reporters)} connections, "
              f"{sum(r.cuts for r in s.reporters)} cuts, {sum(r.repeats for r in s.reporters)} repeats, "
              f"{sum(m.expected().total() for m in sessions)} sessions, {len(totals)} totals")


@seeded
def test_every_event_counts_once_through_200_kills_and_cuts_everywhere(rng):
    storm(rng, 200, Daemon.kill9, 10_000)


@seeded
def test_nothing_is_lost_when_the_service_manager_ends_it_and_it_exits_0(rng):
    storm(rng, 40, Daemon.term, 4_000)


@seeded
def test_what_was_read_before_sigterm_is_acknowledged_and_kept(rng):
    with Workspace() as w:
        d = Daemon(w.state, w.run, CONFIG)
        at = (now_ms() // DAY - 1) * DAY
        kept = 0
        for round_ in range(15):
            with d:
                c = d.reporter("sessions", "nl-1", 9)
                u = d.reporter("usage", "nl-2", 9)
                assert (c.welcome.seq, u.welcome.seq) == (kept, kept)
                for i in range(kept, kept + 200):
                    c.event("SESSION", start=at + i, end=at + i, ip="203.0.113.1")
                    u.event("USAGE", account="alice", rx=1, tx=2)
                if round_ % 2:
                    time.sleep(rng.uniform(0, 0.003))
                d.process.terminate()
                for conn in (c, u):
                    frames = [f for f in conn.recv_all() if f.name == "ACK"]
                    conn.acked = frames[-1].seq if frames else kept
                assert d.wait() == 0, d.logs()
                d.start()
                with d.reporter("sessions", "nl-1", 9) as again:
                    # A clean end commits nothing that it does not acknowledge.
                    assert again.welcome.seq == c.acked, (again.welcome, c.acked)
                    for i in range(c.acked, kept + 200):
                        again.event("SESSION", start=at + i, end=at + i, ip="203.0.113.1")
                    again.sync()
                with d.reporter("usage", "nl-2", 9) as again:
                    assert again.welcome.seq == u.acked, (again.welcome, u.acked)
                    for _ in range(u.acked, kept + 200):
                        again.event("USAGE", account="alice", rx=1, tx=2)
                    again.sync()
                kept += 200
                c.close()
                u.close()
        with d:
            assert found(d) == collections.Counter(("203.0.113.1", "nl-1", at + i, at + i, 0)
                                                   for i in range(kept))
            t = d.quota("alice")
            assert (t.rx, t.tx) == (kept, 2 * kept)


# --- The client library ------------------------------------------------------

@seeded
def test_nologctl_report_is_killed_and_repeated_and_counts_once(rng):
    at = (now_ms() // DAY - 1) * DAY + HOUR
    lines, expected, totals = [], collections.Counter(), {}
    for i in range(4000):
        start, end = at + i, at + i + rng.randrange(10 * HOUR)
        stamps = [f"@{t // 1000}.{t % 1000:03d}" for t in (start, end)]
        if i % 2:
            lines.append(f"session --ip 203.0.113.1 --from {stamps[0]} --to {stamps[1]}")
        else:
            lines.append(f"start --handle {i} --ip 203.0.113.1 --at {stamps[0]}")
            lines.append(f"end --handle {i} --at {stamps[1]}")
        expected["203.0.113.1", "nl-1", start, end, 0] += 1
        name, rx, tx = f"account-{rng.randrange(20)}", rng.getrandbits(30), rng.getrandbits(30)
        lines.append(f"usage {name} {rx} {tx}")
        have = totals.setdefault(name, [0, 0])
        have[0] += rx
        have[1] += tx
        if i % 100 == 0:
            lines.append(f"usage meter-{i} 100 200 {i + 1} first")
            lines.append(f"usage meter-{i} 150 260 {i + 1} last")
            totals[f"meter-{i}"] = [150, 260]
    stream = rng.getrandbits(63) + 1
    with Workspace() as w, Daemon(w.state, w.run, CONFIG) as d:
        given, said = w.path / "events", w.path / "ctl.log"
        command = [str(program("nologctl")), "--run", str(w.run), "report", "--server", "nl-1",
                   "--stream", str(stream)]
        runs, killed, kills, ended = 60, 0, 0, []
        while runs or ended[-1] != 0:
            # Each run has the input again, and some more of it.
            part = lines if runs <= 5 else lines[:len(lines) * (61 - runs) // 56]
            given.write_text("\n".join(part) + "\n")
            with open(given, "rb") as events, open(said, "ab") as log:
                ctl = subprocess.Popen(command, stdin=events, stdout=log, stderr=log)
            for _ in range(rng.choice([0, 1, 1, 2])):
                time.sleep(rng.uniform(0, 0.03))
                d.kill9()
                kills += 1
                d.start()
            if runs > 5 and rng.random() < 0.6:
                time.sleep(rng.uniform(0, 0.03))
                ctl.kill()
                killed += 1
            ended.append(ctl.wait(120 * FACTOR))
            # 2: nologd was not there at its first word, which is what it then says.
            assert ended[-1] in (0, 2, -9), said.read_text()[-2000:]
            runs = max(0, runs - 1)
            assert len(ended) < 200, said.read_text()[-2000:]
        got = found(d)
        assert got == expected, (f"missing {list((expected - got).items())[:5]}, "
                                 f"too many {list((got - expected).items())[:5]}")
        for name, total in totals.items():
            t = d.quota(name)
            assert [t.rx, t.tx] == total, (name, t.rx, t.tx, total)
        # Once more with the same input: nothing is added.
        with open(given, "rb") as events:
            assert subprocess.run(command, stdin=events, timeout=60 * FACTOR, check=False).returncode == 0
        assert found(d) == expected
        print(f"# {len(ended)} runs of nologctl, {killed} of them killed, {kills} kills of nologd")


if __name__ == "__main__":
    main()
