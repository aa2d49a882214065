#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""nologd as a service: sockets handed over, what it tells the manager, who may connect."""

import grp
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from badstart import reachable, refused_unchanged  # noqa: E402
from nolog import (FACTOR, ROOT, SOCKETS, Conn, Daemon, Workspace, main, now_ms,  # noqa: E402
                   skip, wait_for)

ROLES = ("sessions", "usage", "lookup", "quota", "admin")
FAST = "[usage]\ntick = 50ms\n"

# Opens descriptors from 3 on as its arguments say, becomes nologd, keeps its pid:
# "listen:PATH", "bound:PATH" (does not listen), "dgram:PATH", "inet", "file", "none";
# PATH@GID: 0660 and of that group.
HAND_OVER = """
import os, socket, sys
i = sys.argv.index("--")
specs, names, command = sys.argv[2:i], sys.argv[1], sys.argv[i + 1:]
fds = []
for spec in specs:
    kind, _, path = spec.partition(":")
    path, _, gid = path.partition("@")
    if kind in ("listen", "bound", "dgram"):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "dgram" else socket.SOCK_STREAM)
        s.bind(path)
        if gid:
            os.chown(path, -1, int(gid))
            os.chmod(path, 0o660)
    elif kind == "inet":
        s = socket.socket(socket.AF_INET)
        s.bind(("127.0.0.1", 0))
    elif kind == "file":
        s = open("/dev/null")
    elif kind == "none":
        fds.append(-1)
        continue
    if kind in ("listen", "inet"):
        s.listen(4096)
    fds.append(os.dup(s.fileno()))
    os.set_inheritable(fds[-1], True)
high = [fd if fd < 0 else os.dup2(fd, 100 + n) for n, fd in enumerate(fds)]
for fd in range(3, 100):
    try:
        os.close(fd)
    except OSError:
        pass
for n, fd in enumerate(high):
    if fd >= 0:
        os.dup2(fd, 3 + n)
        os.close(fd)
os.environ.setdefault("LISTEN_FDS", str(len(fds)))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execv(command[0], command)
"""


class Handed(Daemon):
    """A nologd that is handed sockets."""

    def __init__(self, w, specs, names="", config=FAST, **env):
        super().__init__(w.state, w.run, config, env={**os.environ, **env})
        self.wrapper = [sys.executable, "-c", HAND_OVER, names, *specs, "--"]


def works(d, run=None):
    t = now_ms()
    with Conn((run or d.run) / "sessions.sock") as c:
        c.hello("nl-1")
        c.event("SESSION", start=t - 5, end=t - 5, ip="10.0.0.1")
        assert c.sync() == {}
    with Conn((run or d.run) / "lookup.sock") as c:
        assert c.lookup("10.0.0.1", from_=t - 5, to=t - 5)[0]
    with Conn((run or d.run) / "usage.sock") as c:
        c.hello("nl-1")
        c.event("USAGE", account="alice", rx=1, tx=1)
        assert c.sync() == {}
    with Conn((run or d.run) / "quota.sock") as c:
        assert c.quota("alice").rx >= 1
    with Conn((run or d.run) / "admin.sock") as c:
        assert c.status()["stalled"] == 0


# --- Sockets handed over -------------------------------------------------------

def test_sockets_handed_over_are_served_and_left_in_their_place():
    units = ":".join(f"nologd-{r}.socket" for r in ROLES)
    for names in ("", units, ":".join(ROLES), ":".join(SOCKETS)):
        with Workspace() as w:
            there = w.path / "there"
            there.mkdir()
            d = Handed(w, [f"listen:{there}/{r}.sock" for r in ROLES], names)
            with d:
                works(d, there)
                assert list(w.run.iterdir()) == [], "it made sockets of its own"
            # They belong to the service manager: still there after the end.
            assert len(list(there.iterdir())) == 5


def test_names_count_before_paths_and_any_order_will_do():
    with Workspace() as w:
        # Paths that say nothing, and names in another order.
        with Handed(w, [f"listen:{w.path}/s{i}" for i in range(5)], "admin:quota:usage:sessions:lookup") as d:
            with Conn(w.path / "s0") as c:
                c.status()
            with Conn(w.path / "s2") as c:
                c.hello("nl-1")
                c.event("USAGE", account="alice", rx=1, tx=1)
                c.sync()
            with Conn(w.path / "s1") as c:
                assert c.quota("alice").rx == 1
            d.term()


def test_what_is_not_handed_over_is_made():
    with Workspace() as w:
        there = w.path / "there"
        there.mkdir()
        with Handed(w, [f"listen:{there}/lookup.sock", f"listen:{there}/admin.sock"]) as d:
            assert sorted(p.name for p in w.run.iterdir()) == ["quota.sock", "sessions.sock", "usage.sock"]
            assert d.report("nl-1", ("SESSION", {"start": 0, "end": now_ms(), "ip": "10.0.0.1"})) is None
            with Conn(there / "lookup.sock") as c:
                assert c.lookup("10.0.0.1")[0]
        assert list(w.run.iterdir()) == []


def test_what_waited_in_a_handed_over_socket_before_the_start_is_served():
    with Workspace() as w:
        there = w.path / "there"
        there.mkdir()
        d = Handed(w, [f"listen:{there}/{r}.sock" for r in ROLES])
        d.spawn()
        wait_for(lambda: (there / "admin.sock").exists(), what="the socket")

        def connect():
            try:
                return Conn(there / "admin.sock")
            except ConnectionRefusedError:
                return None
        with wait_for(connect, what="its listening") as c:
            assert c.status()["connections_open"] == 1
        d.wait_ready()
        d.term()


def test_wrong_descriptors_are_refused_in_one_line():
    with Workspace() as w:
        there = w.path / "t"
        there.mkdir()
        five = [f"listen:{there}/{r}.sock" for r in ROLES]
        cases = [
            ([*five[:4], f"bound:{there}/admin.sock"], "", {}),
            ([*five[:4], f"dgram:{there}/admin.sock"], "", {}),
            ([*five[:4], "inet"], "", {}),
            ([*five[:4], "inet"], ":".join(ROLES), {}),
            ([*five[:4], "file"], ":".join(ROLES), {}),
            ([*five[:4], "none"], ":".join(ROLES), {}),
            ([*five[:4], f"listen:{there}/unknown.sock"], "", {}),
            ([*five[:4], f"listen:{there}/sessions.sock.x"], "", {}),
            (five, "sessions:sessions:lookup:quota:admin", {}),
            (five, "", {"LISTEN_FDS": "6"}),
            (five, "", {"LISTEN_FDS": "65536"}),
            (five, "", {"LISTEN_FDS": "-1"}),
            (five, "", {"LISTEN_FDS": "five"}),
            (five, "", {"LISTEN_PID": "x"}),
        ]
        for specs, names, env in cases:
            d = Handed(w, specs, names, **env)
            refused_unchanged(d, "LISTEN_FDS")
            assert list(w.state.iterdir()) == [] and list(w.run.iterdir()) == [], (specs, env)
            for path in there.iterdir():
                path.unlink()
        # Meant for another process: not looked at.
        with Handed(w, five, LISTEN_PID="1") as d:
            works(d)


# --- The service manager -------------------------------------------------------

class Manager:
    """A notification socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.settimeout(10 * FACTOR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def next(self):
        return self.sock.recv(4096).decode().splitlines()

    def nothing(self):
        self.sock.setblocking(False)
        try:
            raise AssertionError(self.sock.recv(4096))
        except BlockingIOError:
            self.sock.settimeout(10 * FACTOR)


def test_the_manager_is_told_ready_reloading_stopping_in_order():
    with Workspace() as w, Manager(w.path / "notify") as m:
        config = w.file("nologd.conf", FAST)
        log = w.path / "log"
        with open(log, "wb") as err:
            p = subprocess.Popen([str(Daemon(w.state, w.run).binary), "-c", config, "--state", w.state,
                                  "--run", w.run], stderr=err, env={**os.environ, "NOTIFY_SOCKET": str(w.path / "notify")})
        try:
            assert m.next()[0] == "READY=1"
            works(None, w.run)  # at that moment all five accept
            for good in (True, False, True):
                config.write_text(FAST if good else "[nonsense]\n")
                before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                p.send_signal(signal.SIGHUP)
                said = m.next()
                assert said[0] == "RELOADING=1" and said[1].startswith("MONOTONIC_USEC="), said
                at = int(said[1].split("=")[1])
                assert before <= at <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                assert m.next()[0] == "READY=1"
                works(None, w.run)
            assert log.read_text().count("not reread") == 1
            m.nothing()
            p.terminate()
            assert m.next()[0] == "STOPPING=1"
            assert p.wait(20 * FACTOR) == 0
            m.nothing()
        finally:
            if p.poll() is None:
                p.kill()


def test_a_start_that_fails_never_says_ready():
    with Workspace() as w:
        w.state.chmod(0o755)
        d = Daemon(w.state, w.run)
        refused_unchanged(d, "open to others")
        assert d.notified == []


def test_the_watchdog_is_fed_and_a_manager_that_is_gone_is_no_reason_to_stop():
    with Workspace() as w:
        path = w.path / "notify"
        with Manager(path) as m:
            p = subprocess.Popen([str(Daemon(w.state, w.run).binary), "-c", w.file("conf", FAST), "--state", w.state,
                                  "--run", w.run], stderr=subprocess.DEVNULL,
                                 env={**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "3000000"})
            try:
                assert m.next()[0] == "READY=1"
                assert m.next() == ["WATCHDOG=1"]
                assert m.next() == ["WATCHDOG=1"]
                m.sock.close()
                path.unlink()
                works(None, w.run)
                p.terminate()
                assert p.wait(20 * FACTOR) == 0
            finally:
                if p.poll() is None:
                    p.kill()


def test_sigterm_twice_and_sigint_end_it_orderly():
    with Workspace() as w:
        d = Daemon(w.state, w.run, FAST)
        for signals in ((signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)):
            with d:
                works(d)
                for s in signals:
                    d.signal(s)
                assert d.wait() == 0, d.logs()
            assert list(w.run.iterdir()) == []


def test_sighup_before_it_is_ready_is_acted_upon_when_it_is():
    with Workspace() as w:
        config = w.path / "pipe"
        os.mkfifo(config)
        log = w.path / "log"
        with open(log, "wb") as err:
            p = subprocess.Popen([str(Daemon(w.state, w.run).binary), "-c", config, "--state", w.state,
                                  "--run", w.run], stderr=err)
        try:
            with open(config, "w", encoding="ascii") as f:  # it is there, and reads
                p.send_signal(signal.SIGHUP)
                f.write(FAST)
            # What it reads for the signal, when it has closed the first.
            wait_for(lambda: "nologd: ready" in log.read_text(), what="its start")
            with open(config, "w", encoding="ascii") as f:
                f.write(FAST)
            wait_for(lambda: "configuration reread" in log.read_text(), what="the reload")
            works(None, w.run)
            p.terminate()
            assert p.wait(20 * FACTOR) == 0
        finally:
            if p.poll() is None:
                p.kill()


def test_sigterm_before_it_is_ready_ends_it_orderly():
    for sent in (signal.SIGTERM, signal.SIGINT):
        for pause in range(10):
            with Workspace() as w:
                d = Daemon(w.state, w.run, FAST).spawn()
                try:
                    began = time.monotonic()
                    while not any(w.run.iterdir()) and time.monotonic() < began + 20 * FACTOR:
                        pass  # a sleep would miss the moment
                    time.sleep(pause / 500)
                    d.signal(sent)
                    assert d.wait() == 0, d.logs()
                    assert list(w.run.iterdir()) == []
                finally:
                    if d.process.poll() is None:
                        d.kill9()


# --- The units -------------------------------------------------------------------

def unit(name):
    """{key: [values]} of a unit."""
    lines = (ROOT / "systemd" / name).read_text().splitlines()
    found = {}
    for key, _, value in (line.partition("=") for line in lines if "=" in line and not line.startswith("#")):
        found.setdefault(key, []).append(value)
    return found


def test_the_units_sockets_and_groups_are_those_of_nologd():
    groups = set(re.findall(r"^g (\S+)", (ROOT / "systemd/nologd.sysusers").read_text(), re.M))
    service = unit("nologd.service")
    for role in ROLES:
        sock = unit(f"nologd-{role}.socket")
        assert sock["ListenStream"] == [f"/run/nologd/{role}.sock"] and sock["FileDescriptorName"] == [role]
        assert sock["SocketMode"] == ["0660"] and sock["SocketUser"] == service["User"], sock
        assert sock["SocketGroup"] == [f"nologd-{role}"] and sock["SocketGroup"][0] in groups, sock
    assert len(groups) == len(ROLES)


def test_the_watchdog_of_the_unit_waits_longer_than_a_writer_may():
    hung = int(re.search(r"#define HUNG_MS (\d+)", (ROOT / "daemon/server.c").read_text())[1])
    (watchdog,) = unit("nologd.service")["WatchdogSec"]
    assert int(re.fullmatch(r"(\d+)s", watchdog)[1]) * 1000 >= 2 * hung


# --- Who may connect -----------------------------------------------------------

PEER = """
import os, sys
sys.path.insert(0, {lib!r})
from nolog import Conn, Closed, Frame
uid, gid, groups, run = int(sys.argv[1]), int(sys.argv[2]), [int(g) for g in sys.argv[3].split(",") if g], sys.argv[4]
os.setgroups(groups)
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
for role in ("sessions", "usage", "lookup", "quota", "admin"):
    try:
        with Conn(run + "/" + role + ".sock") as c:
            c.send(Frame("HELLO", server="nl-1") if role in ("sessions", "usage") else
                   Frame("STATUS", seq=1) if role == "admin" else
                   Frame("QUOTA", seq=1) if role == "quota" else Frame("LOOKUP", seq=1))
            print(role, c.recv().name)
    except Closed:
        print(role, "closed")
    except PermissionError:
        print(role, "denied")
"""
ANSWERS = {"sessions": "WELCOME", "usage": "WELCOME", "lookup": "DONE", "quota": "TOTAL", "admin": "METRIC"}


def peer(w, uid, gid, groups=()):
    """What happens to another user at each socket: {role: answer, "closed" or "denied"}."""
    done = subprocess.run([sys.executable, "-c", PEER.format(lib=str(ROOT / "tests" / "lib")), str(uid), str(gid),
                           ",".join(map(str, groups)), str(w.run)],
                          capture_output=True, text=True, timeout=60 * FACTOR, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


def open_up(w):
    """As a mistaken chmod would: then only what nologd itself checks is left."""
    for path in w.run.iterdir():
        path.chmod(0o666)


def need_root():
    if os.geteuid() != 0:
        skip("only root can be another user")


def test_strangers_get_no_answer_even_where_the_sockets_mode_lets_them_in():
    need_root()
    with Workspace() as w:
        reachable(w)
        w.run.chmod(0o755)
        with Daemon(w.state, w.run, FAST) as d:
            for path in w.run.iterdir():
                assert path.stat().st_mode & 0o7777 == 0o660, path
            assert peer(w, 65534, 65534) == dict.fromkeys(ROLES, "denied")
            open_up(w)
            before = d.status()["connections_refused_total"]
            assert peer(w, 65534, 65534) == dict.fromkeys(ROLES, "closed")
            # Nor does the group of nologd's own user, or root's, help anybody.
            assert peer(w, 65534, 0, [0]) == dict.fromkeys(ROLES, "closed")
            assert d.status()["connections_refused_total"] == before + 10
            assert peer(w, 0, 0) == ANSWERS
            works(d)


def test_a_configured_group_may_connect_to_its_socket_and_to_no_other():
    need_root()
    groups = [g for g in grp.getgrall() if g.gr_gid not in (0, 65534)][:3]
    if len(groups) < 3:
        skip("there are not enough groups here")
    vpn, abuse, other = groups
    config = f"{FAST}[sockets]\nsessions-group = {vpn.gr_name}\nlookup-group = {abuse.gr_name}\n"
    with Workspace() as w:
        reachable(w)
        w.run.chmod(0o755)
        with Daemon(w.state, w.run, config) as d:
            assert (w.run / "sessions.sock").stat().st_gid == vpn.gr_gid
            assert (w.run / "lookup.sock").stat().st_gid == abuse.gr_gid
            denied = dict.fromkeys(ROLES, "denied")
            # As its main group, and as one of several.
            assert peer(w, 65534, vpn.gr_gid) == {**denied, "sessions": "WELCOME"}
            assert peer(w, 65534, 65534, [other.gr_gid, vpn.gr_gid]) == {**denied, "sessions": "WELCOME"}
            assert peer(w, 65534, abuse.gr_gid) == {**denied, "lookup": "DONE"}
            assert peer(w, 65534, 65534, [abuse.gr_gid, vpn.gr_gid]) == {
                **denied, "sessions": "WELCOME", "lookup": "DONE"}
            assert peer(w, 65534, other.gr_gid, range(20000, 20100)) == denied
            open_up(w)
            closed = dict.fromkeys(ROLES, "closed")
            assert peer(w, 65534, other.gr_gid, range(20000, 20100)) == closed
            many = [*range(20000, 20200), vpn.gr_gid]  # more groups than a first guess holds
            assert peer(w, 65534, 65534, many) == {**closed, "sessions": "WELCOME"}
            works(d)


def test_the_group_of_a_socket_handed_over_may_connect_as_with_the_shipped_units():
    need_root()
    with Workspace() as w:
        reachable(w)
        w.run.chmod(0o755)
        groups = {role: 23000 + i for i, role in enumerate(ROLES)}
        denied, closed = dict.fromkeys(ROLES, "denied"), dict.fromkeys(ROLES, "closed")
        with Handed(w, [f"listen:{w.run}/{r}.sock@{groups[r]}" for r in ROLES]) as d:
            for role in ROLES:
                assert peer(w, 65534, 65534, [groups[role]]) == {**denied, role: ANSWERS[role]}
            assert peer(w, 65534, 65534) == denied
            open_up(w)
            assert peer(w, 65534, groups["quota"]) == {**closed, "quota": "TOTAL"}
            assert peer(w, 65534, 65534) == closed
            works(d)


def test_the_user_it_drops_to_may_connect():
    need_root()
    with Workspace() as w:
        reachable(w)
        w.run.chmod(0o755)
        os.chown(w.state, 65534, 65534)
        os.chown(w.run, 65534, 65534)
        with Daemon(w.state, w.run, FAST + "[store]\nuser = nobody\n") as d:
            assert peer(w, 65534, 65534) == ANSWERS
            assert peer(w, 0, 0) == ANSWERS
            assert peer(w, 12345, 12345) == dict.fromkeys(ROLES, "denied")
            open_up(w)
            assert peer(w, 12345, 12345) == dict.fromkeys(ROLES, "closed")
            with open(f"/proc/{d.pid}/status", encoding="ascii") as f:
                status = {k: v for k, _, v in (line.rstrip().partition(":") for line in f)}
            assert status["Uid"].split() == ["65534"] * 4 and status["Gid"].split() == ["65534"] * 4
            assert status["Groups"].split() == []
            for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(status[caps], 16) == 0, (caps, status[caps])
            assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() in ("0", "2")


if __name__ == "__main__":
    main()
