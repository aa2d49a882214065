# SPDX-License-Identifier: ISC
"""Starts that must fail: one clear line, exit status 1, and the data as it was."""

import os
import pathlib
import stat
import subprocess
import sys

from nolog import FACTOR, Daemon

# Becomes nobody, and then the command; the process stays the same.  It is opened
# before that: the build may lie where nobody may not go, in root's home say.
AS_NOBODY = [sys.executable, "-c",
             "import os, sys\n"
             "command = os.open(sys.argv[1], os.O_RDONLY | os.O_CLOEXEC)\n"
             "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
             "os.execve(command, sys.argv[1:], os.environ)"]


def reachable(workspace):
    """Lets other users through to a workspace, whose parents may be ours alone."""
    for path in [workspace.path, *workspace.path.parents]:
        mode = path.stat().st_mode
        if path.stat().st_uid == os.geteuid() and not mode & 0o001:
            path.chmod(stat.S_IMODE(mode) | 0o011)
    workspace.path.chmod(0o755)


def snapshot(directory):
    """Everything below a directory but LMDB's lock files: {name: (kind, mode, content)}."""
    directory = pathlib.Path(directory)
    seen = {}
    for path in sorted(directory.rglob("*")):
        if path.name.endswith("-lock"):
            continue
        st = path.lstat()
        content = (path.read_bytes() if stat.S_ISREG(st.st_mode) else
                   os.readlink(path) if stat.S_ISLNK(st.st_mode) else None)
        seen[str(path.relative_to(directory))] = (stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), content)
    return seen


def differences(before, after):
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def refused_start(daemon, *words, ends=1):
    """Starts it, and it must end with one line that has the words; returns the line.

    The line is prefixed with the program's name, is no longer than a terminal's
    few lines, and holds nothing unprintable.
    """
    had = len(daemon.logs())
    daemon.spawn()
    status = daemon.wait()
    said = daemon.logs()[had:]
    assert status == ends, f"exit status {status}:\n{said}"
    lines = said.splitlines()
    assert len(lines) == 1 and said.endswith("\n"), f"not one line:\n{said}"
    line = lines[0]
    assert line.startswith("nologd: ") and line.isprintable() and len(line) < 600, repr(line)
    for word in words:
        assert word in line, f"no {word!r} in: {line}"
    return line


def refused_unchanged(daemon, *words):
    """The same, and nothing in the state has changed."""
    before = snapshot(daemon.state)
    line = refused_start(daemon, *words)
    changed = differences(before, snapshot(daemon.state))
    assert not changed, f"changed: {changed} ({line})"
    return line


def run_n(path, *args, daemon=None):
    """nologd -n on a configuration: the finished process."""
    binary = (daemon or Daemon("/nonexistent", "/nonexistent")).binary
    return subprocess.run([str(binary), "-c", str(path), "-n", *args], capture_output=True,
                          timeout=20 * FACTOR, check=False)
