#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Configuration that cannot be: each mistake in one line, by -n and at a real start.

A line names the file, the line in it, what was found and what is allowed; a
start that is refused makes nothing and touches nothing.
"""

import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from badstart import AS_NOBODY, differences, reachable, refused_start, refused_unchanged, run_n, snapshot  # noqa: E402
from nolog import Daemon, Frame, Workspace, main, skip, wait_for  # noqa: E402

LONG = "a" * 150 + ", " + "b" * 100

# text, number of the line, words that the message must have
MISTAKES = [
    ("[store]\nretention-days = 91\n", 2, ["retention-days", "91", "1 to 90"]),
    ("[store]\nretention-days = 0\n", 2, ["1 to 90"]),
    ("[store]\nretention-days = -1\n", 2, ["1 to 90"]),
    ("[store]\nretention-days = 90d\n", 2, ["90d", "1 to 90"]),
    ("[store]\nretention-days = 18446744073709551617\n", 2, ["1 to 90"]),
    ("[store]\nretention-days =\n", 2, ["1 to 90"]),
    ("[store]\npath = relative\n", 2, ["relative", "absolute path"]),
    ("[store]\nkeyring =\n", 2, ["absolute path"]),
    ("[store]\nretention = 30\n", 2, ["retention", "no such key", "path, keyring, retention-days, user"]),
    ("[store]\npath = /a\npath = /b\n", 3, ["path", "given twice", "once only"]),
    ("[store]\nretention-days = 30\n\n[usage]\n[store]\nretention-days = 60\n", 6, ["given twice"]),
    ("[sotre]\npath = /a\n", 1, ["sotre", "no such section", "store"]),
    ("[Store]\npath = /a\n", 1, ["no such section"]),
    ("[]\n", 1, ["no such section"]),
    ("[nothing]\n", 1, ["nothing", "no such section"]),
    ("[usage]\n[empty]\n\n[clock]\n", 2, ["empty", "no such section"]),
    ("path = /a\n[store]\n", 1, ["before the first [section]"]),
    ("[store\npath = /a\n", 1, ["neither"]),
    ("[store] path = /a\n", 1, ["[store]", "line of its own"]),
    ("[servers]nl-1 =\n", 1, ["[servers]"]),
    ("\xef\xbb\xbf[severs]\n", 1, ["severs", "no such section"]),
    ("[store]\npath = /a\tb\n", 2, ["path", "control characters"]),
    ("[store]\nno equals sign\n", 2, ["neither"]),
    ("[usage]\ntick = 49ms\n", 2, ["49ms", "50ms to 60s"]),
    ("[usage]\ntick = 61s\n", 2, ["50ms to 60s"]),
    ("[usage]\ntick = 5\n", 2, ["50ms to 60s"]),
    ("[usage]\ntick = 5 s\n", 2, ["50ms to 60s"]),
    ("[usage]\ntick = -5s\n", 2, ["50ms to 60s"]),
    ("[usage]\ntick = 1e1s\n", 2, ["50ms to 60s"]),
    ("[clock]\ntrust = yes\n", 2, ["kernel or always"]),
    ("[sessions]\nmax-silence = 91d\n", 2, ["90d"]),
    ("[sessions]\nallow = 10.0.0.0/33\n", 2, ["10.0.0.0/33"]),
    ("[sessions]\nallow = 10.0.0.0/8,,fd00::/8\n", 2, ["allow"]),
    ("[sessions]\nallow = 10.0.0.0/8, fd00::/129\n", 2, ["allow"]),
    ("[sessions]\nallow = 10.0.0\n", 2, ["10.0.0"]),
    ("[sessions]\nallow =\n", 2, ["allow"]),
    ("[servers]\nNL-1 =\n", 2, ["NL-1", "server ID"]),
    ("[servers]\nseventeen-letters =\n", 2, ["seventeen-letters", "server ID"]),
    ("[servers]\nnl-1 = 203.0.113.256\n", 2, ["203.0.113.256"]),
    ("[servers]\nnl-1 = 203.0.113.7, \n", 2, ["nl-1"]),
    ("[servers]\nnl-1 = 203.0.113.0/24\n", 2, ["nl-1"]),
    ("[limits]\nconnections = 0\n", 2, ["1 to 1000000"]),
    ("[limits]\nconnections = many\n", 2, ["many", "1 to 1000000"]),
    ("[limits]\nmemory = 1\n", 2, ["1M"]),
    ("[limits]\nmemory = 99999999999G\n", 2, ["memory"]),
    ("[limits]\nmemory = 5MB\n", 2, ["memory"]),
    ("[limits]\nrecords = 0x10\n", 2, ["records"]),
    ("[sockets]\ndirectory = run\n", 2, ["absolute path"]),
    (f"[sessions]\n# fine\nallow = {LONG}\n", 3, ["too long"]),
    (f"# {LONG}\n[store]\n", 1, ["too long"]),
    ("[store]\npath = /" + "a" * 5000 + "\n", 2, ["too long"]),
    ("[store]\npath = /a\0b\n", 2, ["NUL"]),
    ("\0\0\0\0\n", 1, []),
    ("\x7fELF\x02\x01\x01\0\0\0", 1, []),
]


def mistaken(w, text, line, words):
    path = w.path / "bad.conf"
    path.write_bytes(text.encode("latin-1"))
    done = run_n(path)
    said = done.stderr.decode()
    assert done.returncode == 1 and done.stdout == b"", (text, done)
    lines = said.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"nologd: {path}:{line}: "), (text, said)
    assert lines[0].isprintable(), said
    for word in words:
        assert word in said, (word, said)
    return lines[0]


def test_each_mistake_is_one_line_with_file_and_line_and_what_is_allowed():
    with Workspace() as w:
        for text, line, words in MISTAKES:
            said = mistaken(w, text, line, words)
            # A real start says the same, and makes neither store nor socket.
            d = Daemon(w.path / "none", w.path / "norun", text)
            if text.isascii() and "\0" not in text and "\x7f" not in text:
                assert refused_start(d).split(": ", 2)[2] == said.split(": ", 2)[2]
            assert not (w.path / "none").exists() and not (w.path / "norun").exists()


def test_files_that_cannot_be_read():
    with Workspace() as w:
        for path in (w.path / "absent.conf", w.path, pathlib.Path("/dev/null/x")):
            done = run_n(path)
            said = done.stderr.decode()
            assert done.returncode == 1 and len(said.splitlines()) == 1 and f"{path}: " in said, said
        # Named, it must be there; the default may be absent, and that is not tested here.
        secret = w.file("secret.conf", "[store]\n")
        secret.chmod(0)
        if os.geteuid() == 0:
            reachable(w)
            done = subprocess.run([*AS_NOBODY, str(Daemon(w.state, w.run).binary), "-c", str(secret), "-n"],
                                  capture_output=True, text=True, check=False)
        else:
            done = run_n(secret)
        assert done.returncode == 1 and "Permission denied" in str(done.stderr), done


def test_a_configuration_that_contradicts_itself_or_the_machine():
    with Workspace() as w:
        long_run = "/run/" + "r" * 90
        for text, words in ((f"[sockets]\ndirectory = {long_run}\n", ["too long", "93"]),):
            path = w.file("bad.conf", text)
            done = run_n(path)
            said = done.stderr.decode()
            assert done.returncode == 1 and len(said.splitlines()) == 1, said
            for word in words:
                assert word in said, said
        done = run_n(w.file("fine.conf", ""), "--run", long_run)
        assert done.returncode == 1 and b"too long" in done.stderr, done
        # A file may be looked through on another machine than its own: -n says so, and goes on.
        done = run_n(w.file("there.conf", "[store]\nuser = no-such-user-here\n"))
        assert done.returncode == 0 and b"user = no-such-user-here\n" in done.stdout, done
        assert b"there.conf:2: [store] user = no-such-user-here: no such user" in done.stderr, done
        d = Daemon(w.state, w.run, "[store]\nuser = no-such-user-here\n")
        refused_unchanged(d, "no-such-user-here", "no such user")
        d.config = "[sockets]\nlookup-group = no-such-group-here\n"
        refused_unchanged(d, "lookup-group", "no-such-group-here", "no such group")
        assert list(w.run.iterdir()) == []


def test_wrong_options_are_one_line_or_the_usage():
    with Workspace() as w:
        binary = str(Daemon(w.state, w.run).binary)
        for args in (["--frobnicate"], ["-x"], ["--state"], ["-c"]):
            done = subprocess.run([binary, *args], capture_output=True, text=True, check=False)
            assert done.returncode == 1 and "usage: nologd" in done.stderr and done.stdout == "", done
        for args in (["--state", ""], ["--run="], ["-c", ""], ["--state", "/a #b"], ["--run", "/a\tb"],
                     ["--state", "/" + "a" * 200]):
            done = subprocess.run([binary, "-c", "/dev/null", "-n", *args], capture_output=True, text=True, check=False)
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and done.stdout == "", done
            assert args[0].rstrip("=") in done.stderr and done.stderr[:-1].isprintable(), done
        done = subprocess.run([binary, "-n", "word"], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "word" in done.stderr, done
        for option in ("--help", "-h", "--version"):
            done = subprocess.run([binary, option], capture_output=True, text=True, check=False)
            assert done.returncode == 0 and done.stdout and not done.stderr, done
        # A relative path begins where nologd was started.
        done = subprocess.run([binary, "-n", "-c", "/dev/null", "--state", "s", "--run", "r/../r"],
                              capture_output=True, text=True, cwd=w.path, check=False)
        assert f"path = {w.path}/s\n" in done.stdout and f"directory = {w.path}/r/../r\n" in done.stdout, done
        assert run_n(w.file("printed.conf", done.stdout)).stdout.decode() == done.stdout


FULL = """
; every key there is
[store]
path = /srv/nologd/state
keyring = /srv/keys/keyring
retention-days = 30
user = root

[sockets]
directory = /srv/run
sessions-group = root
usage-group = root
lookup-group = root
quota-group = root
admin-group = root

[servers]
nl-ams-03 = 203.0.113.7, 2001:db8::7
nl-ams-03 = 203.0.113.8
a = ::ffff:203.0.113.9
z.z-9 =

[sessions]
allow = 10.8.0.0/16, fd00::/8
allow = 192.0.2.1
max-silence = 90min

[usage]
tick = 250ms
[clock]
trust = always
[limits]
connections = 100
open-sessions = 1000
accounts = 2000
memory = 64M
lookups = 60
records = 5000
"""


def test_n_prints_what_is_in_effect_needs_no_state_and_reads_back():
    with Workspace() as w:
        for text in (FULL, "", "[servers]\n", "[sessions]\nallow = ::/0, 0.0.0.0/0\n",
                     "# only a comment\n\n", "[store]\r\nretention-days = 7\r\n"):
            path = w.file("given.conf", text)
            first = run_n(path)
            assert first.returncode == 0 and first.stderr == b"", first
            again = run_n(w.file("printed.conf", first.stdout.decode()))
            assert again.returncode == 0 and again.stdout == first.stdout, (first, again)
        printed = run_n(w.file("given.conf", FULL)).stdout.decode()
        for line in ("path = /srv/nologd/state", "keyring = /srv/keys/keyring", "retention-days = 30",
                     "directory = /srv/run", "lookup-group = root", "tick = 250ms", "trust = always",
                     "nl-ams-03 = 203.0.113.7", "nl-ams-03 = 2001:db8::7", "nl-ams-03 = 203.0.113.8",
                     "allow = 10.8.0.0/16", "allow = fd00::/8", "connections = 100", "lookups = 60"):
            assert line in printed.splitlines(), (line, printed)
        assert re.search(r"^z\.z-9 =\s*$", printed, re.M), printed
        # The command line wins over the file, and defaults are those of the manual.
        printed = run_n(w.path / "given.conf", "--state", "/elsewhere", "--run", "/there").stdout.decode()
        assert "path = /elsewhere\n" in printed and "directory = /there\n" in printed, printed
        printed = run_n(w.file("empty.conf", "")).stdout.decode()
        for line in ("path = /var/lib/nologd", "directory = /run/nologd", "retention-days = 90",
                     "tick = 5s", "trust = kernel"):
            assert line in printed.splitlines(), (line, printed)
        assert "[servers]" not in printed and "keyring" not in printed, printed
        assert sorted(p.name for p in w.path.iterdir()) == [
            "empty.conf", "given.conf", "printed.conf", "run", "state"]


def test_the_examples_of_the_documents_are_configurations():
    """As they stand there, copied with their blanks; only its users and groups may be unknown here."""
    root = pathlib.Path(__file__).resolve().parents[2]
    names = set(re.findall(r"^[ug] +(\S+)", (root / "systemd/nologd.sysusers").read_text(), re.M))
    readme = re.search(r"\n\n((?:    .*\n|\n)*    \[store\]\n(?:    .*\n|\n)*)", (root / "README.md").read_text())[1]
    manual = re.search(r"\.Sh EXAMPLES\n\.Bd -literal.*\n((?:.*\n)*?)\.Ed", (root / "daemon/nologd.conf.5").read_text())[1]
    assert "    max-silence = 30min" in readme
    with Workspace() as w:
        for text in (readme, manual):
            used = set(re.findall(r"^ *(?:user|\w+-group) = (\S+)", text, re.M))
            assert used and used <= names, (used, names)
            text = re.sub(r"^( *(?:user|\w+-group)) = \S+", r"\1 = root", text, flags=re.M)
            done = run_n(w.file("example.conf", text))
            assert done.returncode == 0 and done.stderr == b"", done
            assert b"\nmax-silence = 30min\n" in done.stdout and b"\nallow = fd00:8::/32\n" in done.stdout, done
            assert (b"\nde-fra-01 =" in done.stdout) == ("de-fra-01" in text), done


def test_a_mark_of_unicode_at_the_beginning_leaves_the_server_list_in_force():
    with Workspace() as w, Daemon(w.state, w.run, "\ufeff[servers]\nnl-1 =\n") as d:
        d.reporter("sessions", "nl-1").close()
        c = d.conn("sessions")
        c.send(Frame("HELLO", server="nl-2"))
        assert c.recv().code == 20
        c.close()


def test_n_runs_beside_a_running_nologd_and_disturbs_nothing():
    with Workspace() as w, Daemon(w.state, w.run) as d:
        for running in (True, False):
            before = snapshot(w.state)
            done = run_n(d.config_path, "--state", str(w.state), "--run", str(w.run))
            assert done.returncode == 0, done
            # A running one may write, but not the keyring for this.
            assert not running or d.status()["stalled"] == 0
            assert not [n for n in differences(before, snapshot(w.state)) if not running or n == "keyring"]
            if running:
                d.term()


def test_the_longest_line_that_is_allowed_is_read_whole():
    with Workspace() as w:
        for length in range(190, 206):
            start = "allow = 10.0.0.1"
            line = start + " " * (length - len(start) - 11) + ", 192.0.2.9"
            assert len(line) == length
            done = run_n(w.file("long.conf", f"[sessions]\n{line}\n"))
            if done.returncode == 0:
                assert b"allow = 10.0.0.1\nallow = 192.0.2.9\n" in done.stdout, (length, done)
            else:
                assert b"long.conf:2: the line is too long" in done.stderr and length > 196, (length, done)
            # The last line may have no end.
            done = run_n(w.file("long.conf", f"[sessions]\n{line}"))
            assert done.returncode == 1 or b"192.0.2.9\n" in done.stdout, (length, done)


def test_reload_is_all_or_nothing():
    with Workspace() as w, Daemon(w.state, w.run, "[servers]\nnl-1 =\nnl-2 =\n") as d:
        def reloads():
            return d.logs().count("configuration reread"), d.logs().count("not reread")

        kept = d.reporter("sessions", "nl-1")
        d.reload("[servers]\nnl-2 =\n[sessions]\nallow = 10.0.0.0/99\n")
        wait_for(lambda: reloads() == (0, 1), what="the refusal")
        assert "10.0.0.0/99" in d.logs()
        kept.event("SESSION", start=1000 + 0 * kept.seq, end=2000, ip="10.0.0.1")
        assert kept.sync() == {1: 21}  # nl-1 may still report; 1970 is forgotten
        for fixed, text in (("path", "[store]\npath = /elsewhere\n"),
                            ("retention-days", "[store]\nretention-days = 5\n"),
                            ("trust", "[clock]\ntrust = always\n"),
                            ("connections", "[limits]\nconnections = 5\n"),
                            ("lookup-group", "[sockets]\nlookup-group = root\n")):
            before = reloads()[1]
            d.reload("[servers]\nnl-2 =\n" + text)
            # --state wins over the file: a path in the file changes nothing.
            if fixed == "path":
                wait_for(lambda: reloads()[0] == 1, what="the reload")
                assert kept.closed()  # nl-1 may report no more
                d.reload("[servers]\nnl-1 =\nnl-2 =\n")
                wait_for(lambda: reloads()[0] == 2, what="the reload")
                kept = d.reporter("sessions", "nl-1")
                continue
            wait_for(lambda b=before: reloads()[1] == b + 1, what="the refusal")
            assert f"{fixed} cannot change while nologd runs" in d.logs()
            d.reporter("usage", "nl-1").close()
        d.config_path.unlink()
        before = reloads()[1]
        d.signal(1)
        wait_for(lambda: reloads()[1] == before + 1, what="the refusal")
        d.reporter("usage", "nl-1").close()
        kept.close()


class Default(Daemon):
    """A nologd whose /etc is a directory of the test's, in a mount namespace; -c may name the default file."""

    def __init__(self, w, *args):
        super().__init__(w.state, w.run, args=args)
        self.etc = w.path / "etc"
        (self.etc / "nologd").mkdir(parents=True)
        self.wrapper = ["unshare", "-m", "sh", "-c", f'mount --bind {self.etc} /etc && exec "$0" "$@"']

    def command(self):
        command = super().command()
        at = command.index("-c", len(self.wrapper))
        return command[:at] + command[at + 2:]


def need_namespace():
    if subprocess.run(["unshare", "-m", "mount", "--bind", "/tmp", "/etc"], capture_output=True, check=False).returncode:
        skip("no mount namespace can be made here")


def test_the_default_file_may_be_absent_but_not_when_it_is_named():
    need_namespace()
    with Workspace() as w:
        refused_start(Default(w, "-c", "/etc/nologd/nologd.conf"), "/etc/nologd/nologd.conf", "No such file")
    with Workspace() as w, Default(w) as d:
        d.reporter("sessions", "nl-9").close()


def test_a_default_file_that_goes_away_while_it_runs_changes_nothing():
    need_namespace()
    with Workspace() as w:
        d = Default(w)
        file = d.etc / "nologd" / "nologd.conf"

        def hup(done, failed):
            d.signal(1)
            wait_for(lambda: (d.logs().count("configuration reread"), d.logs().count("not reread")) == (done, failed),
                     what=f"{done} reloads, {failed} refused")

        def may_report(server):
            with d.conn("sessions") as c:
                c.send(Frame("HELLO", server=server))
                return c.recv().name == "WELCOME"

        file.write_text("[servers]\nnl-1 =\n")
        with d:
            assert may_report("nl-1") and not may_report("nl-2")
            file.unlink()
            hup(0, 1)
            assert f"/etc/nologd/nologd.conf: No such file" in d.logs()
            assert may_report("nl-1") and not may_report("nl-2")
            file.write_text("[servers]\nnl-2 =\n")
            hup(1, 1)
            assert may_report("nl-2") and not may_report("nl-1")
        # One that was absent at the start may come, and then has to stay.
        file.unlink()
        with d:
            hup(2, 1)
            assert may_report("nl-3")
            file.write_text("[servers]\nnl-1 =\n")
            hup(3, 1)
            assert not may_report("nl-3")
            file.unlink()
            hup(3, 2)
            assert not may_report("nl-3")


if __name__ == "__main__":
    main()
