#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""State that cannot be: another version, damaged, incomplete, open to others, in use.

Each start ends with one clear line and exit status 1, and the data stays byte
by byte as it was; put right, the same state starts and has everything.  What
can be served without what is damaged is served.

Every choice comes from one seed, which a failure prints and NOLOGD_SEED sets.
"""

import collections
import hashlib
import os
import pathlib
import random
import shutil
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from badstart import AS_NOBODY, differences, reachable, refused_start, refused_unchanged, snapshot  # noqa: E402
from nolog import (Daemon, Workspace, ip_text, main, now_ms, skip, wait_for,  # noqa: E402
                   DONE_UNREADABLE, RECORD_OPEN, USAGE_FIRST)

SEED = int(os.environ.get("NOLOGD_SEED", random.SystemRandom().getrandbits(32)))
HOUR = 3600 * 1000
DAY = 24 * HOUR
CONFIG = "[usage]\ntick = 50ms\n"
SLOT = 4096
DATA = ("sessions.mdb", "usage.mdb")
NOBODY = 65534


class Store:
    """A store with something in everything: three days, open sessions, totals, meters, streams."""

    made = None

    def __init__(self):
        self.workspace = Workspace()
        w = self.workspace
        self.daemon = Daemon(w.state, w.run, CONFIG)
        today = now_ms() // DAY * DAY
        self.expected = collections.Counter()
        events = []
        for i in range(300):
            start = today - (1 + i % 3) * DAY + i
            events.append(("SESSION", {"start": start, "end": start + HOUR, "ip": f"10.{i % 3}.0.{i % 250}"}))
            self.expected[f"10.{i % 3}.0.{i % 250}", start, start + HOUR, 0] += 1
        for i in range(20):
            events.append(("START", {"handle": i, "start": today - DAY + i, "ip": f"fd00::{i + 1:x}"}))
            self.expected[f"fd00::{i + 1:x}", today - DAY + i, 0, RECORD_OPEN] += 1
        self.days = [(today - n * DAY) // DAY for n in (1, 2, 3)]
        self.day_files = sorted(w.state / "days" / f"{date(d)}.mdb" for d in self.days)
        with self.daemon as d:
            d.report("nl-1", *events, stream=5)
            d.report("nl-1", ("USAGE", {"account": "alice", "rx": 10, "tx": 20}),
                     ("USAGE", {"account": "bob", "rx": 1, "tx": 2, "aux": 9, "code": USAGE_FIRST}), stream=5)
        self.good = w.path / "good"
        shutil.copytree(w.state, self.good, symlinks=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.daemon.process.poll() is None:
            self.daemon.kill9()
        self.workspace.remove()

    @property
    def state(self):
        return self.workspace.state

    def restore(self):
        shutil.rmtree(self.state)
        shutil.copytree(self.good, self.state, symlinks=True)
        self.state.chmod(0o700)
        self.daemon.config = CONFIG

    def found(self):
        records, done = self.daemon.lookup()
        return collections.Counter((ip_text(r.ip), r.start, r.end, r.code) for r in records), done.code

    def check(self):
        """It starts, and everything is there."""
        with self.daemon as d:
            got, code = self.found()
            assert (got, code) == (self.expected, 0), (code, self.expected - got, got - self.expected)
            for name, total in (("alice", (10, 20)), ("bob", (1, 2))):
                t = d.quota(name)
                assert (t.rx, t.tx) == total, t
            with d.conn("sessions") as c, d.conn("usage") as u:
                assert (c.hello("nl-1", 5).seq, u.hello("nl-1", 5).seq) == (320, 2)

    def refused(self, *words):
        """A start fails, and everything is as it was; so is it again."""
        for _ in range(2):
            before = snapshot(self.state)
            line = refused_start(self.daemon, *words)
            changed = differences(before, snapshot(self.state))
            assert changed == [], (changed, line)
        assert list(self.workspace.run.iterdir()) == [], "sockets are left behind"
        return line


    def refused_or_whole(self, path, data):
        """With this damage it does not start and changes nothing, or it has everything; true: refused."""
        self.daemon.spawn()
        try:
            self.daemon.wait_ready()
        except AssertionError:
            assert self.daemon.wait() == 1, self.daemon.logs()[-500:]
            assert path.read_bytes() == data
            refused = True
        else:
            self.daemon.kill9()
            self.check()
            refused = False
        self.restore()
        return refused


def date(day):
    import datetime
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


def slots(path):
    raw = path.read_bytes()
    assert len(raw) == 2 * SLOT
    return [bytearray(raw[:SLOT]), bytearray(raw[SLOT:])]


def digest(slot):
    """Makes a slot whole again after a change: all versions have their digest there."""
    slot[-32:] = hashlib.blake2b(bytes(slot[:-32]), digest_size=32).digest()
    return slot


def overwrite(path, data):
    """In place, as damage is: the file keeps its inode and mode."""
    with open(path, "r+b") as f:
        f.truncate(len(data))
        f.write(data)


def seeded(test):
    def run():
        try:
            test(random.Random(f"{SEED} {test.__name__}"))
        except BaseException:
            print(f"# NOLOGD_SEED={SEED}", flush=True)
            raise
    run.__name__ = test.__name__
    return run


# --- Versions and keyrings ----------------------------------------------------

def test_another_format_version_is_told_and_nothing_is_touched():
    with Store() as s:
        keyring = s.state / "keyring"
        for which in ((0, 1), (0,), (1,)):
            both = slots(keyring)
            for n in which:
                struct.pack_into("<I", both[n], 8, 2)
                digest(both[n])
            overwrite(keyring, b"".join(both))
            s.refused("keyring", "another format version")
            s.restore()
        for book, name in enumerate(DATA):
            record = struct.pack("<III", 1, 0xFFFFFFFE, book)
            raw = (s.state / name).read_bytes()
            assert record in raw
            overwrite(s.state / name, raw.replace(record, struct.pack("<III", 2, 0xFFFFFFFD, book)))
            s.refused(name, "another format version")
            s.restore()
        s.check()


def test_data_without_its_keyring_is_not_given_a_new_one():
    with Store() as s:
        for keep in (("sessions.mdb", "usage.mdb", "days"), ("sessions.mdb",), ("usage.mdb",), ("days",)):
            (s.state / "keyring").unlink()
            for path in list(s.state.iterdir()):
                if path.name.split("-")[0] not in keep:
                    path.unlink() if path.is_file() else shutil.rmtree(path)
            s.refused("keyring", "missing")
            s.restore()
        s.check()


def test_a_missing_journal_is_not_begun_anew_beside_data():
    with Store() as s:
        for name in DATA:
            (s.state / name).unlink()
            s.refused(name, "missing")
            s.restore()
        s.check()


def test_a_journal_older_than_the_days_is_refused():
    """What came after it is in the days' files; what comes next would be taken for that."""
    with Store() as s:
        journal = s.state / "sessions.mdb"
        old = journal.read_bytes()
        with s.daemon as d:
            for i in range(20):
                d.report("nl-2", ("SESSION", {"start": s.days[0] * DAY + i, "end": s.days[0] * DAY + i, "ip": "192.0.2.1"}))
        good = journal.read_bytes()
        overwrite(journal, old)
        s.refused("sessions.mdb", "older")
        overwrite(journal, good)
        with s.daemon as d:
            assert len(d.lookup("192.0.2.1")[0]) == 20


def test_one_damaged_slot_is_repaired_and_two_are_refused():
    with Store() as s:
        keyring = s.state / "keyring"
        zeros, ones = bytearray(SLOT), bytearray(b"\xff" * SLOT)
        for n in (0, 1):
            for kind in ("bit", "zeros", "ones", "version byte", "torn"):
                both = slots(keyring)
                if kind == "bit":
                    both[n][1000] ^= 4
                elif kind == "version byte":
                    both[n][8] ^= 0x10  # without a digest that agrees: damage, not a version
                elif kind == "torn":
                    both[n][2048:] = bytes(2048)
                else:
                    both[n] = zeros if kind == "zeros" else ones
                overwrite(keyring, b"".join(both))
                said = len(s.daemon.logs())
                s.check()
                assert "a damaged slot was written again" in s.daemon.logs()[said:], kind
                both = slots(keyring)
                assert both[0][24:] == digest(both[0])[24:] and both[1] == digest(both[1])
                said = len(s.daemon.logs())
                s.check()
                assert "damaged" not in s.daemon.logs()[said:]
        for first, second in ((zeros, zeros), (ones, zeros), (None, None)):
            both = slots(keyring)
            good = b"".join(both)
            for n, damage in enumerate((first, second)):
                if damage is None:
                    both[n][500] ^= 1
                else:
                    both[n] = damage
            overwrite(keyring, b"".join(both))
            s.refused("keyring", "damaged in both slots")
            overwrite(keyring, good)
        s.check()


@seeded
def test_a_keyring_that_is_none(rng):
    with Store() as s:
        keyring = s.state / "keyring"
        good = keyring.read_bytes()
        for data in (b"", good[:SLOT], good[:-1], good + b"\0", b"\n", rng.randbytes(2 * SLOT), bytes(2 * SLOT),
                     good * 100):
            overwrite(keyring, data)
            s.refused("keyring", "damaged")
        for mode in (0o640, 0o604, 0o666):
            s.restore()
            keyring.chmod(mode)
            s.refused("keyring", "open to others")
        keyring.chmod(0o600)
        os.link(keyring, s.state / "second-name")
        s.refused("keyring", "second name")
        (s.state / "second-name").unlink()
        keyring.rename(s.workspace.path / "elsewhere")
        keyring.symlink_to(s.workspace.path / "elsewhere")
        s.refused("keyring", "not a plain file")
        keyring.unlink()
        keyring.symlink_to(s.workspace.path / "nowhere")
        s.refused("keyring", "not a plain file")
        keyring.unlink()
        os.mkfifo(keyring, 0o600)
        s.refused("keyring", "not a plain file")
        keyring.unlink()
        keyring.mkdir()
        s.refused("keyring", "not a plain file")
        keyring.rmdir()
        (s.workspace.path / "elsewhere").rename(keyring)
        s.check()


def test_the_keyring_of_another_store_opens_nothing():
    with Store() as s, Workspace() as other:
        with Daemon(other.state, other.run, CONFIG) as d:
            d.report("nl-1", ("SESSION", {"start": now_ms(), "end": now_ms(), "ip": "10.0.0.1"}))
        shutil.copy(other.state / "keyring", s.state / "keyring")
        s.refused(".mdb")
        s.restore()
        s.check()


def test_a_keyring_apart_from_its_store_serves_one_nologd_at_a_time():
    with Store() as s, Workspace() as other:
        keyring = s.workspace.path / "elsewhere" / "keyring"
        keyring.parent.mkdir(mode=0o700)
        (s.state / "keyring").rename(keyring)
        s.refused("keyring", "missing")
        s.daemon.config = CONFIG + f"[store]\nkeyring = {keyring}\n"
        s.check()
        assert not (s.state / "keyring").exists()
        with s.daemon:
            refused_unchanged(Daemon(other.state, other.run, s.daemon.config), "keyring", "in use")


# --- In use, and open to others -----------------------------------------------

def test_a_second_nologd_on_the_same_state_ends_and_the_first_goes_on():
    with Store() as s, Workspace() as other:
        with s.daemon as first:
            c = first.reporter("sessions", "nl-2")
            for run in (other.run, s.workspace.run):
                second = Daemon(s.state, run, CONFIG)
                second.log_path = other.path / "second.log"
                second.config_path = other.path / "second.conf"
                refused_start(second, str(s.state), "in use by another nologd")
                c.event("SESSION", start=now_ms() - 200 * DAY, end=now_ms() - 199 * DAY, ip="10.9.9.9")
                assert list(c.sync().values())[-1] == 21
            # Another state, but the same sockets.
            second = Daemon(other.state, s.workspace.run, CONFIG)
            second.log_path, second.config_path = other.path / "second.log", other.path / "second.conf"
            refused_unchanged(second, "another nologd listens there")
            for role in ("sessions", "usage", "lookup", "quota", "admin"):
                first.conn(role).close()
            c.close()
        s.check()


def test_a_state_directory_that_is_open_to_others_is_refused():
    with Store() as s:
        for mode in (0o755, 0o777, 0o701, 0o710, 0o1777, 0o720, 0o704):
            s.state.chmod(mode)
            s.refused(str(s.state), "open to others", f"{mode:04o}", "0700")
        s.state.chmod(0o700)
        s.check()


def test_a_state_directory_that_is_none():
    with Store() as s:
        d, w = s.daemon, s.workspace
        real = w.path / "real"
        s.state.rename(real)
        before = snapshot(real)

        def refused(*words):
            refused_start(d, *words)
            assert differences(before, snapshot(real)) == []
            assert list(w.run.iterdir()) == []

        s.state.write_text("a file")
        refused(str(s.state), "Not a directory")
        s.state.unlink()
        s.state.symlink_to(real)
        refused(str(s.state))
        s.state.unlink()
        s.state.symlink_to(w.path / "nowhere")
        refused(str(s.state))
        s.state.unlink()
        d.state = w.path / "no" / "parent"
        refused(str(d.state), "No such file or directory")
        assert not (w.path / "no").exists()
        d.state = s.state
        real.rename(s.state)
        s.check()


def test_state_of_another_user_or_that_cannot_be_written():
    if os.geteuid() != 0:
        skip("only root can be another user")
    with Store() as s:
        w = s.workspace
        reachable(w)
        os.chown(w.run, NOBODY, NOBODY)
        os.chown(s.state, NOBODY, NOBODY)
        s.refused(str(s.state), "another user")
        os.chown(s.state, 0, 0)
        s.daemon.config = CONFIG + "[store]\nuser = nobody\n"
        s.refused(str(s.state), "another user")
        # As nobody from the beginning.
        nobody = Daemon(s.state, w.run, CONFIG, wrapper=AS_NOBODY)
        nobody.log_path, nobody.config_path = w.path / "nobody.log", w.path / "nobody.conf"
        refused_unchanged(nobody, str(s.state))
        s.daemon.config = CONFIG
        s.check()

        def give(path, uid):
            for p in [path, *path.rglob("*")]:
                os.chown(p, uid, uid)

        for left in w.run.iterdir():  # without capabilities, root cannot remove them here
            left.unlink()
        give(s.state, NOBODY)
        os.chown(w.run, NOBODY, NOBODY)
        for locked in (s.state, s.state / "keyring", s.state / "sessions.mdb", s.state / "usage.mdb"):
            mode = locked.stat().st_mode & 0o7777
            locked.chmod(mode & ~0o222)
            before = snapshot(s.state)
            if locked == s.state:  # a new lock file or a new day has no place; what is there may be served
                nobody.spawn()
                if nobody.process.poll() is None:
                    wait_for(lambda: nobody.process.poll() is not None or "nologd: ready" in nobody.logs(),
                             what="an end or a start")
                if nobody.process.poll() is None:
                    nobody.term()
            else:
                refused_start(nobody, locked.name)
                assert set(differences(before, snapshot(s.state))) <= {"keyring"}
            locked.chmod(mode)
        missing = Daemon(pathlib.Path("/nologd-cannot-be-made"), w.run, CONFIG, wrapper=AS_NOBODY)
        refused_start(missing, "/nologd-cannot-be-made", "Permission denied")
        # Dropped from root to the configured user, it works, and what it makes is his.
        s.daemon.config = CONFIG + "[store]\nuser = nobody\n"
        s.check()
        assert (s.state / "keyring").stat().st_uid == NOBODY


# --- Damaged data -------------------------------------------------------------

@seeded
def test_damaged_journals_are_refused_and_stay_as_they_were(rng):
    with Store() as s:
        for name in DATA:
            path = s.state / name
            good = path.read_bytes()
            used = len(good.rstrip(b"\0"))
            garbage = rng.randbytes(65536)
            for data in (b"", b"\0", good[:100], good[:4096], good[:8192], bytes(len(good)), garbage,
                         garbage[:4096], good[:4096] + garbage, good[:8192] + rng.randbytes(len(good) - 8192),
                         b"text\n" * 1000):
                overwrite(path, data)
                s.refused(name)
            # Cut anywhere: refused, or what is missing was free.
            for _ in range(12):
                data = good[:rng.randrange(8192, used)]
                overwrite(path, data)
                s.refused_or_whole(path, data)
            overwrite(path, good)
            s.check()
        # One for the other.
        a, b = (s.state / n for n in DATA)
        one, two = a.read_bytes(), b.read_bytes()
        overwrite(a, two)
        overwrite(b, one)
        s.refused(".mdb")
        overwrite(a, one)
        overwrite(b, two)
        s.check()


@seeded
def test_bits_that_fall_over_in_a_journal_lose_nothing_in_silence(rng):
    """Refused, or what was flipped was not in use: then everything is there."""
    with Store() as s:
        refused = 0
        for round_ in range(60):
            path = s.state / DATA[round_ % 2]
            good = bytearray(path.read_bytes())
            used = len(bytes(good).rstrip(b"\0"))
            for _ in range(rng.choice([1, 1, 8])):
                good[rng.randrange(used)] ^= 1 << rng.randrange(8)
            overwrite(path, bytes(good))
            refused += s.refused_or_whole(path, bytes(good))
        s.check()
        assert refused > 5, refused


@seeded
def test_a_damaged_day_is_told_and_the_others_are_served(rng):
    with Store() as s:
        for path in s.day_files[:2]:
            good = path.read_bytes()
            tail = rng.randbytes(len(good) - 4096)
            for data in (b"", good[:4096], bytes(len(good)), rng.randbytes(len(good)),
                         good[:4096] + tail, good[:3 * 4096], b"text\n" * 999):
                overwrite(path, data)
                self_check_damaged(s, path, data)
            overwrite(path, good)
            s.check()


def self_check_damaged(s, path, data):
    said = len(s.daemon.logs())
    with s.daemon as d:
        got, code = s.found()
        day = path.name[:10]
        # Rows of the damaged day may be missing (the log may still have them), no others.
        expected = collections.Counter({k: v for k, v in s.expected.items()
                                        if k[3] or date(k[1] // DAY) != day})
        assert code == DONE_UNREADABLE, (path.name, code)
        assert not expected - got and not got - s.expected, (path.name, expected - got, got - s.expected)
        # Nothing to be asked of that day: nothing is unreadable.
        for other in s.days:
            if date(other) != day:
                _, done = d.lookup(from_=other * DAY + 2 * HOUR, to=other * DAY + 3 * HOUR)
                assert done.code == 0, (path.name, date(other))
        d.report("nl-9", ("SESSION", {"start": now_ms() - 5, "end": now_ms() - 5, "ip": "192.0.2.1"}))
        assert len(d.lookup("192.0.2.1", from_=now_ms() - 1000)[0]) == 1
        assert d.status()["unreadable_total"] > 0
    assert path.name in s.daemon.logs()[said:], s.daemon.logs()[said:]
    assert where_it_is(path).read_bytes() == data, "a damaged file was changed"
    s.restore()


def where_it_is(path):
    """A damaged file is set aside when the log still has rows of its day."""
    aside = path.with_suffix(".damaged")
    return aside if os.path.lexists(aside) else path


def test_symlinks_and_other_things_instead_of_files():
    with Store() as s:
        away = s.workspace.path / "away"
        away.mkdir(mode=0o700)
        for name in DATA:
            path = s.state / name
            path.rename(away / name)
            for make in (lambda p=path, n=name: p.symlink_to(away / n),
                         lambda p=path: p.symlink_to(away / "nowhere"),
                         lambda p=path: os.mkfifo(p, 0o600), lambda p=path: p.mkdir(0o700)):
                make()
                before = snapshot(away)
                s.refused(name)
                assert differences(before, snapshot(away)) == []
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            (away / name).rename(path)
            s.check()
        days = s.state / "days"
        days.rename(away / "days")
        for make in (lambda: days.symlink_to(away / "days"), lambda: days.write_text(""),
                     lambda: days.symlink_to(away / "nowhere")):
            make()
            before = snapshot(away)
            s.refused("days")
            assert differences(before, snapshot(away)) == []
            days.unlink()
        (away / "days").rename(days)
        s.check()
        # A day's file that is a link is not followed; the others are served.
        path = s.day_files[0]
        path.rename(away / path.name)
        path.symlink_to(away / path.name)
        before = (away / path.name).read_bytes()
        with s.daemon as d:
            _, code = s.found()
            assert code == DONE_UNREADABLE
            assert d.status()["stalled"] == 0
        assert (away / path.name).read_bytes() == before and where_it_is(path).is_symlink()


def test_strangers_among_the_days_are_not_removed():
    with Store() as s:
        for name in ("notes.txt", "2026-13-01.mdb", "x"):
            stranger = s.state / "days" / name
            stranger.write_text("mine")
            s.refused("days/" + name)
            stranger.unlink()
        s.check()


def test_a_days_file_without_its_key_is_refused():
    with Store() as s:
        today = now_ms() // DAY
        shutil.copy(s.day_files[0], s.state / "days" / f"{date(today - 20)}.mdb")
        s.refused(date(today - 20), "key")
        s.restore()
        # Two days' files that changed places open nothing, and harm nothing.
        a, b = s.day_files[:2]
        one, two = a.read_bytes(), b.read_bytes()
        overwrite(a, two)
        overwrite(b, one)
        s.daemon.start()
        got, code = s.found()
        s.daemon.kill9()
        assert code == DONE_UNREADABLE and not got - s.expected, (code, got - s.expected)
        assert (a.read_bytes(), b.read_bytes()) == (two, one)
        s.restore()
        s.check()


# --- The run directory ---------------------------------------------------------

def test_what_is_no_socket_is_not_replaced_and_what_is_stale_is():
    with Store() as s:
        run = s.workspace.run
        for name in ("sessions.sock", "admin.sock"):
            path = run / name
            path.write_text("precious")
            refused_unchanged(s.daemon, str(run), "sockets cannot be made")
            assert path.read_text() == "precious" and [p.name for p in run.iterdir()] == [name]
            path.unlink()
            path.mkdir()
            refused_unchanged(s.daemon, str(run))
            path.rmdir()
            for target in (s.state / "keyring", run / "nowhere"):
                path.symlink_to(target)
                refused_unchanged(s.daemon, str(run))
                assert path.is_symlink()
                path.unlink()
        # Left by a crash, by another program, or in part.
        for name in ("sessions.sock", "usage.sock", "lookup.sock"):
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(str(run / name))
        s.check()
        assert list(run.iterdir()) == []
        s.daemon.start()
        s.daemon.kill9()
        assert len(list(run.iterdir())) == 5
        s.check()
        shutil.rmtree(run)
        s.check()
        assert run.stat().st_mode & 0o777 == 0o755
        run.rmdir()
        run.write_text("precious")
        refused_unchanged(s.daemon, str(run))
        assert run.read_text() == "precious"


def test_a_run_directory_with_too_long_a_name():
    with Store() as s:
        base = str(s.workspace.path) + "/"
        for length, fine in ((93, True), (94, False), (108, False), (300, False)):
            run = pathlib.Path(base + "r" * (length - len(base)))
            d = Daemon(s.state, run, CONFIG)
            d.log_path, d.config_path = s.workspace.path / "log", s.workspace.path / "conf"
            if fine:
                d.start()
                d.term()
            else:
                line = refused_unchanged(d, "too long", "93")
                assert "directory" in line and not run.exists() if length < 255 else True


if __name__ == "__main__":
    main()
