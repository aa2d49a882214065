# SPDX-License-Identifier: ISC
"""What somebody finds who has the disk, for tests of forgetting.

    Keyring    the keys in a keyring file, read as daemon/keyslot.c lays it out
    effects    what the living keys still tell of a journal
    blocks     every sealed block in an LMDB file, freed pages included
    unseal     opens a block; decrypt turns one into bytes without the check
    search     where bytes lie in a file or a directory, file names included
    memory     where bytes lie in the memory of a process
    Volume     an ext4 file system of its own in a file, and its raw image
    Clock      the clocks of a process, for the test to move

It shares no line with the C code it tests; only libsodium does the ciphers.
"""

import atexit
import contextlib
import ctypes
import datetime
import functools
import hashlib
import mmap
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import tempfile
import time

from nolog import preload_env, skip

SLOT = 4096
PAGE = 4096
FORMAT = 1
OVERHEAD = 40  # nonce 24, tag 16
FILE_SESSIONS, FILE_USAGE, FILE_DAY = 1 << 40, 2 << 40, 3 << 40
EPOCH = datetime.date(1970, 1, 1)


# --- Days -------------------------------------------------------------------

def ms(text):
    """Unix milliseconds of "2026-11-22 08:00:00", UTC; the time of day may be absent."""
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc)
    return round(moment.timestamp() * 1000)


def day_number(text):
    return (datetime.date.fromisoformat(text[:10]) - EPOCH).days


def day_text(number):
    return (EPOCH + datetime.timedelta(days=number)).isoformat()


# --- The keyring ------------------------------------------------------------

class Keyring:
    """The newest whole slot of a keyring file (path or bytes).

    .days {day: key}, .journals [sessions, usage] of {epoch: key}, .months {month: key}, .meters
    {generation: key}, .newest_day, .first_day, .generation, .held_ms, .store
    """

    def __init__(self, source):
        raw = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
        assert len(raw) == 2 * SLOT, len(raw)
        slots = [s for s in (raw[:SLOT], raw[SLOT:]) if self.whole(s)]
        assert slots, "no whole slot"
        self.raw = raw
        self._parse(max(slots, key=lambda s: struct.unpack_from("<Q", s, 16)))

    @staticmethod
    def whole(slot):
        digest = hashlib.blake2b(slot[:SLOT - 32], digest_size=32).digest()
        return slot[:8] == b"nologkey" and slot[SLOT - 32:] == digest

    def _parse(self, slot):
        version, count = struct.unpack_from("<II", slot, 8)
        assert version == FORMAT, version
        self.generation, self.store, self.newest_day, self.first_day, self.held_ms = (
            struct.unpack_from("<Q16siiq", slot, 16))
        months = [struct.unpack_from("<I16s", slot, 56 + 20 * i) for i in range(2)]
        meters = [struct.unpack_from("<Iq16s", slot, 96 + 28 * i) for i in range(2)]
        journals = [struct.unpack_from("<Iq32s", slot, 152 + 44 * i) for i in range(4)]
        days = [struct.unpack_from("<i32s", slot, 328 + 36 * i) for i in range(count)]
        self.months = {m: key for m, key in months if any(key)}
        self.meters = {g: key for g, _, key in meters if g}
        self.meter_created = {g: t for g, t, _ in meters if g}
        self.journals = [{e: key for e, _, key in journals[b:b + 2] if e} for b in (0, 2)]
        self.journal_created = [{e: t for e, t, _ in journals[b:b + 2] if e} for b in (0, 2)]
        self.days = dict(days)

    def keys(self):
        """Every secret in it: {what: bytes}."""
        named = {f"day {day_text(d)}": k for d, k in self.days.items()}
        named |= {f"month {m}": k for m, k in self.months.items()}
        named |= {f"meters {g}": k for g, k in self.meters.items()}
        for book, name in enumerate(("sessions", "usage")):
            named |= {f"{name} {e}": k for e, k in self.journals[book].items()}
        return named

    def sealing_keys(self):
        return [k for k in self.keys().values() if len(k) == 32]


# --- Sealed blocks ----------------------------------------------------------

@functools.cache
def sodium():
    for name in ("libsodium.so.23", "libsodium.so.26", "libsodium.so"):
        with contextlib.suppress(OSError):
            lib = ctypes.CDLL(name)
            assert lib.sodium_init() >= 0
            return lib
    return skip("no libsodium to open blocks with")


def place(store, file, epoch, number):
    return struct.pack("<B16sQQQ", FORMAT, store, file, epoch, number)


def unseal(key, where, sealed):
    """The plaintext of a block (nonce, ciphertext, tag), or None."""
    if len(sealed) < OVERHEAD:
        return None
    out = ctypes.create_string_buffer(len(sealed) - OVERHEAD + 1)
    n = ctypes.c_ulonglong()
    wrong = sodium().crypto_aead_xchacha20poly1305_ietf_decrypt(
        out, ctypes.byref(n), None, sealed[24:], ctypes.c_ulonglong(len(sealed) - 24), where,
        ctypes.c_ulonglong(len(where)), sealed[:24], key)
    return None if wrong else out.raw[:n.value]


def decrypt(key, sealed):
    """What the cipher alone makes of a block, authentic or not: for those who do not ask."""
    body = sealed[24:-16]
    out = ctypes.create_string_buffer(len(body) + 1)
    sodium().crypto_stream_xchacha20_xor_ic(out, body, ctypes.c_ulonglong(len(body)), sealed[:24],
                                            ctypes.c_uint64(1), key)
    return out.raw[:len(body)]


def blocks(path):
    """[(number, value)] of every leaf page of an LMDB file with integer keys.

    It goes by the pages, not by the tree: what was deleted and not yet
    overwritten is found as well, as is every older version of the tree.
    """
    data = pathlib.Path(path).read_bytes()
    found = []
    for at in range(2 * PAGE, len(data) - PAGE + 1, PAGE):
        _, _, flags, lower, upper = struct.unpack_from("<QHHHH", data, at)
        if not flags & 0x02 or flags & ~0x1f or not 16 <= lower <= upper <= PAGE:
            continue
        for offset in struct.unpack_from(f"<{(lower - 16) // 2}H", data, at + 16):
            with contextlib.suppress(struct.error):
                found += node(data, at, offset)
    return sorted(set(found))


def node(data, page, offset):
    low, high, flags, key_size = struct.unpack_from("<HHHH", data, page + offset)
    size = low | high << 16
    if key_size != 8:
        return []
    number, = struct.unpack_from("<Q", data, page + offset + 8)
    at = page + offset + 16
    if flags & 0x01:  # the value has pages of its own
        at = struct.unpack_from("<Q", data, at)[0] * PAGE + 16
    value = data[at:at + size]
    return [(number, value)] if len(value) == size else []


def day_blocks(path, store, number):
    """[(place, sealed)] of a day's file."""
    return [(place(store, FILE_DAY | number, number, n), value) for n, value in blocks(path)
            if len(value) >= OVERHEAD]


def journal_blocks(path, store, file):
    """[(epoch, place, sealed)] of a journal; a block begins with its key's epoch, in clear."""
    found = []
    for n, value in blocks(path):
        if n >= 1 << 16 and len(value) >= 4 + OVERHEAD:
            epoch, = struct.unpack_from("<I", value)
            found.append((epoch, place(store, file, epoch, n), value[4:]))
    return found


def effects(state, book):
    """Every 48-byte effect in a journal that a key of the state's keyring opens."""
    keyring = Keyring(state / "keyring")
    name, file = (("sessions.mdb", FILE_SESSIONS), ("usage.mdb", FILE_USAGE))[book]
    found = []
    for _, where, sealed in journal_blocks(state / name, keyring.store, file):
        for key in keyring.journals[book].values():
            if plain := unseal(key, where, sealed):
                found += [plain[i:i + 48] for i in range(16, len(plain), 48)]
    return found


def session_starts(state):
    """[(start, end or None)] of every session in what the session journal's living keys open."""
    found = []
    for e in effects(state, 0):
        at = {1: 36, 2: 36, 3: 28}.get(e[0])  # OPEN, CLOSE, WHOLE
        if at:
            start, end = (int.from_bytes(e[i:i + 6], "little") for i in (at, at + 6))
            found.append((start, None if e[0] == 1 else end))
    return found


def openable(sealed_blocks, keys):
    """How many of [(place, sealed)] one of the keys opens."""
    return sum(any(unseal(k, where, sealed) is not None for k in keys)
               for where, sealed in sealed_blocks)


# --- Searching --------------------------------------------------------------

CHUNK = 16 << 20


def search_file(path, needles):
    """[(path, what)] for needles {what: bytes} that lie in the file.

    It is read, not mapped: it may become shorter meanwhile.
    """
    overlap = max(map(len, needles.values()), default=1) - 1
    found, data = set(), b""
    with open(path, "rb") as f:
        while more := f.read(CHUNK):
            data = data[len(data) - overlap:] + more if overlap else more
            found |= {what for what, raw in needles.items() if raw in data}
    return [(str(path), what) for what in needles if what in found]


def search(where, needles):
    """The same for a file, or for every file and file name below a directory."""
    where = pathlib.Path(where)
    if where.is_file():
        return search_file(where, needles)
    found = []
    for path in sorted(where.rglob("*")):
        found += [(f"name of {path}", what) for what, raw in needles.items()
                  if raw in os.fsencode(path.name)]
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            if stat.S_ISREG(path.lstat().st_mode):
                found += search_file(path, needles)
    return found


def memory(pid, needles):
    """[(range, what)] for needles in the memory of a process; None when it may not be read.

    File mappings are passed over: the files are searched themselves.
    """
    found = []
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                words = line.split()
                if not words[1].startswith("r") or (len(words) > 5 and words[5][0] == "/") or (
                        words[-1] in ("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                    continue
                low, high = (int(x, 16) for x in words[0].split("-"))
                mem.seek(low)
                with contextlib.suppress(OSError):
                    data = mem.read(high - low)
                    found += [(f"{words[0]} {words[-1]}", what)
                              for what, raw in needles.items() if raw in data]
    except PermissionError:
        return None
    return found


# --- A file system of one's own ---------------------------------------------

class Volume:
    """with Volume(workspace) as v: an ext4 in the file v.image, mounted at v.path.  Root only.

    v.unmount() writes everything out, v.mount() goes on.
    """

    def __init__(self, workspace, mib=64):
        if os.geteuid() != 0:
            skip("only root can mount a file system to look into its raw image")
        for tool in ("mkfs.ext4", "mount", "umount"):
            if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
                skip(f"no {tool}")
        self.image = workspace.path / "image"
        self.path = workspace.path / "mnt"
        self.mib = mib
        self.mounted = False

    def _run(self, *command):
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return subprocess.run(command, capture_output=True, text=True, check=False,
                              env=dict(os.environ, PATH=path))

    def __enter__(self):
        self.path.mkdir()
        with open(self.image, "wb") as f:
            f.truncate(self.mib << 20)
        done = self._run("mkfs.ext4", "-F", "-q", str(self.image))
        assert done.returncode == 0, done.stderr
        done = self._run("mount", "-o", "loop", str(self.image), str(self.path))
        if done.returncode:
            skip(f"no loop mounts here: {done.stderr.strip()}")
        self.mounted = True
        return self

    def mount(self):
        done = self._run("mount", "-o", "loop", str(self.image), str(self.path))
        assert done.returncode == 0, done.stderr
        self.mounted = True

    def unmount(self):
        done = self._run("umount", str(self.path))
        assert done.returncode == 0, done.stderr
        self.mounted = False

    def __exit__(self, *_):
        if self.mounted:
            self._run("umount", str(self.path))


# --- Time -------------------------------------------------------------------

@functools.cache
def preload():
    """preload/clock.c as a shared object, for this process's life."""
    source = pathlib.Path(__file__).parent / "preload" / "clock.c"
    directory = tempfile.mkdtemp(prefix="nolog-clock-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = pathlib.Path(directory) / "clock.so"
    for compiler in (os.environ.get("CC", "cc").split(), ["gcc"], ["clang"]):
        if compiler and shutil.which(compiler[0]):
            done = subprocess.run([*compiler, "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-Wall",
                                   "-Wextra", "-o", str(made), str(source)],
                                  capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return made
    return skip("no compiler for a clock that can be moved")


class Clock:
    """Clocks that a process sees and the test moves while it runs.

    Clock(workspace, "2026-11-30 23:59:50").env goes to Daemon(env=...).  They run on like the real
    ones.  With monotonic, the monotonic clocks and the one since boot jump with the wall clock.
    vouched is what the kernel says of the wall clock; None: what it really says.
    """

    def __init__(self, workspace, text, monotonic=False, vouched=False):
        path = workspace.path / "clock"
        path.write_bytes(bytes(PAGE))
        with open(path, "r+b") as f:
            self.shown = memoryview(mmap.mmap(f.fileno(), PAGE)).cast("q")
        self.env = preload_env(preload(), os.environ) | {"TEST_CLOCK": str(path), "TZ": "UTC"}
        self.monotonic = monotonic
        self.vouch(vouched)
        self.offset_ns = 0
        self.set(text, jump=False)

    def vouch(self, vouched):
        self.shown[2] = -1 if vouched is None else int(vouched)

    def set(self, text, plus=0.0, jump=True):
        """Now it is text, plus seconds."""
        now = ms(text) * 1_000_000 + round(plus * 1e9)
        self._shift(now - time.time_ns() - self.offset_ns, jump)

    def move(self, seconds):
        self._shift(round(seconds * 1e9), True)

    def _shift(self, ns, jump):
        self.offset_ns += ns
        if self.monotonic and jump and ns > 0:  # these never go back
            self.shown[1] += ns
        self.shown[0] = self.offset_ns

    def now_ms(self):
        return (time.time_ns() + self.offset_ns) / 1e6
