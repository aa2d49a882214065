#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""README's five-minute tour: its commands as they are printed, on a nologd as `make run` starts it."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from nolog import FACTOR, ROOT, Conn, Workspace, main, program, wait_for  # noqa: E402


def tour():
    """The alias, and the commands, from README.md."""
    text = (ROOT / "README.md").read_text().split("\n## Five minutes\n")[1].split("\n## ")[0]
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return re.search(r"`(alias n='.*')`", text)[1], commands


@contextlib.contextmanager
def make_run(w):
    """What `make run` does, with a build directory of its own."""
    (w.path / "build").mkdir()
    for name in ("nologd", "nologctl", "nolog-bench"):
        (w.path / "build" / name).symlink_to(program(name))
    with open(w.path / "log", "wb") as log:
        p = subprocess.Popen([str(ROOT / "tools" / "demo.sh"), "--run"], cwd=w.path, stdout=log, stderr=log,
                             env={**os.environ, "NOLOGD_BUILD": "build"})
    try:
        wait_for(lambda: "nologd: ready" in (w.path / "log").read_text(), 20, "its start")
        yield p
        p.send_signal(signal.SIGINT)
        assert p.wait(20 * FACTOR) == 0
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()


def sh(w, *lines):
    done = subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=w.path, capture_output=True, text=True,
                          timeout=60 * FACTOR, check=False)
    assert done.returncode == 0 and done.stderr == "", (lines, done)
    return done.stdout


def test_the_tour_works_as_printed():
    alias, commands = tour()
    said = {}
    with Workspace() as w, make_run(w):
        for command in commands:
            if "n quota" in command:
                time.sleep(0.5)  # the tick of tools/demo.sh is 200 ms
            said[command] = sh(w, alias, command)
    words = {"n lookup 10.8.0.2 ": "open", "--slack": "nl-ams-01", "n quota": "total   3000", "n policy": "sessions.mdb",
             "n status": "sessions", "n audit": "sound"}
    for part, word in words.items():
        (command,) = [c for c in commands if part in c and not (part == "n lookup 10.8.0.2 " and "--at" in c)]
        assert word in said[command], (command, said[command])
    assert len(commands) == 9, commands


def test_what_make_run_says_works_too():
    with Workspace() as w, make_run(w):
        lines = re.findall(r"^  (\S.*)$", (w.path / "log").read_text(), re.M)
        assert len(lines) == 7, lines
        for line in lines:
            sh(w, line)
        with Conn(w.path / "build" / "run" / "sockets" / "admin.sock") as c:
            assert c.status()["sessions_ended_total"] == 1


if __name__ == "__main__":
    main()
