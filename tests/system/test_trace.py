#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""No link, no trace: canaries through every road into the daemon, and a search of all it leaves behind.

tests/run: timeout=600
"""

import base64
import ipaddress
import os
import pathlib
import pwd
import random
import re
import stat
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from forensics import (FILE_SESSIONS, FILE_USAGE, Keyring, day_blocks, day_number,  # noqa: E402
                       journal_blocks, search, unseal)
from nolog import (BUILD, FRAMES, Closed, Daemon, Frame, Refused, Workspace,  # noqa: E402
                   account, ip_bytes, main, now_ms, sanitized, skip, traces, wait_for, USAGE_FIRST, USAGE_LAST)

HOUR = 3600 * 1000
FAST = "[usage]\ntick = 50ms\n"
ROLES = ("sessions", "usage", "lookup", "quota", "admin")
RNG = random.SystemRandom()
SHORT = 5  # bytes: shorter needles stand by chance somewhere in some MiB of sealed blocks


# --- Canaries -----------------------------------------------------------------

def pack_server(server):
    """The 11 bytes of a server ID on disk: two halves of 8 letters, 43 bits each."""
    letters = "\0abcdefghijklmnopqrstuvwxyz0123456789.-"
    padded = server.ljust(16, "\0")
    low, high = (sum(letters.index(c) * 39**i for i, c in enumerate(half))
                 for half in (padded[:8], padded[8:]))
    return (low | high << 43).to_bytes(11, "little")


def number_forms(value, size):
    raw = value.to_bytes(size, "little")
    return {"little-endian": raw, "big-endian": raw[::-1], "decimal": str(value).encode(),
            "hex": f"{value:x}".encode(), "HEX": f"{value:X}".encode()}


def address_forms(text):
    ip = ipaddress.ip_address(text)
    full = ip_bytes(text)
    forms = traces(text) | {"hex": ip.packed.hex().encode(), "HEX": ip.packed.hex().upper().encode(),
                            "16 bytes": full, "16 bytes reversed": full[::-1]}
    if ip.version == 4:
        forms["::ffff: text"] = f"::ffff:{ip}".encode()
        forms["decimal"] = str(int(ip)).encode()
        forms["reverse name"] = ip.reverse_pointer.encode()
    else:
        words = struct.unpack(">8H", ip.packed)
        forms["words reversed"] = struct.pack("<8H", *words)
        forms["upper case"] = str(ip).upper().encode()
        forms["interface half"] = ip.packed[8:]
    return forms


def account_forms(name):
    tag = account(name)
    # A hash that was cut to a table's or a tag's size is one as well.
    return traces(name) | {
        "account hex upper": tag.hex().upper().encode(), "first 16": tag[:16], "last 16": tag[16:],
        "first 8": tag[:8], "first 8 reversed": tag[:8][::-1], "base64": base64.b64encode(tag)[:40],
        "capitals": name.upper().encode()}


def server_forms(server):
    return traces(server) | {"packed": pack_server(server), "packed reversed": pack_server(server)[::-1],
                             "capitals": server.upper().encode()}


class Canaries:
    """Values that occur nowhere else, and all the forms that they could take."""

    def __init__(self):
        self.v4 = [f"{RNG.randrange(11, 126)}.{RNG.randrange(100, 255)}.{RNG.randrange(100, 255)}."
                   f"{RNG.randrange(100, 255)}" for _ in range(6)]
        self.v6 = [str(ipaddress.IPv6Address(0x2001_0DB8 << 96 | RNG.getrandbits(96)))
                   for _ in range(4)]
        self.accounts = [f"canary-{RNG.getrandbits(40):010x}@example.org" for _ in range(4)]
        self.handles = [RNG.randrange(2**62, 2**64) for _ in range(4)]
        self.streams = [RNG.randrange(2**62, 2**64) for _ in range(4)]
        self.meters = [RNG.randrange(2**30, 2**32) for _ in range(4)]
        self.servers = [f"canary-{RNG.randrange(10**8):08}" for _ in range(3)]
        self.bytes = [RNG.randrange(2**55, 2**56) for _ in range(2)]
        self.values = [f"text-{RNG.getrandbits(80):020x}" for _ in range(2)]  # of no type: noise
        self.start = now_ms() - HOUR - RNG.randrange(HOUR)

    @property
    def ips(self):
        return self.v4 + self.v6

    def forms(self):
        """{(value, form): bytes}"""
        named = {}
        for values, of in ((self.ips, address_forms), (self.accounts, account_forms),
                           (self.servers, server_forms),
                           (self.handles + self.streams + self.bytes, lambda v: number_forms(v, 8)),
                           (self.meters, lambda v: number_forms(v, 4)),
                           (self.values, traces)):
            for value in values:
                named |= {(str(value), form): raw for form, raw in of(value).items()}
        named |= {("start", form): raw for form, raw in number_forms(self.start, 8).items()}
        named |= {("start", "6 bytes"): self.start.to_bytes(6, "little"),
                  ("start", "6 bytes reversed"): self.start.to_bytes(6, "big")}
        return named

    def look(self, where):
        """[(path, (value, form))] below a directory or in a file.

        Of the short forms one value alone may be chance, two are not.
        """
        forms = self.forms()
        hits = search(where, forms)
        if len({name[0] for _, name in hits if len(forms[name]) < SHORT}) < 2:
            hits = [(path, name) for path, name in hits if len(forms[name]) >= SHORT]
        return hits


def test_a_planted_canary_is_found_in_every_form():
    """A search that finds nothing proves nothing unless it finds what is planted."""
    c = Canaries()
    forms = c.forms()
    assert len(forms) > 300
    with Workspace() as w:
        for number, (name, raw) in enumerate(forms.items()):
            path = w.path / "file"
            path.write_bytes(os.urandom(3000 + number) + raw + os.urandom(10))
            assert name in [hit for _, hit in search(w.path, forms)], name
            if len(raw) >= SHORT:
                assert name in [hit for _, hit in c.look(w.path)], name
        # Short forms are reported as soon as there are two.
        path.write_bytes(os.urandom(100) + ip_bytes(c.v4[0])[12:] + b"--" + ip_bytes(c.v4[1])[12:][::-1])
        assert {hit for _, hit in c.look(w.path)} >= {(c.v4[0], "packed"), (c.v4[1], "packed reversed")}
        path.unlink()
        (w.path / f"x-{c.accounts[0]}").mkdir()
        assert c.look(w.path)


# --- The roads in -------------------------------------------------------------

def all_sessions(d, c):
    """Every kind of session event, accepted and refused."""
    with d.reporter("sessions", c.servers[0], c.streams[0]) as s:
        s.event("START", handle=c.handles[0], start=c.start, ip=c.v4[0])
        s.event("START", handle=c.handles[1], start=c.start, ip=c.v6[0])
        s.event("ALIVE", handle=c.handles[0], at=c.start + 5)
        s.event("SESSION", start=c.start, end=c.start + 777, ip=c.v4[1])
        s.event("SESSION", start=c.start, end=c.start + 777, ip=c.v6[1])
        s.event("END", handle=c.handles[1], end=c.start + 99)
        # refused: 17, 16, 16, 18, 18, 21
        s.event("START", handle=c.handles[0], start=c.start, ip=c.v4[2])
        s.event("END", handle=c.handles[2], end=c.start)
        s.event("ALIVE", handle=c.handles[2], at=c.start)
        s.event("START", handle=c.handles[2], start=c.start + 30 * HOUR, ip=c.v4[2])
        s.event("SESSION", start=c.start, end=c.start - 1, ip=c.v6[2])
        s.event("SESSION", start=c.start - 9000 * HOUR, end=c.start - 8000 * HOUR, ip=c.v4[2])
        assert len(s.sync()) == 6, s.refused
    with d.reporter("sessions", c.servers[1], c.streams[1]) as s:
        s.event("START", handle=c.handles[3], start=c.start, ip=c.v4[3])
        s.event("RESTART", at=c.start + 50)
        s.event("START", handle=c.handles[3], start=c.start + 60, ip=c.v6[3])
        assert not s.sync()


def all_usage(d, c):
    with d.reporter("usage", c.servers[0], c.streams[2]) as s:
        for name, meter in zip(c.accounts, c.meters):
            s.event("USAGE", account=name, rx=c.bytes[0], tx=c.bytes[1])
            s.event("USAGE", account=name, aux=meter, code=USAGE_FIRST, rx=1000, tx=2000)
            s.event("USAGE", account=name, aux=meter, rx=1001, tx=2002)
        s.event("USAGE", account=c.accounts[0], aux=c.meters[0], code=USAGE_LAST, rx=1001, tx=2002)
        s.event("USAGE", account=c.accounts[1], rx=2**64 - 1, tx=2**64 - 1)  # refused, 22
        assert len(s.sync()) == 1


def good_frames(c):
    """One of each type that a client can send, full of canaries."""
    fields = {"handle": c.handles[2], "start": c.start, "end": c.start + 1, "at": c.start,
              "ip": c.v6[2], "server": c.servers[2], "stream": c.streams[3],
              "account": c.accounts[2], "rx": c.bytes[0], "tx": c.bytes[1], "from_": c.start,
              "to": c.start + 1}
    return [Frame(name, **{f: fields[f] for f in names if f in fields})
            for name, (number, _, names) in FRAMES.items() if number < 0x80]


def bad_frames(c):
    """Frames that must be refused, each with canaries in it."""
    noise = (c.values[0].encode() + c.accounts[3].encode())[:48].ljust(48, b"\0")
    address = (ip_bytes(c.v6[2]) + ip_bytes(c.v4[4]) + ip_bytes(c.v4[5]))
    for body in (noise, address, account(c.accounts[3]) + ip_bytes(c.v6[1]),
                 c.values[1].encode().rjust(48, b" ")):
        for type_ in (0x00, 0x02, 0x10, 0x12, 0x18, 0x20, 0x30, 0x40, 0x55, 0x80, 0xA0, 0xFF):
            yield bytes([type_, 1, 0, 0]) + struct.pack("<IQ", c.meters[3], c.handles[3]) + body
            yield bytes([type_, 9, 0, 0]) + struct.pack("<IQ", 0, 1) + body
    yield Frame("HELLO", server=c.servers[2], stream=c.streams[3], seq=c.handles[2]).pack()
    yield Frame("HELLO", server=f"{c.values[0]}".upper()[:16].encode(), stream=c.streams[3]).pack()
    yield Frame("HELLO", server=c.accounts[3].encode()[:16], stream=c.streams[3]).pack()
    yield (c.accounts[3] + c.v4[4] + c.v6[2]).encode() * 3  # somebody talks to it
    yield account(c.accounts[3])  # part of a frame, and away
    yield f"GET /{c.accounts[3]}?ip={c.v4[4]} HTTP/1.1\r\nHost: {c.servers[2]}\r\n\r\n".encode()


def rude(d, role, data, hello=None):
    """Sends raw bytes, and returns what comes back until it is over."""
    with d.conn(role) as conn:
        try:
            if hello:
                conn.hello(*hello)
            conn.send_raw(data)
            conn.sock.shutdown(1)
            return b"".join(f.pack() for f in conn.recv_all(timeout=5))
        except (Closed, Refused, OSError):
            return b""


def every_bad_frame(d, c):
    """On every socket, with and without a HELLO before: (role, what was sent, a frame in answer)."""
    for role in ROLES:
        wrong = [f.pack() for f in good_frames(c)]
        for data in [*bad_frames(c), *wrong]:
            for hello in ((None, (c.servers[2], c.streams[3])) if role in ROLES[:2] else (None,)):
                answer = rude(d, role, data, hello)
                for at in range(0, len(answer) - 63, 64):
                    yield role, data, answer[at:at + 64]


def every_question(d, c):
    """Questions about canaries: their answers may hold them, nothing else may."""
    for ip in c.ips:
        d.lookup(ip)
        d.lookup(ip, length=100, server=c.servers[0], from_=c.start, to=c.start + 5)
    for server in c.servers:
        d.lookup(server=server)
    for name in c.accounts:
        d.quota(name)


def ctl_outputs(d, c):
    """Whatever nologctl says where it was not asked about a canary."""
    nologctl = BUILD / "nologctl"
    if not nologctl.exists():
        return
    outputs = []

    def run(*args, stdin="", secret_in_answer=False):
        done = subprocess.run([nologctl, "--run", d.run, *args], input=stdin, text=True,
                              capture_output=True, check=False, timeout=60)
        outputs.append(done.stderr + ("" if secret_in_answer else done.stdout))

    for json in ((), ("--json",)):
        for command in ("status", "metrics", "policy"):
            run(*json, command)
        run(*json, "audit", "--state", d.state)
        run(*json, "lookup", c.v4[1], secret_in_answer=True)
        run(*json, "quota", stdin=c.accounts[0] + "\n")
    run("usage", "--server", c.servers[0], "--rx", "5", "--tx", "6", stdin=c.accounts[0] + "\n")
    run("report", "--server", c.servers[2], "--stream", str(c.streams[3]),
        stdin=f"start --handle {c.handles[2]} --ip {c.v4[4]} --at @{c.start // 1000}\n"
              f"end --handle {c.handles[2]}\n")
    yield "nologctl", "\n".join(outputs).encode()


def told(c, d):
    """All that it says of its own accord or when it is not asked about a canary."""
    with d.conn("admin") as conn:
        conn.send(Frame("STATUS", seq=1))
        raw = b""
        while (frame := conn.recv()).name != "DONE":
            raw += frame.pack()
    yield "STATUS", raw
    yield "notifications", "\n".join(d.notified).encode()
    yield from ctl_outputs(d, c)


def nothing_found(c, w, d, when):
    """Files of the state and the run directory, their names, the log, and what was told."""
    for where in (w.state, w.run, d.log_path):
        hits = c.look(where)
        assert not hits, (when, hits)
    if d.process.poll() is None:
        path = w.path / "told"
        for what, data in told(c, d):
            path.write_bytes(data)
            hits = c.look(path)
            assert not hits, (when, what, [name for _, name in hits])
        path.unlink()


def test_no_canary_lies_in_any_file_name_log_line_or_output():
    c = Canaries()
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        nothing_found(c, w, d, "at the start")
        all_sessions(d, c)
        all_usage(d, c)
        every_question(d, c)
        nothing_found(c, w, d, "after every event and question")
        for _, sent, frame in every_bad_frame(d, c):
            answer = Frame.unpack(frame)
            assert answer.name in ("REFUSED", "WELCOME", "ACK", "TOTAL", "DONE", "RECORD",
                                   "METRIC"), answer
            if answer.name in ("REFUSED", "ACK"):  # says the number and the reason, nothing more
                assert frame[16:] == bytes(48), (sent, answer)
        nothing_found(c, w, d, "after bad frames")
        for text in ("[store]\nretention-days = 91\n", "[nonsense]\nx = 1\n", "[usage]\ntick = 1\n",
                     "no line at all\n", "[limits]\nopen-sessions = 1\nrecords = 1\n" + "x" * 300 + "\n"):
            before = d.logs().count("not reread")
            d.reload(text)
            wait_for(lambda before=before: d.logs().count("not reread") > before, what="the refusal")
        d.reload(FAST + "[limits]\nopen-sessions = 1\n")
        wait_for(lambda: "configuration reread" in d.logs(), what="the reload")
        with d.reporter("sessions", c.servers[2]) as s:  # refused with 22: no capacity
            s.event("START", handle=c.handles[2], start=c.start, ip=c.v4[4])
            assert s.sync() != {}
        nothing_found(c, w, d, "after reloading")
        d.kill9()
        nothing_found(c, w, d, "after kill -9")
        d.config = FAST
        d.start()
        assert len(d.lookup(c.v4[0])[0]) == 1, "the canaries are in there, or this proves nothing"
        assert d.quota(c.accounts[0]).rx >= c.bytes[0]
        nothing_found(c, w, d, "after a restart")
        d.term()
        nothing_found(c, w, d, "after SIGTERM")
        # Faults: a damaged block and a missing keyring are told without what lies in them.
        day = next(p for p in (w.state / "days").iterdir() if p.suffix == ".mdb")
        raw = bytearray(day.read_bytes())
        for at in range(3 * 4096 + 1000, len(raw), 4096):
            raw[at] ^= 1
        day.write_bytes(raw)
        d.spawn()
        try:
            d.wait_ready()
            for ip in c.ips:
                d.lookup(ip)
            nothing_found(c, w, d, "beside damage")
            d.kill9()
        except AssertionError:
            assert d.process.poll() is not None
        (w.state / "keyring").rename(w.path / "keyring-away")
        d.spawn()
        assert d.wait() == 1
        nothing_found(c, w, d, "after a start without a keyring")


# --- What the sealed blocks hold ----------------------------------------------

def opened(w):
    """Everything that the keys of a store open: {"sessions": [...], "usage": [...], "days": [...]}."""
    keyring = Keyring(w.state / "keyring")
    plain = {"days": []}
    for book, file, name in ((0, FILE_SESSIONS, "sessions"), (1, FILE_USAGE, "usage")):
        found = [(where, unseal(keyring.journals[book][epoch], where, sealed))
                 for epoch, where, sealed in journal_blocks(w.state / f"{name}.mdb", keyring.store, file)
                 if epoch in keyring.journals[book]]
        plain[name] = [p for _, p in found if p]
        assert plain[name], name
    for path in (w.state / "days").glob("*.mdb"):
        number = day_number(path.stem)
        plain["days"] += [p for where, sealed in day_blocks(path, keyring.store, number)
                          if (p := unseal(keyring.days[number], where, sealed))]
    return plain


def test_even_with_every_key_nothing_links_an_account_to_a_session():
    c = Canaries()
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        all_sessions(d, c)
        all_usage(d, c)
        d.kill9()  # everything is still in the journals
        first = opened(w)
        d.start()
        d.term()
        second = opened(w)
        assert second["days"]
        for book in ("sessions", "usage", "days"):
            (w.path / book).write_bytes(b"\0".join(first[book] + second[book]))
        forms = c.forms()

        def held(book, values):
            names = {name for _, name in search(w.path / book, forms)}
            return {value for value in map(str, values) if any(n[0] == value for n in names)}

        # Sessions: what the policy says, and no account, meter, stream or amount.
        assert held("sessions", c.v4[:2] + c.v6[:2]) == set(c.v4[:2] + c.v6[:2])
        assert held("sessions", c.servers[:2]) == set(c.servers[:2])
        assert held("sessions", c.handles[:1]) == {str(c.handles[0])}
        assert held("sessions", c.accounts + c.streams + c.bytes + c.values) == set()
        # Days: no handle either.
        assert held("days", c.v4[1:2] + c.v6[1:2] + c.servers[:1]) == {c.v4[1], c.v6[1], c.servers[0]}
        assert held("days", c.accounts + c.handles + c.streams + c.bytes + c.values) == set()
        # Usage: amounts, and no address, server, handle, stream, time, name or plain hash.
        assert held("usage", c.bytes) == set(map(str, c.bytes))
        assert held("usage", c.v6 + c.servers + c.handles + c.streams + c.accounts + c.values
                    + ["start"]) == set()
        long = {name for _, name in search(w.path / "usage", forms) if len(forms[name]) >= SHORT}
        assert not {v for v, _ in long} & set(map(str, c.v4 + c.meters)), long
        # What was refused is nowhere.
        for book in ("sessions", "usage", "days"):
            assert held(book, [c.servers[2], c.v6[2]]) == set(), book
        # No tag of one book is a tag of the other: no 16 bytes are in both.
        tags = {e[1:17] for e in parts(first["usage"]) if e[0] in (6, 7, 8)}
        assert len(tags) >= 9
        assert not search(w.path / "sessions", {t.hex(): t for t in tags})
        assert not search(w.path / "days", {t.hex(): t for t in tags})


def parts(plain):
    """The 48-byte effects in a journal's opened blocks."""
    for block in plain:
        body = block[16:]
        yield from (body[i:i + 48] for i in range(0, len(body), 48))


def test_the_two_books_are_committed_on_different_ticks():
    """Pairs of a session and its usage, reported together, do not meet in the number of their commits."""
    pairs = 40
    with Workspace() as w, Daemon(w.state, w.run, "[usage]\ntick = 1s\n") as d:
        names = [f"account-{i}" for i in range(pairs)]
        t = now_ms() - HOUR
        with d.reporter("sessions", "nl-1") as s, d.reporter("usage", "nl-1") as u:
            began = time.monotonic()
            for i, name in enumerate(names):
                s.event("SESSION", start=t, end=t + i, ip=f"10.0.0.{i}")
                u.event("USAGE", account=name, rx=i + 1, tx=1)
                s.sync()  # durable at once; the usage waits for its tick
            spent = time.monotonic() - began
            u.sync()
        batches = {}
        d.kill9()
        keyring = Keyring(w.state / "keyring")
        for book, file, name, kinds in ((0, FILE_SESSIONS, "sessions", (3,)), (1, FILE_USAGE, "usage", (7,))):
            batches[name] = {}
            for epoch, where, sealed in journal_blocks(w.state / f"{name}.mdb", keyring.store, file):
                plain = unseal(keyring.journals[book][epoch], where, sealed)
                if plain:
                    n = sum(e[0] in kinds for e in parts([plain]))
                    number = struct.unpack("<Q", where[-8:])[0]
                    if n:
                        batches[name][number] = n
        # Each session had its own commit, the usage of all of them a few of theirs.
        assert len(batches["sessions"]) == pairs and set(batches["sessions"].values()) == {1}
        assert len(batches["usage"]) <= spent + 2, batches["usage"]
        assert sum(batches["usage"].values()) >= pairs
        assert max(batches["usage"].values()) >= pairs / (spent + 2)


# --- Files --------------------------------------------------------------------

# A day's file in the making, until it is renamed; a start removes what a crash left of it.
IN_THE_MAKING = re.compile(r"days/\.\d{4}-\d\d-\d\d\.mdb(-lock)?")
EXPECTED = re.compile(r"keyring|(sessions|usage)\.mdb(-lock)?|days|days/\d{4}-\d\d-\d\d\.mdb(-lock)?")


def check_files(w, when, settled=True):
    for path in [w.state, *w.state.rglob("*")]:
        name = str(path.relative_to(w.state))
        try:
            info = path.lstat()
        except FileNotFoundError:
            assert not settled, (when, name)  # a file is put in another's place
            continue
        if path == w.state or name == "days":
            assert stat.S_ISDIR(info.st_mode) and stat.S_IMODE(info.st_mode) == 0o700, (when, name)
            continue
        assert EXPECTED.fullmatch(name) or not settled and IN_THE_MAKING.fullmatch(name), (when, name)
        assert stat.S_ISREG(info.st_mode) and stat.S_IMODE(info.st_mode) == 0o600, (
            when, name, oct(info.st_mode))
        assert info.st_nlink == 1 and info.st_uid == os.geteuid(), (when, name)
    names = {p.name for p in w.state.iterdir()}
    assert names >= {"keyring", "sessions.mdb", "usage.mdb", "days"}, (when, names)
    assert (w.state / "keyring").stat().st_size == 8192


def test_the_state_holds_the_files_of_the_contract_and_nothing_else():
    os.umask(0)  # a caller's umask must not decide
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        check_files(w, "at the start")
        assert sorted(p.name for p in w.run.iterdir()) == sorted(f"{r}.sock" for r in ROLES)
        for role in ROLES:
            info = (w.run / f"{role}.sock").lstat()
            assert stat.S_ISSOCK(info.st_mode) and stat.S_IMODE(info.st_mode) == 0o660, role
        now = now_ms()
        for round_ in range(10):
            d.report("nl-1", *[("SESSION", {"start": now - i * 24 * HOUR, "end": now - i * 24 * HOUR,
                                            "ip": f"10.0.{round_}.{i}"}) for i in range(89)])
            with d.reporter("usage", "nl-1") as u:
                u.event("USAGE", account="alice", rx=1, tx=1)
                u.sync()
            check_files(w, "while it runs", settled=False)
            if round_ % 2:
                d.kill9()
            else:
                d.term()
            check_files(w, "after its end", settled=round_ % 2 == 0)
            d.start()
        wait_for(lambda: not list((w.state / "days").glob(".*")), 60, "the end of merging")
        check_files(w, "at the end")
        assert d.status()["days_held"] == 89


# --- The process --------------------------------------------------------------

def proc_status(path):
    return dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)


def check_process(d, uid):
    proc = pathlib.Path("/proc") / str(d.pid)
    tasks = sorted((proc / "task").iterdir())
    assert len(tasks) >= 6, "the loop, two writers, three for the days"
    for task in tasks:
        s = proc_status(task / "status")
        assert s["NoNewPrivs"].strip() == "1", s
        assert s["Seccomp"].strip() == "2" or sanitized(), s
        for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb", *(["CapBnd"] if os.geteuid() == 0 else [])):
            assert int(s[cap], 16) == 0, (task.name, cap, s[cap])
        assert set(s["Uid"].split()) == {str(uid)}
    s = proc_status(proc / "status")
    assert int(s["VmLck"].split()[0]) > 0 or sanitized(), s["VmLck"]
    limits = (proc / "limits").read_text()
    core = re.search(r"Max core file size +(\S+) +(\S+)", limits)
    assert core.groups() == ("0", "0"), core
    # What a process that is not dumpable owns in /proc belongs to root.
    assert (proc / "mem").stat().st_uid == 0
    if uid:
        assert s["Groups"].split() == []
    return proc


def check_descriptors(proc, d):
    """No file but those of the store, and no socket but Unix ones."""
    try:
        links = {fd.name: os.readlink(fd) for fd in (proc / "fd").iterdir()}
    except PermissionError:
        return  # not dumpable: nobody but root may look
    unix = {line.split()[6] for line in open("/proc/net/unix").read().splitlines()[1:]}
    for link in links.values():
        if inode := re.fullmatch(r"socket:\[(\d+)\]", link):
            assert inode[1] in unix, f"{link} is no Unix socket"
        elif link.startswith("/") and not link.startswith("/dev/null"):
            assert link.startswith((str(d.state), str(d.log_path))), link


def test_the_process_has_given_up_everything():
    with Workspace() as w, Daemon(w.state, w.run, FAST) as d:
        check_descriptors(check_process(d, os.geteuid()), d)


def open_to_all(path):
    path = pathlib.Path(path).resolve()
    return all(p.exists() and p.stat().st_mode & 1 for p in [path, *path.parents])


def test_started_as_root_it_becomes_the_configured_user():
    if os.geteuid() != 0:
        skip("only root can start it as another user")
    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        skip("no user nobody")
    # The directory of temporary files may be closed to others.
    place = next((p for p in (tempfile.gettempdir(), "/tmp", "/var/tmp") if open_to_all(p)), None)
    if not place:
        skip("no temporary directory can be reached by another user")
    with Workspace(prefix=f"{place}/nolog-") as w:
        for directory in (w.state, w.run):
            os.chown(directory, user.pw_uid, -1)
        w.path.chmod(0o755)
        d = Daemon(w.state, w.run, FAST + "[store]\nuser = nobody\n")
        with d:
            check_descriptors(check_process(d, user.pw_uid), d)
            d.report("nl-1", ("SESSION", {"start": now_ms(), "end": now_ms(), "ip": "10.0.0.1"}))
            assert len(d.lookup("10.0.0.1")[0]) == 1
            d.term()
            d.start()
            assert len(d.lookup("10.0.0.1")[0]) == 1
            for path in w.state.rglob("*"):
                assert path.lstat().st_uid == user.pw_uid, path


if __name__ == "__main__":
    main()
