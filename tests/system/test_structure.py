#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Holds the house together: who includes what, who stands above whom, what is
pure, what may lie at the top.

The tables come first and are meant to be edited: a new file gets a line here,
and this is where one thinks about its place.  Each rule is a function that
takes a tree and yields what is wrong in it; each is also shown to find what it
is for, in a copy of the tree with a violation planted.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import nolog  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]

# --- The tables -------------------------------------------------------------

# Which files may include a library's headers.  Nobody else, no header, ever.
LIBRARIES = {
    r"lmdb\.h": "daemon/journal.c daemon/dayfile.c tools/bench_limit.c",
    r"sodium(/.*)?\.h": "daemon/seal.c daemon/keyring.c tools/client.c tools/client_reporter.c",
    r"(event2/.*|event|evutil)\.h": "daemon/server.c daemon/conn.c",
    r"ini\.h": "daemon/config.c",
    r"seccomp\.h": "daemon/sandbox.c",
    r"libmnl/.*": "",
    r"systemd/.*": "",
}

# The daemon's stations, lowest first: a file may include the headers of its own
# line and of those above it here, never of a later one.
STATIONS = (
    "fault log notify queue pool slots sort tags",     # the ground: anybody's
    "calendar clock",                                  # UTC days, months; the time
    "seal",                                            # AEAD blocks, keyed hashes
    "keyslot keyringfs keyring",                       # the keys and their file
    "effect exits lookup",                             # what travels
    "pagecheck reserve dayblock dayservers daywait dayfile dayrun dayscan dayask day dayset"
    " daykeep merge dayaudit dayfinish days",                # finished sessions
    "journal",                                         # the log
    "streams entries servers refresh sessions usage",          # the ledgers
    "links writer sessionbook usagebook",                    # a thread per book
    "config sandbox",                                  # the process
    "conn listen server status",                       # the loop
    "main",
)

# No I/O, no clock, no thread, no library: every rule of theirs is tested
# without a daemon.
PURE = ("sessions usage calendar streams refresh effect lookup keyslot dayblock daywait pool slots"
        " sort tags servers").split()
PURE_HEADERS = set("assert.h errno.h inttypes.h limits.h stdbool.h stddef.h stdint.h stdio.h"
                   " stdlib.h string.h nolog/frame.h nolog/text.h".split())
IMPURE_CALLS = re.compile(r"""\b(
    open|openat|creat|close|read|write|p?readv?|p?writev?|pread|pwrite|lseek|fsync|fdatasync|
    ftruncate|f?stat|statx|unlink|unlinkat|rename|renameat|mkdir|opendir|mmap|munmap|ioctl|fcntl|
    flock|fopen|fdopen|fclose|fread|fwrite|fputs|puts|putchar|fgets|getline|v?printf|v?fprintf|
    v?dprintf|perror|syslog|errx?|warnx?|socket|bind|listen|accept4?|connect|send|sendmsg|sendto|
    recv|recvmsg|recvfrom|poll|ppoll|select|epoll_\w+|eventfd\w*|timerfd_\w+|signalfd|
    time|clock|clock_gettime|gettimeofday|adjtimex|localtime|localtime_r|mktime|nanosleep|usleep|
    sleep|alarm|getenv|setlocale|rand|random|getrandom|getentropy|getpid|getuid|fork|kill|signal|
    sigaction|pthread_\w+|mtx_\w+|thrd_\w+|atomic_\w+|log_\w+|notify_\w+|clock_\w+|keyring_\w+|
    journal_\w+|mdb_\w+|event_\w+|sodium_\w+|crypto_\w+|randombytes\w*
    )\s*\(""", re.X)

# Who may print: the log, and the two that talk to whoever started nologd.
PRINTERS = "daemon/log.c daemon/main.c daemon/config.c".split()
PRINTING = re.compile(r"\b(v?printf|v?fprintf|v?dprintf|puts|fputs|putchar|fputc|perror|v?syslog"
                      r"|v?errx?|v?warnx?|error)\s*\(")

# What may see the daemon's headers beside the daemon and the tests.
KNOWS_THE_DAEMON = re.compile(r"tools/(nologctl|ctl_\w+|nolog-bench|bench_\w+)\.[ch]")

TOP = "daemon include tools systemd tests Makefile README.md LICENSE CHANGELOG.md".split()

# First parts of absolute paths that a program on Linux may mean.
FHS = set("bin boot dev etc home lib lib64 media mnt nonexistent opt proc root run sbin srv sys tmp"
          " usr var path".split())

# Kinds of fields: each has one size, and there are no others.
FIXED = {
    "include/nolog/frame.h": set("U32 U64 I64 B16 B32".split()),
    "daemon/effect.h": set("U8 U16 U32 U64 MS SRV IP IP4 TAG".split()),
}

# --- Reading the tree -------------------------------------------------------


def files(root, *patterns):
    return sorted(p for pattern in patterns for p in root.glob(pattern) if p.is_file())


def sources(root):
    return files(root, "daemon/*.[ch]", "tools/*.[ch]", "include/nolog/*.h")


def name(root, path):
    return path.relative_to(root).as_posix()


def code(path):
    """A C file without its comments and the contents of its strings."""
    text = path.read_text(encoding="utf-8")
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: '""' if m[0][0] == '"' else " ", text, flags=re.S)


def includes(path):
    """(quoted, header) of each #include, also of those behind an #if."""
    text = path.read_text(encoding="utf-8")
    return [(mark == '"', header)
            for mark, header in re.findall(r'^\s*#\s*include\s*(["<])([^">]+)[">]', text, re.M)]


def tree(root):
    """Every file of the project: what git would keep, or all but build/."""
    try:
        listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others",
                                 "--exclude-standard"], capture_output=True, check=True).stdout
        if (root / ".git").exists() and listed:
            return sorted({root / os.fsdecode(n) for n in listed.split(b"\0")
                           if n and (root / os.fsdecode(n)).is_file()})
    except (OSError, subprocess.CalledProcessError):
        pass
    return sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts
                  and p.relative_to(root).parts[0] not in (".git", "build"))


# --- The rules --------------------------------------------------------------


def rule_libraries(root):
    for path in sources(root):
        for _, header in includes(path):
            for pattern, allowed in LIBRARIES.items():
                if re.fullmatch(pattern, header) and name(root, path) not in allowed.split():
                    yield f"{name(root, path)} includes <{header}>"


def rule_stations(root):
    station = {n: i for i, line in enumerate(STATIONS) for n in line.split()}
    for path in files(root, "daemon/*.[ch]"):
        if path.stem not in station:
            yield f"{name(root, path)} has no station: give it one in STATIONS"
            continue
        for quoted, header in includes(path):
            other = pathlib.PurePath(header).stem
            if not quoted:
                continue
            if "/" in header or not (root / "daemon" / header).is_file():
                yield f"{name(root, path)} includes \"{header}\", which is not the daemon's"
            elif station.get(other, len(STATIONS)) > station[path.stem]:
                yield f"{name(root, path)} includes the higher {header}"


def rule_pure(root):
    for module in PURE:
        for path in files(root, f"daemon/{module}.[ch]"):
            for quoted, header in includes(path):
                if not quoted and header not in PURE_HEADERS:
                    yield f"{name(root, path)} is pure and includes <{header}>"
            for call in IMPURE_CALLS.findall(code(path)):
                yield f"{name(root, path)} is pure and calls {call}()"


def rule_printing(root):
    for path in files(root, "daemon/*.[ch]"):
        if name(root, path) not in PRINTERS:
            for call in PRINTING.findall(code(path)):
                yield f"{name(root, path)} prints with {call}(): the log is daemon/log.c's"


def rule_outsiders(root):
    """The client library, the adapters and the public headers know no daemon."""
    for path in files(root, "tools/*.[ch]", "include/nolog/*.h"):
        if KNOWS_THE_DAEMON.fullmatch(name(root, path)):
            continue
        for quoted, header in includes(path):
            if quoted and ("/" in header or not (path.parent / header).is_file()):
                yield f"{name(root, path)} includes \"{header}\", which is not beside it"
            if quoted and path.parent.name == "nolog":
                yield f"{name(root, path)} is public and includes \"{header}\""


def rule_makefile(root):
    """Every file of the daemon is named in DAEMON_SRC, and nothing else is."""
    text = (root / "Makefile").read_text(encoding="utf-8")
    block = re.search(r"^DAEMON_SRC\b(?:.*\\\n)*.*", text, re.M)[0]
    listed = set(re.findall(r"[\w-]+\.c", block))
    there = {p.name for p in files(root, "daemon/*.c")}
    for n in sorted(listed ^ there):
        yield f"daemon/{n} is {'missing' if n in listed else 'not in DAEMON_SRC'}"


def rule_top(root):
    for entry in sorted({name(root, p).split("/")[0] for p in tree(root)}):
        if entry not in TOP and not entry.startswith("."):
            yield f"{entry} does not belong at the top"


def rule_no_place(root):
    """No path of the machine it was written on."""
    absolute = re.compile(r"""(?:^|[\s"'`(=,:])(/[a-z][\w.-]+/[\w.-]+)""", re.M)
    home = re.compile(r"/(?:home|root)/[a-z.]")
    for path in tree(root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a seed, a capture
        for found in absolute.findall(text):
            if found.split("/")[1] not in FHS:
                yield f"{name(root, path)} names {found}"
        for found in home.findall(text):
            yield f"{name(root, path)} names somebody's home ({found}...)"


def rule_fixed_size(root):
    """Frames and records are lists of fields of fixed size, and the compiler adds them up."""
    for file, kinds in FIXED.items():
        text = (root / file).read_text(encoding="utf-8")
        lists = r"^#define (?:NOLOG|EFFECT|ROW\d)_\w*_?FIELDS\(F\)((?:.*\\\n)*.*)"
        for body in re.findall(lists, text, re.M):
            for kind in re.findall(r"\bF\((\w+),", body):
                if kind not in kinds:
                    yield f"{file} has a field of kind {kind}"
        for kind in kinds:
            if not re.search(rf"^#define (?:NOLOG|EFFECT)_SIZE_{kind} \w+$", text, re.M):
                yield f"{file} gives kind {kind} no size"
        if not re.search(r"static_assert\([^;]*_SUM[^;]*_SIZE", text):
            yield f"{file} does not check its sizes when compiled"
        if re.search(r"^(?!extern\b)[^;\n]*\w\s*\[\s*\]\s*;", code(root / file), re.M):
            yield f"{file} has an array without a length"


def rule_licence(root):
    for path in tree(root):
        if path.suffix in (".c", ".h", ".py", ".sh") or name(root, path) in ("Makefile", ".ci/run"):
            with open(path, encoding="utf-8") as f:
                head = f.readline() + f.readline()
            if "SPDX-License-Identifier: ISC" not in head:
                yield f"{name(root, path)} does not name its licence"


def rule_headers(root):
    """A header can be read alone, and twice."""
    for path in files(root, "daemon/*.h", "tools/*.h", "include/nolog/*.h"):
        twice = f'#include "{path}"\n' * 2
        r = subprocess.run([*os.environ.get("CC", "cc").split(), "-std=gnu17", "-D_GNU_SOURCE",
                            f"-I{root}/include", f"-I{root}/daemon", f"-I{root}/tools",
                            "-fsyntax-only", "-x", "c", "-"], input=twice, text=True,
                           capture_output=True, check=False)
        if r.returncode:
            yield f"{name(root, path)} cannot be included alone: {r.stderr.splitlines()[0]}"


def rule_exports(root):
    """The client library gives out what its header promises, under its prefix."""
    promised = set(re.findall(r"\b(nolog_\w+)\(", code(root / "include/nolog/client.h")))
    for path in files(root, "tools/client*.h"):  # what only its own files see
        promised |= set(re.findall(r"^NOLOG_HIDDEN [^;(]*\b(nolog_\w+)\(", code(path), re.M))
    definition = re.compile(r"^(?!static\b)[a-z][\w *]*?\b(\w+)\((?=[^;{]*\n?[^;{]*\{)", re.M)
    for path in files(root, "tools/client*.c"):
        for found in definition.findall(code(path)):
            if found.startswith("nolog_") and found not in promised:
                yield f"{name(root, path)} exports {found}(), neither in nolog/client.h nor hidden"


# --- The rules hold ---------------------------------------------------------


def holds(rule):
    found = list(rule(ROOT))
    assert not found, "\n  " + "\n  ".join(found)


def test_each_library_is_included_where_it_is_wrapped():
    holds(rule_libraries)


def test_no_lower_station_includes_a_higher_one():
    holds(rule_stations)


def test_the_pure_modules_have_no_input_output_clock_or_thread():
    holds(rule_pure)


def test_only_the_log_prints():
    holds(rule_printing)


def test_client_library_and_adapters_know_no_daemon():
    holds(rule_outsiders)


def test_the_makefile_names_every_file_of_the_daemon():
    holds(rule_makefile)


def test_only_the_house_stands_at_the_top():
    holds(rule_top)


def test_no_path_of_a_machine_is_in_the_tree():
    holds(rule_no_place)


def test_every_frame_and_record_is_fixed_size():
    holds(rule_fixed_size)


def test_every_source_names_its_licence():
    holds(rule_licence)


def test_every_header_can_be_included_alone_and_twice():
    holds(rule_headers)


def test_the_client_library_exports_what_its_header_promises():
    holds(rule_exports)


# --- ... and would be noticed if they did not -------------------------------

# rule: (file, what is added to it or None to make it anew, what must be found)
PLANTED = (
    (rule_libraries, "daemon/conn.c", "#include <lmdb.h>\n", "daemon/conn.c includes <lmdb.h>"),
    (rule_libraries, "daemon/pagecheck.c", "# include  <lmdb.h>\n", "pagecheck.c includes"),
    (rule_libraries, "daemon/seal.h", "#include <sodium/core.h>\n", "daemon/seal.h includes"),
    (rule_stations, "daemon/calendar.c", '#include "seal.h"\n', "the higher seal.h"),
    (rule_stations, "daemon/keyring.h", '#include "effect.h"\n', "the higher effect.h"),
    (rule_stations, "daemon/attic.c", "\n", "has no station"),
    (rule_pure, "daemon/sessions.c", "static long f(void) { return time(NULL); }\n",
     "calls time()"),
    (rule_pure, "daemon/usage.c", "#include <unistd.h>\n", "includes <unistd.h>"),
    (rule_printing, "daemon/seal.c", 'static void f(void) { printf("key"); }\n',
     "prints with printf"),
    (rule_outsiders, "tools/client.c", '#include "seal.h"\n', 'includes "seal.h"'),
    (rule_outsiders, "tools/client.c", '#include "../daemon/seal.h"\n', 'includes "../daemon/seal.h"'),
    (rule_stations, "daemon/seal.c", '#include "../tools/client_queue.h"\n', "is not the daemon's"),
    (rule_outsiders, "include/nolog/client.h", '#include "frame.h"\n', "is public"),
    (rule_makefile, "daemon/attic.c", "\n", "not in DAEMON_SRC"),
    (rule_top, "notes.txt", "x\n", "notes.txt does not belong"),
    (rule_no_place, "daemon/log.c", '/* see "/build' + '-host/nologd" */\n', "daemon/log.c names"),
    (rule_fixed_size, "include/nolog/frame.h", "#define NOLOG_NOTE_FIELDS(F) F(TEXT, note)\n",
     "kind TEXT"),
    (rule_fixed_size, "daemon/effect.h", "struct e { unsigned char free_form[]; };\n",
     "without a length"),
    (rule_licence, "tools/new.c", "int main(void);\n", "tools/new.c does not name"),
    (rule_headers, "daemon/seal.h", "struct unguarded { struct not_declared x; };\n",
     "cannot be included alone"),
    (rule_exports, "tools/client.c", "int nolog_secret(int x)\n{\n\treturn x;\n}\n",
     "exports nolog_secret()"),
)


def test_each_rule_finds_a_planted_violation():
    with tempfile.TemporaryDirectory() as tmp:
        copy = pathlib.Path(tmp) / "tree"
        for path in tree(ROOT):
            to = copy / path.relative_to(ROOT)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)
        for rule, file, text, expected in PLANTED:
            path = copy / file
            before = path.read_bytes() if path.exists() else None
            path.write_bytes((before or b"") + text.encode())
            found = list(rule(copy))
            assert any(expected in line for line in found), (rule.__name__, file, found)
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)


if __name__ == "__main__":
    nolog.main()
