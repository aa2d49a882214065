#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""A disk without space, and what must happen all the same.

tests/run: timeout=600
"""

import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from forensics import (Clock, Keyring, Volume, day_number, day_text, effects, ms,  # noqa: E402
                       session_starts)
from nolog import Daemon, Timeout, Workspace, main, wait_for, FACTOR, USAGE_FIRST  # noqa: E402

FAST = "[usage]\ntick = 50ms\n"
TRUST = FAST + "[clock]\ntrust = always\n"
FIRST = "2026-03-03"  # day 0
HOUR = 3600 * 1000
EFFECT_TOTAL = 7


def on_day(n, clock="12:00:00"):
    return f"{day_text(day_number(FIRST) + n)} {clock}"


def fill(path):
    """Not a byte more goes there."""
    with open(path / "fill", "ab", 0) as f:
        for size in (1 << 20, 65536, 4096, 512, 1):
            try:
                while f.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
    return path / "fill"


class Full:
    """with Full(clock) as f: a daemon on a file system of its own, f.d, its clock, f.clock."""

    def __init__(self, text, config=TRUST, mib=64):
        self.w = Workspace()
        self.volume = Volume(self.w, mib)
        self.text, self.config = text, config

    def __enter__(self):
        self.volume.__enter__()
        self.state = self.volume.path / "state"
        self.state.mkdir(mode=0o700)
        self.clock = Clock(self.w, self.text)
        self.d = Daemon(self.state, self.w.run, self.config, env=self.clock.env)
        self.d.start()
        return self

    def __exit__(self, *_):
        if self.d.process.poll() is None:
            self.d.kill9()
        self.volume.__exit__()
        self.w.remove()

    def fill(self):
        return fill(self.volume.path)

    def stall(self, role, send):
        """Reports until nothing is acknowledged any more; returns the connection."""
        c = self.d.reporter(role, "nl-9", stream=77)
        until = time.monotonic() + 60 * FACTOR
        while not self.d.status()["stalled"]:
            assert time.monotonic() < until, "it never stalls"
            send(c)
            try:
                c.sync(timeout=1.0)
            except Timeout:
                break
        wait_for(lambda: self.d.status()["stalled"] == 1, what="stalled")
        return c


def sessions_of(t):
    count = [0]

    def send(c):
        count[0] += 1
        for i in range(2000):
            c.event("SESSION", start=t - 1000 * i - 50000, end=t - 1000 * i,
                    ip=f"10.2.{count[0] % 250}.{i % 250}")
    return send


def knows_of(state, horizon):
    return [s for s in session_starts(state) if s[0] < horizon]


def began_long_ago(d, start):
    """An open session and a finished one that began on the day which is forgotten first."""
    d.report("nl-1", ("START", {"handle": 1, "start": start, "ip": "10.9.9.9"}),
             ("SESSION", {"ip": "10.1.2.5", "start": start, "end": start + 30 * HOUR}))


def test_on_a_full_disk_a_day_is_forgotten_on_time_in_the_journal_too():
    start, horizon = ms(on_day(0, "10:00:00")), ms(on_day(1, "00:00:00"))
    with Full(on_day(89, "20:00:00")) as f:
        began_long_ago(f.d, start)
        assert knows_of(f.state, horizon)
        filler = f.fill()
        c = f.stall("sessions", sessions_of(ms(on_day(89, "20:00:00"))))
        acked = c.acked
        f.clock.set(on_day(90, "00:00:00"), plus=-1)
        wait_for(lambda: Keyring(f.state / "keyring").first_day == day_number(FIRST) + 1, what="midnight")
        wait_for(lambda: not knows_of(f.state, horizon), what="the journal to forget")
        assert day_number(FIRST) not in Keyring(f.state / "keyring").days
        # Again and again, and over a restart, without a byte of free space.
        for day in (91, 93):
            f.clock.set(on_day(day, "00:00:10"))
            wait_for(lambda n=day: not knows_of(f.state, ms(on_day(n - 89, "00:00:00"))),
                     what="the journal to forget the next one")
        f.d.kill9()
        f.d.start()
        assert [r.start for r in f.d.lookup("10.9.9.9")[0]] == [ms(on_day(4, "00:00:00"))]
        # It goes on by itself when there is space, and what was acknowledged is there.
        filler.unlink()
        wait_for(lambda: f.d.status()["stalled"] == 0, what="going on")
        f.d.report("nl-1", ("END", {"handle": 1, "end": ms(on_day(93, "00:00:10"))}))
        with f.d.reporter("sessions", "nl-9", stream=77) as again:
            assert again.welcome.seq >= acked
        assert len(f.d.lookup("10.2.0.0", length=112)[0]) >= acked > 0


def test_a_start_on_a_full_disk_does_not_hang_and_still_forgets():
    start, horizon = ms(on_day(0, "10:00:00")), ms(on_day(1, "00:00:00"))
    with Full(on_day(89, "20:00:00"), mib=24) as f:
        began_long_ago(f.d, start)
        f.d.kill9()
        f.fill()
        for text in (on_day(89, "20:10:00"), on_day(89, "23:00:00"), on_day(90, "00:00:10")):
            f.clock.set(text)
            f.d.start()
            assert f.d.status()["sessions_open"] == 1
            assert f.d.lookup("10.9.9.9")[0]
            if text < on_day(90):
                f.d.kill9()
        wait_for(lambda: not knows_of(f.state, horizon), what="the journal to forget")


def test_on_a_full_disk_the_month_turns():
    with Full("2026-11-30 20:00:00") as f:
        with f.d.reporter("usage", "nl-1", stream=5) as c:
            for i in range(200):
                c.event("USAGE", account=f"a-{i}", rx=1000 + i, tx=2000, aux=i + 1, code=USAGE_FIRST)
            c.sync()
        filler = f.fill()
        count = [0]

        def send(c):
            count[0] += 1
            for i in range(3000):
                c.event("USAGE", account=f"b-{count[0]}-{i}", rx=10, tx=20)
        f.stall("usage", send)
        f.clock.set("2026-12-01 00:00:00", plus=-1)
        wait_for(lambda: list(Keyring(f.state / "keyring").months) == [202612], what="the tag key's end")
        wait_for(lambda: not any(e[0] == EFFECT_TOTAL for e in effects(f.state, 1)),
                 what="the end of the totals")
        t = f.d.quota("a-7")
        assert (t.rx, t.tx, t.month) == (0, 0, 202612)
        filler.unlink()
        wait_for(lambda: f.d.status()["stalled"] == 0, what="going on")
        with f.d.reporter("usage", "nl-1", stream=5) as c:
            c.event("USAGE", seq=c.welcome.seq + 1, account="a-7", rx=1057, tx=2060, aux=8)
            c.sync()
        t = f.d.quota("a-7")  # only the difference
        assert (t.rx, t.tx) == (50, 60), t


def test_a_session_is_not_silent_while_nobody_can_be_heard():
    with Full(on_day(1), FAST + "[sessions]\nmax-silence = 3s\n") as f:
        now = lambda: int(f.clock.now_ms())
        with f.d.reporter("sessions", "nl-1", stream=9) as c:
            c.event("START", handle=1, start=now() - 60000, ip="10.9.9.9")
            c.event("ALIVE", handle=1, at=now())
            c.sync()
            # Full, and nothing acknowledged, much sooner than it would be silent.
            filler = f.fill()
            t, sender, until = now(), sessions_of(now()), time.monotonic() + 60 * FACTOR
            with f.d.reporter("sessions", "nl-9", stream=77) as other:
                while not f.d.status()["stalled"]:
                    assert time.monotonic() < until
                    c.event("ALIVE", handle=1, at=now())
                    sender(other)
                    try:
                        other.sync(timeout=1.0)
                    except Timeout:
                        break
            for _ in range(8):  # longer than max-silence, in which it says that it lives
                time.sleep(0.5)
                c.event("ALIVE", handle=1, at=now())
            assert f.d.status()["sessions_open"] == 1
            filler.unlink()
            assert c.sync(timeout=20 * FACTOR) == {}
            assert [r.end for r in f.d.lookup("10.9.9.9")[0]] == [0], t


if __name__ == "__main__":
    main()
