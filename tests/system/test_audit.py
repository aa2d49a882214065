#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
# tests/run: timeout=600
"""nologctl audit: what a start would refuse, and what lies where nothing may, is found;
what a daemon leaves, alive or killed, is not."""

import hashlib
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from badstart import refused_unchanged  # noqa: E402
from forensics import Keyring, day_number, ms  # noqa: E402
from nolog import FACTOR, Daemon, Workspace, ctl, faketime_env, main, now_ms, program  # noqa: E402

FAST = "[usage]\ntick = 50ms\n"
TEXT = b"10.8.0.2 alice was here\n"


def session(ip="10.8.0.2", start=None, end=None):
    t = now_ms()
    return ("SESSION", {"start": t - 2000 if start is None else start, "end": t - 1000 if end is None else end, "ip": ip})


def filled(w, config=FAST):
    """A store with something in all its files, at rest."""
    with Daemon(w.state, w.run, config) as d:
        for i in range(5):
            d.report("nl-1", session(f"10.8.0.{i}"))
        d.report("nl-1", ("START", {"handle": 1, "start": now_ms() - 1000, "ip": "10.9.0.1"}))
        d.report("nl-1", ("USAGE", {"account": "alice", "rx": 1, "tx": 2}))
    return d


def audit(state, *args, expect=None, **kwargs):
    """{(file, finding)}, the notes alike, and the last object."""
    *said, last = ctl("audit", "--state", state, *args, json_=True, expect=expect, **kwargs).json
    found = {(o["file"], o["finding"]) for o in said if "finding" in o}
    notes = {(o["file"], o["note"]) for o in said if "note" in o}
    assert last["findings"] == len([o for o in said if "finding" in o]) and last["sound"] == (not found), (said, last)
    assert last["notes"] == len(notes), (notes, last)
    return found, notes, last


def sound(state, *args, **kwargs):
    found, notes, last = audit(state, *args, expect=0, **kwargs)
    assert not found
    return notes, last


def unsound(state, *files, words="", args=(), text=False):
    """Findings of these files and no others, each with the words; text: also as a person reads them."""
    found, _, _ = audit(state, *args, expect=1)
    assert {f for f, _ in found} == set(files), (files, found)
    assert all(words in what for _, what in found), (words, found)
    if not text:
        return
    said = ctl("audit", "--state", state, *args, expect=1).out
    assert all(f"finding: {f}" in said for f in files) and "NOT sound" in said, said


# --- The journal and the days ----------------------------------------------------

def test_a_journal_older_than_the_days_is_found_as_a_start_refuses_it():
    with Workspace() as w:
        d = filled(w)
        sound(w.state)
        old = (w.state / "sessions.mdb").read_bytes()
        with d:
            for i in range(20):
                d.report("nl-1", session(f"10.10.0.{i}"))
        sound(w.state)
        (w.state / "sessions.mdb").write_bytes(old)
        refused_unchanged(d, "sessions.mdb", "older than the days")
        unsound(w.state, "sessions.mdb", words="older than the days", text=True)


def test_a_day_s_file_that_is_older_or_missing_is_found_and_stays_said():
    today = time.strftime("%Y-%m-%d", time.gmtime(now_ms() / 1000 - 1))
    name = f"days/{today}.mdb"
    for take_away in (False, True):
        with Workspace() as w:
            d = filled(w)
            old = (w.state / name).read_bytes()
            with d:
                d.report("nl-1", session("10.10.0.1"))
            sound(w.state)
            if take_away:
                (w.state / name).unlink()
            else:
                (w.state / name).write_bytes(old)
            unsound(w.state, name, words="lost", text=True)
            with d:  # it says so, serves what there is, and says so to whoever asks
                assert ("missing" if take_away else "older") in d.logs()
                records, done = d.lookup("10.8.0.3")
                assert (len(records), done.code) == (1, 1)  # from the journal, too
                d.report("nl-1", session("10.10.0.2"))
                assert d.lookup("10.10.0.2")[1].code == 1
            unsound(w.state, name, words="may be lost")
            with d:
                records, done = d.lookup("10.10.0.2")
                assert (len(records), done.code) == (1, 1)


def test_a_store_under_load_is_sound_all_the_while():
    """With days that are written, merged and rewritten at every stop, and journals that are cut."""
    with Workspace() as w:
        now = now_ms() // 1000
        lines = "".join(f"session --ip 10.{i >> 16}.{i >> 8 & 255}.{i & 255} --from @{now - 90000 - i % 900} --to @{now - i % 80000}\n"
                        for i in range(200000))
        path = w.file("events", lines)
        with Daemon(w.state, w.run, FAST) as d:
            for _ in range(2):
                with open(path, "rb") as events:
                    run = subprocess.Popen([program("nologctl"), "--run", w.run, "report", "--server", "nl-1"], stdin=events)
                while run.poll() is None:
                    sound(w.state)
                assert run.returncode == 0
            sound(w.state)
        sound(w.state)


def test_a_daemon_that_is_killed_leaves_a_sound_store():
    with Workspace() as w:
        d = Daemon(w.state, w.run, FAST)
        now = now_ms() // 1000
        path = w.file("events", "".join(
            f"session --ip 10.{i >> 16}.{i >> 8 & 255}.{i & 255} --from @{now - 3000} --to @{now - i % 2000}\n"
            f"usage a{i} 1 1\n" for i in range(400000)))
        for pause in (0.05, 0.2, 0.4, 0.8, 1.1):
            d.start()
            with open(path, "rb") as events:
                run = subprocess.Popen([program("nologctl"), "--run", w.run, "report", "--server", "nl-1"], stdin=events,
                                       stderr=subprocess.DEVNULL)
            time.sleep(pause * FACTOR)
            d.kill9()
            run.kill()
            run.wait()
            sound(w.state)


# --- A day that has a key and no file ----------------------------------------------

def unmark(keyring):
    """Takes out of a keyring how often the days' files had been written (keyslot.c)."""
    raw = keyring.read_bytes()
    slots = [raw[:3696] + bytes(368), raw[4096:4096 + 3696] + bytes(368)]
    keyring.write_bytes(b"".join(s + hashlib.blake2b(s, digest_size=32).digest() for s in slots))


def killed_before_the_days_file(w):
    """As after a SIGKILL between the making of a day's key and its file: the journal has its rows."""
    d = Daemon(w.state, w.run, FAST).start()
    d.report("nl-1", session())
    before = (w.state / "sessions.mdb").read_bytes()
    d.term()
    days = sorted((w.state / "days").iterdir())
    (file,) = [p for p in days if p.suffix == ".mdb"]
    for p in days:
        p.unlink()
    (w.state / "sessions.mdb").write_bytes(before)
    unmark(w.state / "keyring")
    return d, file


def test_a_key_without_a_file_is_a_note_while_its_sessions_are_in_the_journal():
    with Workspace() as w:
        d, file = killed_before_the_days_file(w)
        notes, _ = sound(w.state)
        assert {f for f, _ in notes} == {f"days/{file.name}"} and "journal" in str(notes), notes
        assert f"note: days/{file.name}: has a key" in ctl("audit", "--state", w.state, expect=0).out
        with d:
            assert d.lookup("10.8.0.2")[0]
        assert not sound(w.state)[0]


def test_a_key_without_a_file_and_without_its_sessions_is_a_finding():
    with Workspace() as w:
        d = Daemon(w.state, w.run, FAST).start()
        before = (w.state / "sessions.mdb").read_bytes()
        d.report("nl-1", session())
        d.term()
        (name,) = [p.name for p in (w.state / "days").glob("*.mdb")]
        for p in (w.state / "days").iterdir():
            p.unlink()
        (w.state / "sessions.mdb").write_bytes(before)
        unsound(w.state, f"days/{name}", words="is missing: what is not in the journal")
        unmark(w.state / "keyring")
        unsound(w.state, f"days/{name}", words="is missing: the keyring has its key")


# --- Bounds ------------------------------------------------------------------------

def test_what_is_measured_is_the_retention_that_was_kept():
    """A day that a lower retention has forgotten does not come back unseen."""
    with Workspace() as w:
        d = Daemon(w.state, w.run, FAST + "[store]\nretention-days = 90\n[clock]\ntrust = always\n",
                   faketime="@2026-11-02 12:00:00")
        with d:
            d.report("nl-1", ("SESSION", {"start": ms("2026-11-02 10:00:00"), "end": ms("2026-11-02 11:00:00"), "ip": "10.8.0.2"}))
        old = (w.state / "days" / "2026-11-02.mdb").read_bytes()
        d.faketime = "@2026-11-22 12:00:00"
        env = faketime_env("@2026-11-22 12:00:00")
        d.config = d.config.replace("= 90", "= 7")
        with d:
            pass
        assert Keyring(w.state / "keyring").first_day == day_number("2026-11-16")
        _, last = sound(w.state, env=env)
        assert last["horizon"] == "2026-11-16", last
        (w.state / "days" / "2026-11-02.mdb").write_bytes(old)
        os.chmod(w.state / "days" / "2026-11-02.mdb", 0o600)
        found, _, _ = audit(w.state, env=env, expect=1)
        assert found == {("days/2026-11-02.mdb", "a day before the horizon has a file")}, found


# --- A keyring elsewhere -----------------------------------------------------------

def test_a_keyring_that_lies_elsewhere_is_named():
    with Workspace() as w:
        ring = w.path / "ring"
        ring.mkdir(mode=0o700)
        d = filled(w, f"{FAST}[store]\nkeyring = {ring}/k\n")
        unsound(w.state, "keyring", words="--keyring", text=True)
        _, last = sound(w.state, "--keyring", ring / "k")
        assert last["days"]["records"] == 5 and last["keyring"]["files"] == 1, last
        with d:
            sound(w.state, "--keyring", ring / "k")
        result = ctl("audit", "--state", w.state, "--keyring", ring / "none", expect=2)
        assert f"{ring}/none: " in result.err and "No such file" in result.err, result
        # Another one beside it is nobody's.
        shutil.copy(ring / "k", w.state / "keyring")
        os.chmod(w.state / "keyring", 0o600)
        unsound(w.state, "keyring", words="elsewhere", args=("--keyring", ring / "k"))
        # The same one by its name is no other.
        sound(w.state, "--keyring", w.state / "keyring")
        os.chmod(ring / "k", 0o640)
        (w.state / "keyring").unlink()
        unsound(w.state, "keyring", args=("--keyring", ring / "k"))


# --- Files ------------------------------------------------------------------------

def put_back(path, data):
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)


def test_empty_files_and_other_things_in_their_place_are_findings():
    with Workspace() as w:
        filled(w)
        (day,) = (w.state / "days").glob("*.mdb")
        for path in (w.state / "sessions.mdb", w.state / "usage.mdb", day, w.state / "keyring"):
            name, data = str(path.relative_to(w.state)), path.read_bytes()
            path.write_bytes(b"")
            unsound(w.state, name)
            path.unlink()
            path.symlink_to(w.file("elsewhere", ""))
            unsound(w.state, name)
            path.unlink()
            if name == "sessions.mdb":
                os.mkfifo(path, 0o600)
                unsound(w.state, name)
                path.unlink()
            if name == "usage.mdb":
                path.mkdir(mode=0o700)
                unsound(w.state, name)
                path.rmdir()
            put_back(path, data)
            sound(w.state)
        days = w.state / "days"
        days.rename(w.path / "days")
        days.symlink_to(w.path / "days")
        unsound(w.state, "days")
        days.unlink()
        days.write_text("")
        days.chmod(0o600)
        unsound(w.state, "days")
        days.unlink()
        (w.path / "days").rename(days)
        sound(w.state)


def append(path, data):
    with open(path, "ab") as f:
        f.write(data)


def last_page(path):
    """The last page that LMDB uses."""
    data = path.read_bytes()[:8192]
    metas = [struct.unpack_from("<QQ", data, at + 16 + 24 + 96) for at in (0, 4096)]
    return max(metas, key=lambda m: m[1])[0]


def test_text_where_nothing_may_be_is_found():
    with Workspace() as w:
        filled(w)
        (day,) = (w.state / "days").glob("*.mdb")
        files = [w.state / "sessions.mdb", w.state / "usage.mdb", day]
        for path in files:
            name, data = str(path.relative_to(w.state)), path.read_bytes()
            behind = (last_page(path) + 1) * 4096
            assert behind < len(data) and not any(data[behind:]), (name, behind, len(data))
            append(path, TEXT)
            unsound(w.state, name, words="behind its last used page")
            put_back(path, data)
            for at in (behind, behind + 100, len(data) - len(TEXT)) if path is day else (behind + 5000,):
                put_back(path, data[:at] + TEXT + data[at + len(TEXT):])
                unsound(w.state, name, words="behind its last used page")
            put_back(path, data)
            # LMDB makes a lock file new that nobody has open: it is seen once.
            lock = path.with_name(path.name + "-lock")
            name, data = name + "-lock", lock.read_bytes()
            assert len(data) == 4096
            texts = [data + b"x", TEXT + data[len(TEXT):], data[:-len(TEXT)] + TEXT, data[:104] + TEXT[:24] + data[128:],
                     data[:2000]]
            for text in texts if path is day else texts[:1]:
                put_back(lock, text)
                unsound(w.state, name, words="no lock file")
            for text in (b"", bytes(100), bytes(4096)):  # begun, and cut off
                put_back(lock, text)
                sound(w.state)
            put_back(lock, data)
        sound(w.state)


def test_pages_of_a_commit_that_was_cut_off_are_none():
    """LMDB writes pages, and then says that they are used: a crash in between leaves them."""
    with Workspace() as w:
        d = filled(w)
        path = w.state / "sessions.mdb"
        data = bytearray(path.read_bytes())
        at = last_page(path) + 1
        for kind, content in ((1, b"\xa5"), (2, b"\x5a"), (4, b"\xff")):
            data[at * 4096:(at + 1) * 4096] = struct.pack("<QHHI", at, 0, kind, 1) + content * 4080
            at += 1
        # A free list of two pages.
        words = [700, *range(3000, 2300, -1)]
        raw = struct.pack("<QHHI", at, 0, 4, 2) + struct.pack(f"<{len(words)}Q", *words)
        data[at * 4096:at * 4096 + len(raw)] = raw
        put_back(path, bytes(data))
        sound(w.state)
        with d:
            sound(w.state)
            assert d.lookup("10.8.0.1")[0]
        sound(w.state)


def test_what_is_left_of_making_a_journal_is_found_unless_a_nologd_is_there():
    with Workspace() as w:
        d = filled(w)
        for name in ("sessions.mdb.new", "usage.mdb.new"):
            path = w.state / name
            put_back(path, TEXT)
            unsound(w.state, name, words="left over")
            path.unlink()
        with d:
            put_back(w.state / "usage.mdb.new", b"")
            sound(w.state)
            d.signal(signal.SIGCONT)
        unsound(w.state, "usage.mdb.new", words="left over")


if __name__ == "__main__":
    main()
