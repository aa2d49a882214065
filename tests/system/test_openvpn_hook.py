#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""nolog-openvpn as a hook, without OpenVPN: what a server's life, a nologd that
is away, slow or hostile, and an administrator's slips make of it.

nologd is a stand-in here, OpenVPN a process that calls the hook when told to.
Needs neither root nor network.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import nolog  # noqa: E402  pylint: disable=wrong-import-position
from fakenologd import FakeNologd  # noqa: E402  pylint: disable=wrong-import-position
from nolog import Workspace, wait_for  # noqa: E402  pylint: disable=wrong-import-position

HOOK = nolog.program("nolog-openvpn")
T = 1795337340  # when the server was started
SLOW = 1.0 * nolog.FACTOR  # seconds; a hook takes a hundredth of it

ENVIRONMENT = {
    "X509_0_CN": "alice", "common_name": "alice", "config": "s.conf", "dev": "tun0",
    "daemon_pid": "18350", "daemon_start_time": str(T), "script_context": "init",
    "ifconfig_pool_remote_ip": "10.8.0.2", "ifconfig_pool_remote_ip6": "fd00:8::1000",
    "time_unix": str(T + 1), "trusted_ip": "203.0.113.77", "trusted_port": "46099",
    "untrusted_ip": "203.0.113.77", "untrusted_port": "46099", "verb": "4",
}


def connect(**changes):
    return {**ENVIRONMENT, "script_type": "client-connect",
            **{k: str(v) for k, v in changes.items()}}


def disconnect(**changes):
    return {**ENVIRONMENT, "script_type": "client-disconnect", "time_duration": "9",
            "bytes_received": "7426", "bytes_sent": "7463",
            **{k: str(v) for k, v in changes.items()}}


class Result:
    def __init__(self, status, err, seconds):
        self.status, self.err, self.seconds = status, err, seconds

    def good(self, line=""):
        """A hook never fails and never takes long; line is in its one line, or it says nothing."""
        assert self.status == 0, (self.status, self.err)
        assert self.seconds < SLOW, self.seconds
        if not line:
            assert self.err == "", self.err
        else:
            assert line in self.err and self.err.count("\n") == 1, self.err
        return self


def call(run, environment, *options, server="nl-1"):
    """The hook called by somebody who is not the server."""
    began = time.monotonic()
    done = subprocess.run([HOOK, "--run", str(run), "--server", server, *options, "/tmp/x.tmp"],
                          env=environment, capture_output=True, text=True, check=False)
    return Result(done.returncode, done.stderr, time.monotonic() - began)


CALLER = """
import json, subprocess, sys, time
for line in sys.stdin:
    command, env = json.loads(line)
    began = time.monotonic()
    p = subprocess.run(command, env=env, capture_output=True, text=True, close_fds=False)
    print(json.dumps([p.returncode, p.stderr, time.monotonic() - began]), flush=True)
"""


class Server:
    """A process that calls hooks, as OpenVPN does, and can die."""

    def __init__(self, run, start=T):
        self.run, self.start = run, start
        self.process = subprocess.Popen([sys.executable, "-c", CALLER], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def call(self, environment, *options, wrapper=(), server="nl-1"):
        environment = {**environment, "daemon_pid": str(self.process.pid),
                       "daemon_start_time": str(self.start)}
        command = [*wrapper, str(HOOK), "--run", str(self.run), "--server", server, *options,
                   "/tmp/x.tmp"]
        self.process.stdin.write(json.dumps([command, environment]) + "\n")
        self.process.stdin.flush()
        return Result(*json.loads(self.process.stdout.readline()))

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def agents(run):
    """The background processes that serve a run directory."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == bytes(HOOK) and bytes(run) in words:
            found.append(int(path.parent.name))
    return found


def no_agents(run):
    wait_for(lambda: not agents(run), 15, "the end of the background process")


class Stage(Workspace):
    """A stand-in for nologd; leaves no process behind."""

    def __init__(self):
        super().__init__("nolog-hook-")
        self.nologd = FakeNologd(self.run).start()

    def __exit__(self, *_):
        for pid in agents(self.run):
            os.kill(pid, signal.SIGKILL)
        self.nologd.stop()
        self.remove()

    def total(self, name="alice"):
        return tuple(self.nologd.usage.get(nolog.account(name), (0, 0)))

    def count(self, name):
        return len(self.nologd.named(name))


def test_a_session_is_reported_whoever_calls():
    with Stage() as s:
        call(s.run, connect()).good()
        assert len(s.nologd.open) == 1
        call(s.run, disconnect(trusted_ip="198.51.100.9")).good()
        assert s.nologd.records == [("nl-1", "10.8.0.2", (T + 1) * 1000, (T + 10) * 1000)]
        wait_for(lambda: s.total() == (7426, 7463))
        no_agents(s.run)


def test_an_end_without_a_start_is_a_whole_session():
    with Stage() as s:
        call(s.run, disconnect()).good()
        assert s.nologd.records == [("nl-1", "10.8.0.2", (T + 1) * 1000, (T + 10) * 1000)]
        assert s.count("SESSION") == 1


def test_the_session_ip_and_the_account_are_options():
    with Stage() as s:
        options = ("--session-ip", "client", "--account", "username")
        call(s.run, connect(username="bob"), *options).good()
        call(s.run, disconnect(username="bob"), *options).good()
        assert [r[1] for r in s.nologd.records] == ["203.0.113.77"]
        wait_for(lambda: s.total("bob") == (7426, 7463))
        assert s.total() == (0, 0)


def test_a_new_start_time_ends_the_sessions_of_the_old_one():
    with Stage() as s:
        call(s.run, connect()).good()
        call(s.run, connect(daemon_start_time=T + 60, time_unix=T + 70, daemon_pid=18360)).good()
        assert s.nologd.records == [("nl-1", "10.8.0.2", (T + 1) * 1000, (T + 60) * 1000)]
        assert len(s.nologd.open) == 1


def test_what_nologd_misses_while_it_is_away_it_gets_later_once_and_in_order():
    with Stage() as s, Server(s.run) as server:
        s.nologd.stop()
        for port in range(20):
            server.call(connect(untrusted_port=port)).good("no nologd in")
            server.call(disconnect(untrusted_port=port)).good("no nologd in")
        s.nologd.start()
        wait_for(lambda: s.count("USAGE") == 20 and len(s.nologd.records) == 20)
        assert s.nologd.open == {}
        assert s.count("SESSION") == 0, "out of order"
        assert s.total() == (20 * 7426, 20 * 7463)


def test_a_nologd_that_is_killed_between_two_hooks_is_found_again():
    with Stage() as s, Server(s.run) as server:
        server.call(connect()).good()
        s.nologd.stop()
        s.nologd.start()
        server.call(disconnect())
        wait_for(lambda: len(s.nologd.records) == 1 and s.total() == (7426, 7463))


def test_a_silent_nologd_costs_one_hook_a_moment_and_the_others_nothing():
    with Stage() as s, Server(s.run) as server:
        s.nologd.ack = False
        server.call(connect()).good("is slow")
        quick = min(server.call(connect(untrusted_port=p)).good("is slow").seconds
                    for p in range(5))
        assert quick < 0.1 * nolog.FACTOR, quick


def test_a_server_that_may_not_report_serves_its_clients():
    with Stage() as s, Server(s.run) as server:
        s.nologd.deny.add("nl-1")
        server.call(connect()).good("takes no reports of server nl-1")
        s.nologd.deny.clear()
        wait_for(lambda: len(s.nologd.open) == 1, 15, "the session, once it may be reported")


def test_a_refused_session_is_said_with_its_reason():
    with Stage() as s, Server(s.run) as server:
        s.nologd.refuse = lambda _, f: nolog.IP_NOT_ALLOWED if f.name == "START" else 0
        server.call(connect()).good("nologd refuses the session: address not allowed")


def test_what_answers_need_not_be_nologd():
    with Workspace() as w:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(w.run / "sessions.sock"))
            listener.listen()
            # Closed at once, or answered with a poem: no hook fails of it.
            call(w.run, connect())
            result = call(w.run, disconnect())
            assert result.status == 0 and result.seconds < SLOW
            for pid in agents(w.run):
                os.kill(pid, signal.SIGKILL)


def test_the_background_process_is_found_through_a_shell():
    with Stage() as s, Server(s.run) as server:
        server.call(connect(), wrapper=("/bin/sh", "-c", '"$@"; exit $?', "sh")).good()
        assert len(agents(s.run)) == 1
        server.call(disconnect()).good()
        assert s.count("RESTART") == 1, "not one process but two"


def test_the_background_process_keeps_nothing_of_the_hook_s():
    with Stage() as s, Server(s.run) as server:
        server.call(connect()).good()
        pid, = agents(s.run)
        proc = pathlib.Path(f"/proc/{pid}")
        if os.geteuid() == 0:
            assert not proc.joinpath("environ").read_bytes().strip(b"\0")
            assert os.readlink(proc / "cwd") == "/"
            files = [os.readlink(f) for f in (proc / "fd").iterdir()]
            assert not [f for f in files if f.startswith("pipe:")], files
            assert [f for f in files if f.startswith("/")] == ["/dev/null"] * 3, files
        status = dict(l.split(":\t", 1) for l in (proc / "status").read_text().splitlines())
        assert int(status["PPid"]) != server.process.pid
        assert os.getsid(pid) == pid
        assert sorted(os.listdir(s.run)) == ["sessions.sock", "usage.sock"]


def test_the_background_process_ends_after_its_server():
    with Stage() as s:
        with Server(s.run) as server:
            server.call(connect()).good()
            server.call(disconnect()).good()
            assert len(agents(s.run)) == 1
        no_agents(s.run)


def test_a_server_that_died_and_was_started_again_ends_its_sessions():
    with Stage() as s:
        with Server(s.run) as server:
            server.call(connect()).good()
        assert len(s.nologd.open) == 1
        with Server(s.run, T + 60) as server:
            server.call(connect(time_unix=T + 61)).good()
            assert s.nologd.records == [("nl-1", "10.8.0.2", (T + 1) * 1000, (T + 60) * 1000)]
            assert len(s.nologd.open) == 1
            assert len(agents(s.run)) == 1


def test_a_server_that_died_and_stays_dead_ends_its_sessions_when_it_died():
    with Stage() as s:
        start = int(time.time()) - 100
        with Server(s.run, start) as server:
            server.call(connect(time_unix=start + 1)).good()
            pid, = agents(s.run)
        died = time.time()
        time.sleep(0.05)
        os.kill(pid, signal.SIGTERM)  # the machine goes down: no ten minutes' grace
        no_agents(s.run)
        (_, _, begin, end), = s.nologd.records
        assert begin == (start + 1) * 1000
        assert abs(end / 1000 - died) < 2, (end, died)


def test_two_servers_with_one_id_are_told_so_and_end_nothing_of_each_other():
    with Stage() as s, Server(s.run) as one, Server(s.run, T + 60) as two:
        one.call(connect()).good()
        two.call(connect(time_unix=T + 61)).good("give each its own --server")
        assert len(s.nologd.open) == 2
        assert s.count("RESTART") == 1


def test_a_killed_background_process_costs_no_session():
    with Stage() as s, Server(s.run) as server:
        server.call(connect()).good()
        os.kill(agents(s.run)[0], signal.SIGKILL)
        no_agents(s.run)
        server.call(connect(untrusted_port=1)).good()
        assert len(s.nologd.open) == 2, "a live server's session was ended"
        server.call(disconnect()).good()
        server.call(disconnect(untrusted_port=1)).good()
        assert len(s.nologd.records) == 2 and not s.nologd.open
        wait_for(lambda: s.total() == (2 * 7426, 2 * 7463))


def status_text(rx, tx, start=T + 1):
    return ("TITLE,OpenVPN 2.6.14\nTIME,2026-11-22 08:49:07,1795337347\n"
            "HEADER,CLIENT_LIST,Common Name,Real Address,Virtual Address,Virtual IPv6 Address,"
            "Bytes Received,Bytes Sent,Connected Since,Connected Since (time_t),Username,"
            "Client ID,Peer ID,Data Channel Cipher\n"
            f"CLIENT_LIST,alice,203.0.113.77:46099,10.8.0.2,fd00:8::1000,{rx},{tx},"
            f"2026-11-22 08:49:01,{start},UNDEF,0,0,AES-256-GCM\nEND\n")


def test_bytes_are_reported_while_a_session_lasts():
    with Stage() as s, Server(s.run) as server:
        path = s.file("status", status_text(100, 200))
        options = ("--status", str(path), "--tick", "1s")
        server.call(connect(), *options).good()
        wait_for(lambda: s.total() == (100, 200))
        path.write_text(status_text(1000, 2000))
        wait_for(lambda: s.total() == (1000, 2000))
        server.call(disconnect(), *options).good()
        wait_for(lambda: s.total() == (7426, 7463))
        assert len({f.aux for f in s.nologd.named("USAGE")}) == 1, "one meter a session"


def test_nothing_is_counted_twice_when_the_background_process_is_killed():
    with Stage() as s, Server(s.run) as server:
        path = s.file("status", status_text(1000, 2000))
        options = ("--status", str(path), "--tick", "1s")
        server.call(connect(), *options).good()
        wait_for(lambda: s.total() == (1000, 2000))
        os.kill(agents(s.run)[0], signal.SIGKILL)
        no_agents(s.run)
        before = s.count("USAGE")
        server.call(connect(untrusted_port=1, ifconfig_pool_remote_ip="10.8.0.3"), *options).good()
        wait_for(lambda: s.count("USAGE") > before)  # the new one's baseline
        server.call(disconnect(), *options).good()
        wait_for(lambda: s.total() == (7426, 7463))


def test_the_last_figures_of_a_killed_server_count():
    with Stage() as s:
        path = s.file("status", status_text(100, 200))
        with Server(s.run) as server:
            server.call(connect(), "--status", str(path), "--tick", "12h").good()
            wait_for(lambda: s.total() == (100, 200))
            path.write_text(status_text(300, 400))
        wait_for(lambda: s.total() == (300, 400))


def test_a_status_file_that_cannot_be_read_costs_nothing_but_its_readings():
    with Stage() as s, Server(s.run) as server:
        options = ("--status", str(s.path / "none"), "--tick", "1s")
        server.call(connect(), *options).good()
        server.call(disconnect(), *options).good()
        wait_for(lambda: s.total() == (7426, 7463))


def test_somebody_else_s_socket_of_that_name_learns_nothing():
    if os.geteuid() != 0:
        nolog.skip("needs a second user")
    with Stage() as s, Server(s.run) as server:
        server.call(connect()).good()
        agent = agents(s.run)[0]
        inodes = {os.readlink(fd) for fd in pathlib.Path(f"/proc/{agent}/fd").iterdir()}
        name, = [l.split()[-1] for l in open("/proc/net/unix", encoding="ascii")
                 if "@nolog-openvpn-" in l and l.split()[5] == "01" and
                 f"socket:[{l.split()[6]}]" in inodes]
        os.kill(agent, signal.SIGKILL)
        no_agents(s.run)
        squatter = subprocess.Popen(
            [sys.executable, "-c", "import os, socket, sys\nos.setuid(65534)\n"
             "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
             "s.bind('\\0' + sys.argv[1][1:]); s.listen(); print('ready', flush=True)\n"
             "s.settimeout(20)\nc, _ = s.accept(); print(len(c.recv(4096)), flush=True)\n", name],
            stdout=subprocess.PIPE, text=True)
        assert squatter.stdout.readline() == "ready\n"
        server.call(disconnect()).good()
        assert squatter.stdout.readline() == "0\n", "it was told something"
        assert len(s.nologd.records) == 1
        squatter.wait()
        squatter.stdout.close()


def test_a_slip_in_the_configuration_is_said_and_shuts_nobody_out():
    with Stage() as s:
        for options in (("--session-ip", "pol"), ("--tick", "5"), ("--tick", "1ms"), ("--nonsense",),
                        ("--account", "cn"), ("--status", "")):
            call(s.run, connect(), *options).good("openvpn: ")
        for server in ("", "NL", "a" * 17, "a b"):
            call(s.run, connect(), server=server).good("--server is 1 to 16")
        call("/x" * 60, connect()).good("too long")
        call(s.run, connect(script_type="learn-address")).good("client-connect")
        call(s.run, connect(time_unix="never")).good("time_unix")
        assert not s.nologd.events


def test_a_line_on_standard_error_names_no_client():
    with Stage() as s:
        for changes in ({"trusted_ip": "x"}, {"untrusted_ip": "203.0.113.77 "},
                        {"ifconfig_pool_remote_ip": "10.8.0.2/24"}, {"time_unix": "1795337341x"},
                        {"common_name": "alice" * 1000}):
            err = call(s.run, connect(**changes), "--session-ip", "client").good("nothing OpenVPN").err
            for word in ("alice", "203.0.113.77", "10.8.0.2", "1795337341"):
                assert word not in err, err
        err = call(s.run, connect(common_name="")).good("bytes are not counted").err
        assert "alice" not in err


def typed(*options):
    env = {k: v for k, v in os.environ.items() if k != "script_type"}
    return subprocess.run([HOOK, *options], env=env, capture_output=True, text=True, check=False)


def test_typed_by_somebody_it_says_what_is_wrong_and_fails():
    for options in ((), ("--server",), ("--server", "NL"), ("--nonsense",), ("--server", "a")):
        done = typed(*options)
        assert done.returncode == 2 and done.stderr and not done.stdout, (options, done)
    for option in ("--help", "--version"):
        done = typed(option)
        assert done.returncode == 0 and "nolog-openvpn" in done.stdout and not done.stderr, done


def test_check_tries_everything_and_changes_nothing():
    with Stage() as s:
        base = ("--run", str(s.run), "--server", "nl-1", "--check")
        assert typed(*base).returncode == 0
        path = s.file("status", status_text(1, 2))
        done = typed(*base, "--status", str(path))
        assert done.returncode == 0 and "1 clients" in done.stdout, done
        path.write_text("OpenVPN CLIENT LIST\nEND\n")
        assert "version 2 or 3" in typed(*base, "--status", str(path)).stderr
        assert typed(*base, "--status", str(path / "none")).returncode == 1
        s.nologd.deny.add("nl-1")
        assert typed(*base).returncode == 1
        s.nologd.stop()
        done = typed(*base)
        assert done.returncode == 1 and "no nologd there" in done.stderr, done
        assert not s.nologd.events and not agents(s.run)


if __name__ == "__main__":
    nolog.main()
