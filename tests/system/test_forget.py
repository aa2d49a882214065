#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Forgetting, with libfaketime on the real daemon and a look at what is left on the disk.

tests/run: timeout=900
"""

import contextlib
import os
import pathlib
import random
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from forensics import (FILE_SESSIONS, FILE_USAGE, Clock, Keyring, Volume, blocks,  # noqa: E402
                       day_blocks, day_number, day_text, decrypt, effects, journal_blocks, memory,
                       ms, openable, search, session_starts, unseal)
from nolog import (Daemon, Frame, Timeout, Workspace, faketime_env, ip_bytes,  # noqa: E402
                   main, sanitized, skip, wait_for, DAY_FORGOTTEN, FACTOR, USAGE_FIRST)

HOUR = 3600 * 1000
DAY = 24 * HOUR
FAST = "[usage]\ntick = 50ms\n"
TRUST = FAST + "[clock]\ntrust = always\n"
KERNEL = FAST + "[clock]\ntrust = kernel\n"
FIRST = "2026-03-03"  # day 0 of most tests; its ninetieth day after is in another month
SEED = random.SystemRandom().getrandbits(32)


def on_day(n, clock="12:00:00", first=FIRST):
    """The text of a time n days after the first."""
    return f"{day_text(day_number(first) + n)} {clock}"


def number(text):
    """The day of a text as the metrics have it: YYYYMMDD."""
    return int(text[:10].replace("-", ""))


def session(ip, start, end):
    return ("SESSION", {"ip": ip, "start": start, "end": end})


def found(d, ip):
    """[(start, end)] of an address, everything kept."""
    return sorted((r.start, r.end) for r in d.lookup(ip)[0])


def day_files(state):
    return sorted(p.name for p in (state / "days").iterdir())


def use(c, name, rx, tx, meter=0, code=0):
    return c.event("USAGE", account=name, rx=rx, tx=tx, aux=meter, code=code)


def total(d, name):
    t = d.quota(name)
    return t.rx, t.tx


def restart(d, text):
    """Ends it, and starts it at another time."""
    d.term()
    d.faketime = "@" + text
    d.start()


def refused_code(d, server, *event):
    with d.reporter("sessions", server) as c:
        c.event(event[0], **event[1])
        return c.sync().get(1, 0)


# --- Days, by restart ---------------------------------------------------------

def check_days_by_restart(retention):
    config = TRUST + f"[store]\nretention-days = {retention}\n"
    start = ms(on_day(0, "10:00:00"))
    with Workspace() as w, Daemon(w.state, w.run, config, faketime="@" + on_day(0)) as d:
        d.report("nl-1", session("10.1.2.3", start, start + HOUR),
                 session("2001:db8::77", start, start + HOUR),
                 ("START", {"handle": 1, "start": start, "ip": "10.9.9.9"}))
        restart(d, on_day(1))
        later = ms(on_day(1, "09:00:00"))
        # Of a session over midnight the part on the day that is kept stays.
        d.report("nl-1", session("10.1.2.4", later, later + HOUR),
                 session("10.1.2.5", ms(on_day(0, "23:00:00")), later))
        restart(d, on_day(retention - 1))
        key = Keyring(w.state / "keyring").days[day_number(FIRST)]
        assert found(d, "10.1.2.3") == [(start, start + HOUR)]
        assert found(d, "2001:db8::77") == [(start, start + HOUR)]
        assert found(d, "10.9.9.9") == [(start, 0)]
        s = d.status()
        assert (s["days_held"], s["oldest_day"]) == (2, number(FIRST)), s
        assert f"{FIRST}.mdb" in day_files(w.state)

        restart(d, on_day(retention, "00:00:00"))
        assert found(d, "10.1.2.3") == [] and found(d, "2001:db8::77") == []
        midnight = ms(on_day(1, "00:00:00"))
        assert found(d, "10.9.9.9") == [(midnight, 0)]  # open ones are cut as the horizon moves
        assert found(d, "10.1.2.4") == [(later, later + HOUR)]
        assert found(d, "10.1.2.5") == [(midnight, later)]
        s = d.status()
        assert (s["days_held"], s["oldest_day"]) == (1, number(on_day(1))), s
        assert not [n for n in day_files(w.state) if FIRST in n], day_files(w.state)
        keyring = Keyring(w.state / "keyring")
        assert day_number(FIRST) not in keyring.days
        assert keyring.first_day == day_number(FIRST) + 1
        assert search(w.state, {"key": key}) == []
        assert refused_code(d, "nl-1", *session("10.1.2.3", start, start + HOUR)) == DAY_FORGOTTEN

        restart(d, on_day(retention + 1))
        assert found(d, "10.1.2.4") == [] and found(d, "10.1.2.5") == []
        s = d.status()
        # The open session waits for its end; there is no file and no day.
        assert (s["days_held"], s["oldest_day"]) == (0, 0), s
        assert day_files(w.state) == []


def test_after_90_days_a_look_up_finds_nothing_and_on_day_89_it_does():
    check_days_by_restart(90)


def test_retention_of_7_days():
    check_days_by_restart(7)


def test_retention_of_1_day():
    config = TRUST + "[store]\nretention-days = 1\n"
    start = ms(on_day(0, "10:00:00"))
    with Workspace() as w, Daemon(w.state, w.run, config, faketime="@" + on_day(0)) as d:
        d.report("nl-1", session("10.1.2.3", start, start + HOUR))
        restart(d, on_day(0, "23:59:00"))
        assert found(d, "10.1.2.3") == [(start, start + HOUR)]
        restart(d, on_day(1, "00:00:00"))
        assert found(d, "10.1.2.3") == []
        assert day_files(w.state) == []


def test_a_lower_retention_forgets_at_the_start_and_a_higher_one_brings_nothing_back():
    start = ms(on_day(0, "10:00:00"))
    with Workspace() as w, Daemon(w.state, w.run, TRUST, faketime="@" + on_day(0)) as d:
        d.report("nl-1", session("10.1.2.3", start, start + HOUR))
        restart(d, on_day(10))
        assert found(d, "10.1.2.3") == [(start, start + HOUR)]
        d.config = TRUST + "[store]\nretention-days = 10\n"
        restart(d, on_day(10))
        assert found(d, "10.1.2.3") == []
        assert day_files(w.state) == []
        d.config = TRUST
        restart(d, on_day(10))
        assert found(d, "10.1.2.3") == []
        assert refused_code(d, "nl-1", *session("10.1.2.3", start, start + HOUR)) == DAY_FORGOTTEN


def test_91_days_are_refused_with_a_clear_message():
    for value in ("91", "0", "-1", "90d", "900", "18446744073709551706"):
        with Workspace() as w:
            d = Daemon(w.state, w.run, f"[store]\nretention-days = {value}\n")
            for args in ([], ["-n"]):
                d.args = args
                d.spawn()
                assert d.wait() == 1, value
            lines = d.logs().splitlines()
            assert len(lines) == 2, lines
            for line in lines:
                for word in (str(d.config_path), "2", "retention-days", value, "90"):
                    assert word in line, (word, line)
            assert list(w.state.iterdir()) == []


# --- Days, live ---------------------------------------------------------------

def check_midnight_passes(monotonic, retention):
    """What was there at 23:59 is gone at 00:00: in files, in waiting rows, and open."""
    config = TRUST + f"[store]\nretention-days = {retention}\n"
    start, kept = ms(on_day(0, "10:00:00")), ms(on_day(1, "10:00:00"))
    last = retention - 1
    with Workspace() as w:
        clock = Clock(w, on_day(last, "20:00:00"), monotonic)
        with Daemon(w.state, w.run, config, env=clock.env) as d:
            d.report("nl-1", session("10.1.2.3", start, start + HOUR),
                     session("10.1.2.4", kept, kept + HOUR))
            d.term()  # now they are in files
            d.start()
            d.report("nl-1", session("10.1.2.5", start, start + HOUR),
                     ("START", {"handle": 1, "start": start, "ip": "10.9.9.9"}))
            key = Keyring(w.state / "keyring").days[day_number(FIRST)]
            assert search(w.state, {"key": key}), "the search must be able to find a key"
            assert found(d, "10.1.2.3") and found(d, "10.1.2.5") and found(d, "10.9.9.9")
            clock.set(on_day(last, "23:59:58"))
            time.sleep(1.0)
            assert found(d, "10.1.2.3") and found(d, "10.9.9.9") == [(start, 0)]
            midnight = ms(on_day(retention, "00:00:00"))
            late = 0
            with d.conn("lookup") as c:
                while clock.now_ms() < midnight + 1500:
                    asked = clock.now_ms()
                    answer, _ = c.lookup("10.1.2.0", length=120)
                    past = [r for r in answer if r.start < kept]
                    if past and asked >= midnight:
                        late = max(late, clock.now_ms() - midnight)
            assert late == 0, f"a forgotten row was given {late:.0f} ms after midnight"
            wait_for(lambda: not [n for n in day_files(w.state) if FIRST in n], what="the file's end")
            assert search(w.state, {"key": key}) == []
            assert found(d, "10.1.2.3") == [] and found(d, "10.1.2.5") == []
            assert found(d, "10.1.2.4") == [(kept, kept + HOUR)]
            assert found(d, "10.9.9.9") == [(ms(on_day(1, "00:00:00")), 0)]
            wait_for(lambda: (d.status()["days_held"], d.status()["oldest_day"])
                     == (1, number(on_day(1))), what="the metrics")
            wait_for(lambda: f"day {number(on_day(retention))} begins" in d.logs(), what="the line")
            # It goes on: the next day, too, without a restart.
            clock.set(on_day(retention, "23:59:59"))
            wait_for(lambda: d.status()["days_held"] == 0, what="the next midnight")
            assert found(d, "10.1.2.4") == [] and day_files(w.state) == []
            assert d.status()["stalled"] == 0
            d.report("nl-1", session("10.1.2.6", int(clock.now_ms()), int(clock.now_ms())))


def test_midnight_passes_while_it_runs():
    check_midnight_passes(monotonic=False, retention=90)


def test_midnight_passes_while_it_runs_and_the_monotonic_clock_jumps_too():
    check_midnight_passes(monotonic=True, retention=90)


def test_midnight_passes_with_a_retention_of_7_days():
    check_midnight_passes(monotonic=False, retention=7)


def test_a_destroyed_key_is_not_in_the_memory_of_the_process():
    if os.geteuid() != 0:
        skip("only root may look into the process")
    if sanitized():
        skip("a sanitizer keeps what was freed, and maps more memory than can be read")
    start = ms(on_day(0, "10:00:00"))
    with Workspace() as w:
        clock = Clock(w, on_day(89, "20:00:00"))
        with Daemon(w.state, w.run, TRUST, env=clock.env) as d:
            d.report("nl-1", session("10.1.2.3", start, start + HOUR))
            d.term()
            d.start()
            assert found(d, "10.1.2.3")
            key = {"key": Keyring(w.state / "keyring").days[day_number(FIRST)]}
            where = memory(d.pid, key)
            if where is None:
                skip("the process cannot be looked into here")
            assert where, "a living key must be found"
            clock.set(on_day(89, "23:59:59"))
            wait_for(lambda: day_files(w.state) == [], what="the file's end")
            wait_for(lambda: not memory(d.pid, key), 5, "the key's end in memory")


def knows_of(state, horizon):
    """Sessions in the journal, under a living key, that began before the horizon."""
    return [s for s in session_starts(state) if s[0] < horizon]


def test_at_midnight_nothing_under_a_living_key_knows_the_day_that_falls_out():
    start = ms(on_day(0, "10:00:00"))
    for reported in ("20:00:00", "22:30:00"):  # more and less than two hours before
        with Workspace() as w:
            clock = Clock(w, on_day(89, reported))
            with Daemon(w.state, w.run, TRUST, env=clock.env) as d:
                with d.reporter("sessions", "nl-1") as c:
                    whole = c.event("SESSION", start=start, end=start + HOUR, ip="10.1.2.3")
                    # What is not kept any more is not acknowledged as if it were.
                    assert c.sync() == ({} if reported < "22" else {whole: DAY_FORGOTTEN})
                d.report("nl-1", session("10.1.2.5", start, start + 30 * HOUR),
                         ("START", {"handle": 1, "start": start, "ip": "10.9.9.9"}),
                         ("START", {"handle": 2, "start": start, "ip": "10.9.9.8"}),
                         ("END", {"handle": 2, "end": start + 5}))
                horizon = ms(on_day(1, "00:00:00"))
                if reported < "22":
                    assert knows_of(w.state, horizon), "what is looked for must be findable"
                    assert found(d, "10.1.2.3") == [(start, start + HOUR)]
                else:
                    assert not knows_of(w.state, horizon)
                clock.set(on_day(90, "00:00:00"), plus=-1)
                wait_for(lambda: f"day {number(on_day(90))} begins" in d.logs(), what="the day")
                wait_for(lambda: not knows_of(w.state, horizon), 5, "the journal's forgetting")
                assert found(d, "10.9.9.9") == [(horizon, 0)]
                assert found(d, "10.1.2.5") == [(horizon, start + 30 * HOUR)]
                d.kill9()
                d.start()
                assert found(d, "10.9.9.9") == [(horizon, 0)]
                assert found(d, "10.1.2.5") == [(horizon, start + 30 * HOUR)]


def test_a_lower_retention_is_forgotten_in_the_journal_as_well_before_a_start_is_ready():
    with Workspace() as w, Daemon(w.state, w.run, TRUST, faketime="@" + on_day(20)) as d:
        start = ms(on_day(2))
        d.report("nl-1", session("10.1.2.3", start, start + HOUR),
                 ("START", {"handle": 1, "start": start, "ip": "10.9.9.9"}))
        d.kill9()  # all of it is in the journal
        horizon = ms(on_day(11, "00:00:00"))
        assert len(knows_of(w.state, horizon)) >= 2
        d.config = TRUST + "[store]\nretention-days = 10\n"
        d.start()
        assert knows_of(w.state, horizon) == []
        assert found(d, "10.1.2.3") == [] and found(d, "10.9.9.9") == [(horizon, 0)]
        d.kill9()
        d.config = TRUST
        d.start()
        assert found(d, "10.1.2.3") == [] and found(d, "10.9.9.9") == [(horizon, 0)]


# --- A copy -------------------------------------------------------------------

def copy_state(state, to):
    shutil.copytree(state, to)
    return to


def test_a_copy_of_day_89_cannot_be_read_with_the_keyring_of_day_91():
    start = ms(on_day(0, "10:00:00"))
    addresses = [f"10.1.2.{i}" for i in range(1, 51)]
    with Workspace() as w, Daemon(w.state, w.run, TRUST, faketime="@" + on_day(0)) as d:
        d.report("nl-1", *[session(ip, start, start + HOUR) for ip in addresses],
                 session("2001:db8::77", start, start + HOUR))
        restart(d, on_day(1))
        d.report("nl-1", session("10.1.3.1", ms(on_day(1)) - HOUR, ms(on_day(1))))
        restart(d, on_day(89))
        assert len(d.lookup(server="nl-1")[0]) == len(addresses) + 2
        d.report("nl-1", session("10.1.2.99", start, start + HOUR))  # waiting, in the journal only
        with d.reporter("usage", "nl-1") as c:
            use(c, "alice", 1000, 2000)
            c.sync()
        d.kill9()  # and a copy as it is at any moment
        copy = copy_state(w.state, w.path / "copy")
        old = Keyring(copy / "keyring")
        d.faketime = "@" + on_day(91)
        d.start()
        assert d.lookup(server="nl-1")[0] == []
        d.term()
        new = Keyring(w.state / "keyring")
        assert new.newest_day == day_number(on_day(91)) and new.store == old.store

        # A daemon with the newer keyring serves nothing of it, whatever day it has.
        for faketime in (on_day(91), on_day(89), on_day(0)):
            target = copy_state(copy, w.path / "with-new-keyring")
            shutil.copy(w.state / "keyring", target / "keyring")
            check_not_served(w, target, faketime, addresses)
            # Nor do the day files alone, in a state that is otherwise in order.
            shutil.rmtree(target)
            copy_state(w.state, target)
            for path in (copy / "days").iterdir():
                shutil.copy(path, target / "days" / path.name)
            check_not_served(w, target, faketime, addresses)
            shutil.rmtree(target)

        # Without the daemon: no key of the newer keyring opens any block of that day.
        path = copy / "days" / f"{FIRST}.mdb"
        sealed = day_blocks(path, old.store, day_number(FIRST))
        assert len(sealed) >= 5, sealed  # manifest, servers, index and rows of both families
        assert openable(sealed, [old.days[day_number(FIRST)]]) == len(sealed)
        plain = [unseal(old.days[day_number(FIRST)], *b) for b in sealed]
        packed = [ip_bytes(ip)[12:] for ip in addresses]
        assert any(packed[0] in p for p in plain), "the old key must find what the new ones must not"
        assert openable(sealed, new.sealing_keys()) == 0
        for key in new.sealing_keys():
            for _, block in sealed:
                assert sum(p in decrypt(key, block) for p in packed) == 0

        # The journals of that day are as closed.
        for file, name in ((FILE_SESSIONS, "sessions.mdb"), (FILE_USAGE, "usage.mdb")):
            book = 0 if file == FILE_SESSIONS else 1
            inside = journal_blocks(copy / name, old.store, file)
            living = [b[1:] for b in inside if b[0] in old.journals[book]]
            assert openable(living, old.journals[book].values()) == len(living) > 0
            assert openable([b[1:] for b in inside], new.sealing_keys()) == 0
            assert not set(old.journals[book].values()) & set(new.keys().values())


def check_not_served(w, state, faketime, addresses):
    run = w.path / "other-run"
    run.mkdir(mode=0o700, exist_ok=True)
    d = Daemon(state, run, TRUST, faketime="@" + faketime)
    try:
        d.start()
    except AssertionError:
        assert d.process.returncode == 1, d.logs()  # refused, with a line
        assert d.logs().strip()
        return
    try:
        for ip in (addresses[0], addresses[-1], "10.1.2.99", "2001:db8::77", "10.1.3.1"):
            assert found(d, ip) == [], (faketime, ip)
        assert d.lookup()[0] == []
    finally:
        d.term()
        d.log_path.unlink()


# --- The raw disk -------------------------------------------------------------

def row_needles(ip, start_of_day_ms):
    """A planted session in the forms that it could have in the clear, long enough not to be chance."""
    full = ip_bytes(ip)
    needles = {f"{ip} mapped": full, f"{ip} reversed": full[::-1], f"{ip} text": ip.encode()}
    if full[:12] == b"\0" * 10 + b"\xff\xff":
        row = full[12:] + b"\0\0" + start_of_day_ms.to_bytes(4, "little")
        needles[f"{ip} row"] = row
    return needles


def test_destroyed_keys_and_rows_are_nowhere_in_the_raw_image():
    start = ms(on_day(0, "10:00:00"))
    planted = ["203.0.113.77", "198.51.100.14", "2001:db8:aaaa:bbbb::1234:5678"]
    with Workspace() as w, Volume(w) as volume:
        state = volume.path / "state"
        state.mkdir(mode=0o700)
        d = Daemon(state, w.run, TRUST, faketime="@" + on_day(0))
        with d:
            d.report("nl-canary-01", *[session(ip, start, start + HOUR) for ip in planted])
            d.report("nl-1", *[session(f"10.0.{i // 250}.{i % 250}", start + i, start + HOUR)
                               for i in range(5000)])
            with d.reporter("usage", "nl-canary-01") as c:
                use(c, "alice", 1000, 2000, meter=77, code=USAGE_FIRST)
                c.sync()
            assert d.status()["keyring_weak"] == 0
            seen = {}

            def remember():
                keyring = Keyring(state / "keyring")
                for name, key in keyring.keys().items():
                    seen.setdefault(key, f"{name} of {day_text(keyring.newest_day)}")
                return keyring

            remember()
            # Through a whole life: other days come and go, some by kill -9, runs are merged.
            for n in (1, 30, 60, 89):
                if n == 30:
                    d.kill9()
                else:
                    d.term()
                d.faketime = "@" + on_day(n)
                d.start()
                remember()
                d.report("nl-1", session("10.77.0.1", ms(on_day(n)) - 1000, ms(on_day(n))))
            assert found(d, planted[0]) == [(start, start + HOUR)]
            d.term()
            before = remember()
            volume.unmount()
            # The search finds what is there: every living key, in both slots.
            image = volume.image.read_bytes()
            for name, key in before.keys().items():
                assert image.count(key) == 2, (name, image.count(key))
            volume.mount()
            d.faketime = "@" + on_day(91)
            d.start()
            assert found(d, planted[0]) == []
            d.term()
            after = remember()
            assert search(state, {"key": before.days[day_number(FIRST)]}) == []
            volume.unmount()
        living = set(after.keys().values())
        dead = {name: key for key, name in seen.items() if key not in living}
        assert before.days[day_number(FIRST)] in dead.values()
        assert len(dead) > 10, dead.keys()
        for ip in planted:
            dead |= row_needles(ip, 10 * HOUR)
        dead |= {"server": b"nl-canary-01", "account": b"alice"}
        left = search(volume.image, dead)
        assert left == [], left


# --- The month ----------------------------------------------------------------

def test_the_months_turn_leaves_nothing_of_the_old_totals_on_the_disk():
    with Workspace() as w, Volume(w) as volume:
        state = volume.path / "state"
        state.mkdir(mode=0o700)
        with Daemon(state, w.run, TRUST, faketime="@2026-11-30 22:00:00") as d:
            with d.reporter("usage", "nl-1", stream=8) as c:
                for i in range(300):
                    use(c, f"account-{i}", 1000 + i, 2000, meter=i + 1, code=USAGE_FIRST)
                c.sync()
            assert total(d, "account-7") == (1007, 2000)
            d.kill9()
            old = Keyring(state / "keyring")
            copy = (state / "usage.mdb").read_bytes()
            d.faketime = "@2026-12-01 00:00:00"
            d.start()
            for i in (0, 7, 299):
                assert total(d, f"account-{i}") == (0, 0)
            assert d.quota("account-7").month == 202612
            with d.reporter("usage", "nl-1", stream=8) as c:
                assert c.welcome.seq == 300
                use(c, "account-7", 1107, 2200, meter=8)  # a meter across the turn: the difference
                c.sync()
            assert total(d, "account-7") == (100, 200)
            new = Keyring(state / "keyring")
            assert list(new.months) == [202612]
            d.term()
            # The meter key before lives for 7 days of running time, and no longer than 14.
            assert set(old.meters) < set(new.meters)
            d.faketime = "@2026-12-14 23:00:00"
            d.start()
            with d.reporter("usage", "nl-1", stream=8) as c:
                assert c.welcome.seq == 301
                use(c, "account-8", 1208, 2300, meter=9)
                c.sync()
            assert total(d, "account-8") == (200, 300)
            d.term()
            d.faketime = "@2026-12-15 01:00:00"
            d.start()
            assert total(d, "account-7") == (100, 200)
            wait_for(lambda: not set(old.meters) & set(Keyring(state / "keyring").meters),
                     what="the old meter key's end")
            d.term()
            (w.path / "usage-copy.mdb").write_bytes(copy)
            inside = [b[1:] for b in journal_blocks(w.path / "usage-copy.mdb", old.store, FILE_USAGE)]
            assert openable(inside, old.journals[1].values()) >= 4
            assert openable(inside, new.sealing_keys()) == 0
            volume.unmount()
        dead = {f"month {m}": k for m, k in old.months.items()}
        dead |= {f"usage {e}": k for e, k in old.journals[1].items()}
        dead |= {f"meters {g}": k for g, k in old.meters.items()}
        assert len(dead) >= 3
        left = search(volume.image, dead)
        assert left == [], left


def check_month_turns_live(monotonic):
    with Workspace() as w:
        clock = Clock(w, "2026-11-30 21:00:00", monotonic)
        with Daemon(w.state, w.run, TRUST, env=clock.env) as d:
            c = d.reporter("usage", "nl-1", stream=8)
            use(c, "alice", 1000, 2000, meter=1, code=USAGE_FIRST)
            use(c, "bob", 10, 20)
            c.sync()
            old = Keyring(w.state / "keyring")
            clock.set("2026-11-30 23:59:58")
            turn = ms("2026-12-01")
            while clock.now_ms() < turn + 1500:
                asked = clock.now_ms()
                answer = d.quota("bob")
                if asked >= turn:
                    assert (answer.rx, answer.tx, answer.month) == (0, 0, 202612), answer
                elif clock.now_ms() < turn:
                    assert (answer.rx, answer.tx, answer.month) == (10, 20, 202611), answer
            wait_for(lambda: d.status()["month_turns_total"] == 1, what="the turn")
            use(c, "alice", 1100, 2200, meter=1)
            use(c, "bob", 1, 2)
            c.sync()
            assert total(d, "alice") == (100, 200) and total(d, "bob") == (1, 2)
            gone = {f"month {m}": k for m, k in old.months.items()}
            gone |= {f"usage {e}": k for e, k in old.journals[1].items()}
            assert search(w.state, gone) == []
            totals = {int.from_bytes(e[17:25], "little") for e in effects(w.state, 1) if e[0] == 7}
            assert totals and totals <= {0, 100, 1}, totals
            d.kill9()
            d.start()
            assert total(d, "alice") == (100, 200) and total(d, "bob") == (1, 2)
            c.close()


def test_the_month_turns_while_it_runs():
    check_month_turns_live(monotonic=False)


def test_the_month_turns_while_it_runs_and_the_monotonic_clock_jumps_too():
    check_month_turns_live(monotonic=True)


# --- Crashes ------------------------------------------------------------------

def generation(state):
    """Of the newer slot, torn or not."""
    raw = (state / "keyring").read_bytes()
    return max(int.from_bytes(raw[16:24], "little"), int.from_bytes(raw[4112:4120], "little"))


def kill_around_midnight(d, clock, rng, midnight_ms):
    """Half the time anywhere around midnight, half right after the keyring was touched."""
    if rng.random() < 0.5:
        until = midnight_ms - 100 + rng.random() * 1400
        while clock.now_ms() < until:
            time.sleep(0.001)
    else:
        before, limit = generation(d.state), time.monotonic() + 5 * FACTOR
        while generation(d.state) == before and time.monotonic() < limit:
            pass
        time.sleep(rng.random() ** 3 * 0.05)
    d.kill9()


def test_a_crash_at_any_moment_around_midnight():
    """Forty midnights with SIGKILL, two of them a month's turn; afterwards nothing lives that should not."""
    rng = random.Random(SEED)
    config = TRUST + "[store]\nretention-days = 30\n"
    first = day_number("2026-11-01")
    with Workspace() as w:
        clock = Clock(w, f"{day_text(first + 29)} 12:00:00")
        d = Daemon(w.state, w.run, config, env=clock.env)
        with d:
            start = ms(day_text(first)) + 10 * HOUR
            d.report("nl-1", *[session(f"10.0.0.{i}", start + i * DAY, start + i * DAY + 1000)
                               for i in range(30)],
                     ("START", {"handle": 1, "start": start, "ip": "10.9.9.9"}))
            with d.reporter("usage", "nl-1", stream=5) as c:
                use(c, "alice", 1000, 2000, meter=1, code=USAGE_FIRST)
                c.sync()
            d.term()
            d.start()
            read = 1000  # of the meter
            month_total = 1000
            for i in range(40):
                today = first + 29 + i
                dying = first + i
                before = Keyring(w.state / "keyring")
                dead = before.days.get(dying)
                midnight = ms(day_text(today + 1))
                turns = day_text(today)[:7] != day_text(today + 1)[:7]
                clock.set(f"{day_text(today)} 23:59:59", plus=0.5)
                kill_around_midnight(d, clock, rng, midnight)
                what = f"seed {SEED}, midnight {i}"
                while clock.now_ms() <= midnight:
                    time.sleep(0.01)
                d.start()
                after = Keyring(w.state / "keyring")
                assert min(after.days, default=dying + 1) > dying, (what, sorted(after.days))
                assert after.first_day == dying + 1, what
                if dead:
                    assert search(w.state, {"key": dead}) == [], what
                assert not [n for n in day_files(w.state) if day_text(dying) in n], what
                if dying < first + 30:
                    assert found(d, f"10.0.0.{i}") == [], what
                for j in range(i + 1, 30):
                    at = start + j * DAY
                    assert found(d, f"10.0.0.{j}") == [(at, at + 1000)], (what, j)
                assert found(d, "10.9.9.9") == [(ms(day_text(dying + 1)), 0)], what
                assert knows_of(w.state, ms(day_text(dying + 1))) == [], what
                if turns:
                    month_total = 0
                    gone = {f"month {m}": k for m, k in before.months.items()}
                    gone |= {f"usage {e}": k for e, k in before.journals[1].items()}
                    assert search(w.state, gone) == [], what
                    assert len(after.months) == 1, what
                assert total(d, "alice") == (month_total, 2 * month_total), what
                with d.reporter("usage", "nl-1", stream=5) as c:
                    read, month_total = read + 7, month_total + 7
                    use(c, "alice", read, 2 * read, meter=1)
                    c.sync()


def test_a_crash_at_any_moment_of_the_months_turn():
    rng = random.Random(SEED + 1)
    with Workspace() as w:
        clock = Clock(w, "2026-01-31 12:00:00")
        d = Daemon(w.state, w.run, TRUST, env=clock.env)
        months = [(2026 + m // 12, m % 12 + 1) for m in range(1, 25)]
        with d:
            with d.reporter("usage", "nl-1", stream=5) as c:
                for i in range(2000):
                    use(c, f"account-{i}", 10, 20, meter=i + 1, code=USAGE_FIRST)
                c.sync()
            read, in_month = 10, 10
            for year, month in months:
                turn = ms(f"{year}-{month:02}-01")
                before = Keyring(w.state / "keyring")
                clock.set(day_text(turn // DAY - 1) + " 23:59:59", plus=0.5)
                kill_around_midnight(d, clock, rng, turn)
                while clock.now_ms() <= turn:
                    time.sleep(0.01)
                what = f"seed {SEED}, {year}-{month}"
                d.start()
                after = Keyring(w.state / "keyring")
                assert list(after.months) == [year * 100 + month], what
                gone = {f"month {m}": k for m, k in before.months.items()}
                gone |= {f"usage {e}": k for e, k in before.journals[1].items()}
                assert search(w.state, gone) == [], what
                in_month = 0
                assert total(d, "account-9") == (in_month, 2 * in_month), what
                with d.reporter("usage", "nl-1", stream=5) as c:
                    read, in_month = read + 3, in_month + 3
                    for i in range(2000):
                        use(c, f"account-{i}", read, 2 * read, meter=i + 1)
                    c.sync()
                for i in (0, 9, 1999):
                    assert total(d, f"account-{i}") == (in_month, 2 * in_month), (what, i)


# --- The clock ----------------------------------------------------------------

def held(d):
    s = d.status()
    return s["clock_held"], s["stalled"]


def not_answered(d):
    """HELLO gets no answer while the clock is held."""
    with d.conn("sessions") as c:
        try:
            c.timeout = 1.0
            c.hello("nl-1")
        except Timeout:
            return True
    return False


def secrets(state):
    return Keyring(state / "keyring").keys()


class At:
    """A daemon that is started at a time: with at("2026-..."): ...; the kernel vouches for it or not."""

    def __init__(self, w, d):
        self.w, self.d = w, d

    def __call__(self, text, vouched=False):
        self.d.env = Clock(self.w, text, vouched=vouched).env
        return self.d


@contextlib.contextmanager
def store_with_a_past(config=KERNEL):
    """A store that has forgotten day 0 and keeps days 2 to 91; the daemon is down."""
    with Workspace() as w:
        d = Daemon(w.state, w.run, TRUST)
        d.env = Clock(w, on_day(91)).env
        with d:
            t = ms(on_day(2))
            d.report("nl-1", session("10.1.2.3", t, t + 1000),
                     session("10.1.2.4", ms(on_day(90)), ms(on_day(90)) + 1000))
            with d.reporter("usage", "nl-1") as c:
                use(c, "alice", 1000, 2000)
                c.sync()
        d.config = config
        yield w, At(w, d)


def check_held(text, vouched=False):
    """Started at a time that does not fit: nothing goes on and nothing is destroyed."""
    with store_with_a_past() as (w, at):
        keys, files = secrets(w.state), day_files(w.state)
        with at(text, vouched) as d:
            assert held(d) == (1, 1), d.status()
            assert not_answered(d)
            assert "held" in d.logs()
            assert d.status()["days_held"] == 2
            time.sleep(1.2)  # a tick at the least
        assert secrets(w.state) == keys, text
        assert day_files(w.state) == files
        # Back at its time everything is as it was.
        with at(on_day(91, "13:00:00")) as d:
            assert held(d) == (0, 0)
            assert found(d, "10.1.2.3") and found(d, "10.1.2.4")
            assert total(d, "alice") == (1000, 2000)
            d.report("nl-1", session("10.1.2.5", ms(on_day(91)), ms(on_day(91)) + 1))


def test_a_clock_that_went_back_is_held_whoever_vouches_for_it():
    for vouched in (False, True):
        check_held(on_day(91 - 365), vouched)
        check_held(on_day(90), vouched)


def test_a_clock_that_starts_in_1970_is_held():
    check_held("1970-01-01 00:00:10")


def test_a_clock_that_went_forward_ten_years_is_held():
    check_held(on_day(91 + 3653))


def test_two_days_ahead_are_held_and_one_is_not():
    check_held(on_day(93))
    with store_with_a_past() as (w, at), at(on_day(92)) as d:
        assert held(d) == (0, 0)
        assert found(d, "10.1.2.3") == []
        assert f"{on_day(2)[:10]}.mdb" not in day_files(w.state)


def test_a_clock_that_went_forward_is_believed_when_the_kernel_vouches_for_it():
    with store_with_a_past() as (w, at), at(on_day(91 + 3653), vouched=True) as d:
        assert held(d) == (0, 0)
        assert found(d, "10.1.2.3") == [] and day_files(w.state) == []
        assert total(d, "alice") == (0, 0)
        t = ms(on_day(91 + 3653))
        d.report("nl-1", session("10.1.2.5", t, t))


def test_a_clock_that_jumps_while_it_runs_is_held_and_goes_on_when_it_fits():
    with Workspace() as w:
        clock = Clock(w, on_day(91))
        with Daemon(w.state, w.run, KERNEL, env=clock.env) as d:
            t = ms(on_day(2))
            d.report("nl-1", session("10.1.2.3", t, t + 1000))
            d.term()
            d.start()
            keys = secrets(w.state)
            for text in (on_day(91 - 365), on_day(91 + 3653), "1970-01-01 00:00:00", on_day(94)):
                clock.set(text)
                assert not_answered(d), text
                assert held(d) == (1, 1), text
                time.sleep(1.2)  # a tick at the least
                assert secrets(w.state).keys() >= {k for k in keys if k.startswith(("day", "month"))}
                clock.set(on_day(91, "12:10:00"))
                wait_for(lambda: held(d) == (0, 0), what="the clock to fit again")
                d.report("nl-1", session("10.1.2.4", t, t + 1000))
                assert found(d, "10.1.2.3")
            assert {k: v for k, v in secrets(w.state).items() if k.startswith(("day", "month"))} == {
                k: v for k, v in keys.items() if k.startswith(("day", "month"))}


def test_a_hold_ends_after_24_hours_of_the_time_since_boot_also_over_a_restart():
    with Workspace() as w:
        clock = Clock(w, on_day(91), monotonic=True)
        with Daemon(w.state, w.run, KERNEL, env=clock.env) as d:
            t = ms(on_day(2))
            d.report("nl-1", session("10.1.2.3", t, t + 1000))
            d.term()
            d.start()
            clock.set(on_day(200))
            wait_for(lambda: held(d) == (1, 1), what="the hold")
            time.sleep(1.5)
            clock.move(13 * 3600)
            wait_for(lambda: Keyring(w.state / "keyring").held_ms >= 13 * HOUR, what="13 hours kept")
            d.kill9()
            d.start()
            assert held(d) == (1, 1)
            assert day_files(w.state) != []
            time.sleep(1.5)
            clock.move(10 * 3600)
            wait_for(lambda: Keyring(w.state / "keyring").held_ms >= 23 * HOUR, what="23 hours kept")
            assert held(d) == (1, 1) and day_files(w.state) != []
            clock.move(3600)
            wait_for(lambda: held(d) == (0, 0), what="the end of the hold")
            wait_for(lambda: day_files(w.state) == [], what="the forgetting")
            assert found(d, "10.1.2.3") == []
            now = int(clock.now_ms())
            d.report("nl-1", session("10.1.2.4", now, now))


def test_a_hold_that_is_over_is_no_reason_to_believe_the_next_wrong_clock():
    with Workspace() as w:
        clock = Clock(w, on_day(91), monotonic=True)
        with Daemon(w.state, w.run, KERNEL, env=clock.env) as d:
            clock.set(on_day(100))
            wait_for(lambda: held(d) == (1, 1), what="the hold")
            time.sleep(1.5)
            clock.move(25 * 3600)
            wait_for(lambda: held(d) == (0, 0), what="the end of the hold")
            wait_for(lambda: Keyring(w.state / "keyring").held_ms == 0, what="nothing of it kept")
            t = ms(on_day(100))
            d.report("nl-1", session("10.1.2.3", t, t + 1000))
            d.term()
            for text in (on_day(110 + 3653), on_day(140)):
                d.env = Clock(w, text, vouched=False).env
                d.start()
                assert held(d) == (1, 1), text
                d.term()
            d.env = Clock(w, on_day(102), vouched=True).env
            d.start()
            assert held(d) == (0, 0) and found(d, "10.1.2.3")


def test_time_spent_behind_does_not_count_for_a_clock_that_is_ahead_after_a_restart():
    with store_with_a_past() as (w, _):
        clock = Clock(w, "2000-01-01 00:00:00", monotonic=True)
        with Daemon(w.state, w.run, KERNEL, env=clock.env) as d:
            assert held(d) == (1, 1)
            time.sleep(1.2)
            clock.move(25 * 3600)
            wait_for(lambda: Keyring(w.state / "keyring").held_ms <= -24 * HOUR, what="a day behind kept")
            d.term()
            files = day_files(w.state)
            d.env = Clock(w, on_day(91 + 400), vouched=False).env
            d.start()
            assert held(d) == (1, 1)
            time.sleep(1.2)
            assert day_files(w.state) == files != []


def test_short_runs_of_a_held_clock_add_up():
    with store_with_a_past() as (w, _):
        clock = Clock(w, on_day(200), monotonic=True)
        with Daemon(w.state, w.run, KERNEL, env=clock.env) as d:
            for minutes in (9, 18, 27):
                assert held(d) == (1, 1)
                time.sleep(1.2)  # a tick at the least
                clock.move(9 * 60)
                time.sleep(1.2)
                d.term()
                assert Keyring(w.state / "keyring").held_ms >= minutes * 60000
                d.start()


def test_what_was_over_when_a_held_clock_started_is_forgotten_when_it_fits():
    with store_with_a_past("[clock]\ntrust = kernel\n[store]\nretention-days = 10\n") as (w, _):
        clock = Clock(w, on_day(90))
        with Daemon(w.state, w.run, "[clock]\ntrust = kernel\n[store]\nretention-days = 10\n",
                    env=clock.env) as d:
            assert held(d) == (1, 1)
            old, new = (f"{on_day(n)[:10]}.mdb" for n in (2, 90))
            assert {old, new} <= set(day_files(w.state))
            clock.set(on_day(91, "12:10:00"))
            wait_for(lambda: held(d) == (0, 0), what="the clock to fit")
            wait_for(lambda: old not in day_files(w.state), what="what ten days do not hold")
            assert new in day_files(w.state)
            assert not any(day < Keyring(w.state / "keyring").newest_day - 9
                           for day in Keyring(w.state / "keyring").days)


def test_a_hold_ends_at_once_when_the_kernel_vouches():
    with Workspace() as w:
        clock = Clock(w, on_day(91))
        with Daemon(w.state, w.run, KERNEL, env=clock.env) as d:
            t = ms(on_day(2))
            d.report("nl-1", session("10.1.2.3", t, t + 1000))
            d.term()
            d.start()
            clock.set(on_day(300))
            waiting = d.conn("sessions")
            waiting.send(Frame("HELLO", server="nl-1"))
            wait_for(lambda: held(d) == (1, 1), what="the hold")
            time.sleep(1.2)
            assert day_files(w.state) != []
            clock.vouch(True)
            wait_for(lambda: day_files(w.state) == [], what="the forgetting")
            assert waiting.recv().name == "WELCOME"  # what waited is answered now
            assert held(d) == (0, 0) and found(d, "10.1.2.3") == []
            waiting.close()


def test_look_ups_hide_the_older_days_while_the_clock_is_ahead():
    with store_with_a_past() as (_, at), at(on_day(110)) as d:
        # Held; day 2 would be forgotten, day 90 would not.
        assert held(d) == (1, 1)
        assert found(d, "10.1.2.3") == []
        assert found(d, "10.1.2.4") == [(ms(on_day(90)), ms(on_day(90)) + 1000)]


def test_trust_always_takes_the_clock_as_it_is_and_a_forgotten_day_does_not_come_back():
    with store_with_a_past(TRUST) as (w, at):
        with at(on_day(91 - 365)) as d:  # a year back: it goes on; what was forgotten stays so
            assert held(d) == (0, 0)
            t = ms(on_day(91 - 365))
            assert refused_code(d, "nl-1", *session("10.5.5.5", t - HOUR, t)) == DAY_FORGOTTEN
            assert found(d, "10.5.5.5") == []
            assert d.status()["days_held"] == 2
        with at(on_day(91 + 3653)) as d:  # ten years on: all is over
            assert held(d) == (0, 0)
            assert found(d, "10.1.2.3") == [] and found(d, "10.1.2.4") == []
            assert day_files(w.state) == [] and total(d, "alice") == (0, 0)
            t = ms(on_day(91 + 3653))
            d.report("nl-1", session("10.5.5.6", t - HOUR, t))
        with at(on_day(92)) as d:  # and back: nothing returns, by no road
            assert held(d) == (0, 0)
            t = ms(on_day(92))
            assert refused_code(d, "nl-1", *session("10.5.5.5", t - HOUR, t)) == DAY_FORGOTTEN
            assert found(d, "10.1.2.3") == [] and found(d, "10.5.5.5") == []
            assert total(d, "alice") == (0, 0)
        at.d.config = KERNEL  # with the kernel's trust the same clock is held
        with at(on_day(92)) as d:
            assert held(d) == (1, 1)


def test_trust_always_in_1970():
    with store_with_a_past(TRUST) as (w, at):
        keys = {k: v for k, v in secrets(w.state).items() if k.startswith(("day", "month"))}
        with at("1970-01-01 00:00:10") as d:
            assert held(d) == (0, 0)
            assert refused_code(d, "nl-1", *session("10.5.5.5", 0, 1)) == DAY_FORGOTTEN
            time.sleep(1.2)
        assert keys == {k: v for k, v in secrets(w.state).items() if k.startswith(("day", "month"))}
        with at(on_day(91)) as d:
            assert found(d, "10.1.2.3") and total(d, "alice") == (1000, 2000)


def test_a_new_store_in_1970_lives_until_the_clock_is_right():
    with Workspace() as w:
        clock = Clock(w, "1970-01-01 00:00:10")
        with Daemon(w.state, w.run, TRUST, env=clock.env) as d:
            d.report("nl-1", session("10.5.5.5", 0, 1))
            assert found(d, "10.5.5.5") == [(0, 1)]
            clock.set(on_day(0))
            wait_for(lambda: d.status()["newest_day"] == number(on_day(0)), what="the right day")
            wait_for(lambda: found(d, "10.5.5.5") == [], what="1970's end")
            t = ms(on_day(0))
            d.report("nl-1", session("10.5.5.6", t, t))
            d.kill9()
            d.start()
            assert found(d, "10.5.5.6") == [(t, t)] and found(d, "10.5.5.5") == []


# --- Journal keys -------------------------------------------------------------

def fast(w, text, rate):
    """A daemon whose clocks and time-outs all run many times as fast as real ones."""
    env = faketime_env(f"@{text} x{rate:g}")
    del env["FAKETIME_DONT_FAKE_MONOTONIC"]
    return Daemon(w.state, w.run, TRUST, env=env)


def check_journal_keys(traffic, open_session=True, rounds=2):
    """Keys die about an hour (usage: some minutes) after they were made, and what lay under them."""
    with Workspace() as w:
        with fast(w, on_day(0), 300 / FACTOR) as d:
            t = ms(on_day(0)) - HOUR
            d.report("nl-1", session("10.1.2.4", t, t + 1))
            if open_session:
                d.report("nl-1", ("START", {"handle": 0xABCDEF, "start": t, "ip": "10.1.2.3"}))
            with d.reporter("usage", "nl-1") as c:
                use(c, "alice", 10, 20, meter=3, code=USAGE_FIRST)
                c.sync()
            keyring = w.state / "keyring"
            first = Keyring(keyring)
            copies = {}
            for name in ("sessions.mdb", "usage.mdb"):
                copies[name] = w.path / name
                shutil.copy(w.state / name, copies[name])
            ages, seen = [[], []], [set(), set()]

            def renewed(rounds):
                def look():
                    with contextlib.suppress(AssertionError):  # read while it is written
                        k = Keyring(keyring)
                        for book in range(2):
                            seen[book] |= set(k.journals[book])
                    s = d.status()
                    for book, name in enumerate(("sessions", "usage")):
                        ages[book].append(s[f"{name}_key_age_seconds"])
                        assert s[f"{name}_key_late"] == 0, s
                    if traffic:
                        with d.reporter("usage", "nl-1") as c:
                            use(c, "alice", 1, 1)
                            c.sync()
                        d.report("nl-1", ("ALIVE", {"handle": 0xABCDEF, "at": t + 1}))
                    return all(len(epochs) > rounds for epochs in seen)
                return look

            wait_for(renewed(rounds), 120, "renewals")  # of each, and the first key's end
            wait_for(lambda: not any(set(first.journals[b]) & set(Keyring(keyring).journals[b])
                                     for b in range(2)), 60, "the first keys' end")
            old = {f"{b} {e}": k for b in range(2) for e, k in first.journals[b].items()}
            assert search(w.state, old) == []
            # An hour to be renewed, half an hour's pass, and the waiting rows' ten minutes.
            assert max(ages[0]) <= 3600 * 2.2, max(ages[0])
            assert max(ages[1]) <= 600 * 2.2 + 300, max(ages[1])
            new = Keyring(keyring)
            for (name, copy), file, book in zip(copies.items(), (FILE_SESSIONS, FILE_USAGE), (0, 1)):
                inside = [b[1:] for b in journal_blocks(copy, first.store, file)]
                assert openable(inside, first.journals[book].values()) == len(inside) > 0
                assert openable(inside, new.sealing_keys()) == 0, name
                # The live file keeps no block that the old key would open within the tree.
                assert new.store == first.store
            assert found(d, "10.1.2.3") == ([(t, 0)] if open_session else [])
            assert found(d, "10.1.2.4") == [(t, t + 1)]
            if not traffic:
                assert total(d, "alice") == (10, 20)


def test_journal_keys_die_in_an_idle_daemon():
    check_journal_keys(traffic=False)


def test_journal_keys_die_in_an_idle_daemon_with_nothing_open():
    # The third key can be made only when the first that followed on nothing has died.
    check_journal_keys(traffic=False, open_session=False, rounds=3)


def test_journal_keys_die_under_traffic():
    check_journal_keys(traffic=True)


def test_a_late_journal_key_is_replaced_before_a_start_is_ready():
    """Stopped for a week and killed: the start finishes what should have happened."""
    with Workspace() as w, Daemon(w.state, w.run, TRUST, faketime="@" + on_day(0)) as d:
        t = ms(on_day(0)) - HOUR
        d.report("nl-1", ("START", {"handle": 1, "start": t, "ip": "10.1.2.3"}),
                 session("10.1.2.4", t, t + 1))
        first = Keyring(w.state / "keyring")
        d.kill9()
        d.faketime = "@" + on_day(7)
        d.start()
        new = Keyring(w.state / "keyring")
        dead = {f"sessions {e}": k for e, k in first.journals[0].items()}
        assert search(w.state, dead) == [], (first.journals[0].keys(), new.journals[0].keys())
        assert found(d, "10.1.2.3") == [(t, 0)] and found(d, "10.1.2.4") == [(t, t + 1)]


def test_the_forensics_find_what_they_look_for():
    """A search that finds nothing proves nothing unless it finds what is planted."""
    with Workspace() as w, Daemon(w.state, w.run, TRUST, faketime="@" + on_day(0)) as d:
        t = ms(on_day(0)) - HOUR
        d.report("nl-1", session("10.1.2.3", t, t + 1))
        d.term()
        keyring = Keyring(w.state / "keyring")
        assert set(search(w.state, keyring.keys())) >= {
            (str(w.state / "keyring"), name) for name in keyring.keys()}
        path = w.state / "days" / f"{FIRST}.mdb"
        sealed = day_blocks(path, keyring.store, day_number(FIRST))
        rows = [unseal(keyring.days[day_number(FIRST)], *b) for b in sealed]
        assert all(r is not None for r in rows)
        assert any(ip_bytes("10.1.2.3")[12:] in r for r in rows)
        assert [decrypt(keyring.days[day_number(FIRST)], b) for _, b in sealed] == rows
        where, block = sealed[0]
        assert unseal(keyring.days[day_number(FIRST)], where[:-1] + b"\x7f", block) is None
        assert len(blocks(path)) >= len(sealed)
        (w.state / "planted").write_bytes(b"x" * 5000 + keyring.days[day_number(FIRST)])
        assert (str(w.state / "planted"), "k") in search(
            w.state, {"k": keyring.days[day_number(FIRST)]})


if __name__ == "__main__":
    main()
