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
import struct
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
BLIND = "no status file of OpenVPN's can be read"
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
        """A hook never fails and never takes long; line is in its one line, or it says nothing.

        Besides, the first of a server without a status file says that there is none.
        """
        assert self.status == 0, (self.status, self.err)
        assert self.seconds < SLOW, self.seconds
        said = [l for l in self.err.splitlines() if BLIND not in l]
        if not line:
            assert not said, self.err
        else:
            assert len(said) == 1 and line in said[0], self.err
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

    def __init__(self, run, start=T, arguments=()):
        self.run, self.start = run, start
        self.process = subprocess.Popen([sys.executable, "-c", CALLER, *map(str, arguments)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def call(self, environment, *options, wrapper=(), server="nl-1"):
        self.begin(environment, *options, wrapper=wrapper, server=server)
        return Result(*json.loads(self.process.stdout.readline()))

    def begin(self, environment, *options, wrapper=(), server="nl-1"):
        """The same, but does not wait for the hook's end."""
        environment = {**environment, "daemon_pid": str(self.process.pid),
                       "daemon_start_time": str(self.start)}
        command = [*wrapper, str(HOOK), "--run", str(self.run), "--server", server, *options,
                   "/tmp/x.tmp"]
        self.process.stdin.write(json.dumps([command, environment]) + "\n")
        self.process.stdin.flush()

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

    @property
    def records(self):
        return self.nologd.records

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


def test_an_event_of_a_hook_in_the_background_counts_once():
    with Stage() as s, Server(s.run) as server:
        path = s.file("status", status_text(5000, 6000))
        options = ("--status", str(path), "--tick", "1s")
        server.call(connect(), *options).good()
        wait_for(lambda: s.total() == (5000, 6000))
        server.call(disconnect(), *options,
                    wrapper=("/bin/sh", "-c", '(sleep 0.2; "$@") >/dev/null 2>&1 &', "sh"))
        wait_for(lambda: s.records)
        wait_for(lambda: s.total() == (7426, 7463))
        assert len({f.aux for f in s.nologd.named("USAGE")}) == 1, "counted by two"


def test_an_event_of_a_server_that_is_killed_while_its_hook_runs_counts_once():
    with Stage() as s, Server(s.run) as server:
        path = s.file("status", status_text(5000, 6000))
        options = ("--status", str(path), "--tick", "1s")
        server.call(connect(), *options).good()
        wait_for(lambda: s.total() == (5000, 6000))
        server.begin(disconnect(), *options, wrapper=("/bin/sh", "-c", 'sleep 0.5; "$@"', "sh"))
        time.sleep(0.2)
        server.kill()
        wait_for(lambda: s.records)
        assert s.records == [("nl-1", "10.8.0.2", (T + 1) * 1000, (T + 10) * 1000)]
        wait_for(lambda: s.total() == (7426, 7463))
        assert len({f.aux for f in s.nologd.named("USAGE")}) == 1, "counted by two"
        no_agents(s.run)


def test_bytes_that_a_process_that_is_gone_may_have_counted_are_left_out():
    with Stage() as s, Server(s.run) as server:
        path = s.file("status", status_text(5000, 6000))
        options = ("--status", str(path), "--tick", "1s")
        server.call(connect(), *options).good()
        wait_for(lambda: s.total() == (5000, 6000))
        os.kill(agents(s.run)[0], signal.SIGKILL)
        no_agents(s.run)
        environment = {**disconnect(), "daemon_pid": str(server.process.pid)}
        call(s.run, environment, *options).good("are left out")
        assert len(s.records) == 1
        wait_for(lambda: s.count("USAGE") == 2)
        assert s.total() == (5000, 6000)


def agent_address(run):
    """The name, in the abstract namespace, that hooks find the background process by."""
    agent, = agents(run)
    inodes = {os.readlink(fd) for fd in pathlib.Path(f"/proc/{agent}/fd").iterdir()}
    name, = [l.split()[-1] for l in open("/proc/net/unix", encoding="ascii")
             if "@nolog-openvpn-" in l and l.split()[5] == "01" and
             f"socket:[{l.split()[6]}]" in inodes]
    return "\0" + name[1:]


def say_in_another_version(run):
    """What a program that was upgraded while the server ran says; what comes back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(5)
        s.connect(agent_address(run))
        s.send(struct.pack("<Q", 0x6e6f766effffffff) + bytes(2000))
        return s.recv(100)


def test_an_upgraded_program_takes_over_and_counts_nothing_twice():
    if os.geteuid() != 0:
        nolog.skip("needs root to see the background process's sockets")
    with Stage() as s, Server(s.run) as server:
        path = s.file("status", status_text(5000, 6000))
        options = ("--status", str(path), "--tick", "1s")
        server.call(connect(), *options).good()
        wait_for(lambda: s.total() == (5000, 6000))
        assert say_in_another_version(s.run) == b""
        no_agents(s.run)
        # The new one does not know the session; what it had so far is counted already.
        other = {"untrusted_port": 1, "ifconfig_pool_remote_ip": "10.8.0.3"}
        server.call(connect(**other), *options).good()
        wait_for(lambda: s.count("USAGE") == 3)  # first, last, the new one's baseline
        assert len(agents(s.run)) == 1
        server.call(disconnect(), *options).good()
        wait_for(lambda: s.total() == (7426, 7463))
        server.call(disconnect(**other), *options).good()
        wait_for(lambda: s.total() == (2 * 7426, 2 * 7463))
        assert len(s.records) == 2 and not s.nologd.open


def test_an_upgrade_while_nologd_is_away_loses_nothing():
    if os.geteuid() != 0:
        nolog.skip("needs root to see the background process's sockets")
    with Stage() as s, Server(s.run) as server:
        server.call(connect()).good()
        s.nologd.stop()
        server.call(disconnect()).good("no nologd in")
        assert say_in_another_version(s.run) == b""
        assert len(agents(s.run)) == 1, "it has something to tell"
        s.nologd.start()
        wait_for(lambda: s.total() == (7426, 7463) and len(s.records) == 1)


def test_the_status_file_is_found_on_the_server_s_command_line():
    with Stage() as s:
        path = s.file("status", status_text(100, 200))
        with Server(s.run, arguments=("--status", path, "1")) as server:
            result = server.call(connect()).good()
            assert BLIND not in result.err
            wait_for(lambda: s.total() == (100, 200))
            path.write_text(status_text(1000, 2000))
            wait_for(lambda: s.total() == (1000, 2000), 5, "a tick as often as OpenVPN's")
            path.write_text(status_text(3000, 4000))
        wait_for(lambda: s.total() == (3000, 4000))
        assert len({f.aux for f in s.nologd.named("USAGE")}) == 1


def test_the_option_wins_over_the_server_s_own_status_file():
    with Stage() as s:
        path = s.file("status", status_text(100, 200))
        other = s.file("other", status_text(1, 2))
        with Server(s.run, arguments=("--status", other, "1")) as server:
            server.call(connect(), "--status", str(path)).good()
            wait_for(lambda: s.total() == (100, 200))


def test_that_there_is_no_status_file_is_said_once():
    with Stage() as s, Server(s.run) as server:
        said = [BLIND in server.call(connect(untrusted_port=p)).good().err for p in range(3)]
        said += [BLIND in server.call(disconnect(untrusted_port=p)).good().err for p in range(3)]
        assert said == [True] + [False] * 5, said
        wait_for(lambda: s.total() == (3 * 7426, 3 * 7463))
    # Of version 1, which is noticed a moment after.
    with Stage() as s:
        path = s.file("status", "OpenVPN CLIENT LIST\nUpdated,2026-11-22 08:49:07\nEND\n")
        with Server(s.run) as server:
            options = ("--status", str(path), "--tick", "1s")
            server.call(connect(), *options)
            wait_for(lambda: BLIND in server.call(connect(), *options).err)
            assert BLIND not in server.call(connect(), *options).err


def test_sessions_are_alive_while_they_stand_in_the_status_file():
    with Stage() as s, Server(s.run) as server:
        path = s.file("status", status_text(100, 200))
        options = ("--status", str(path), "--tick", "1s")
        server.call(connect(), *options).good()
        first = s.nologd.wait_event("ALIVE")[0]
        again = s.nologd.wait_event("ALIVE", 2)[1]
        assert abs(first.at / 1000 - time.time()) < 10 and again.at > first.at
        # nologd thought it had ended, as after a long silence.
        with s.nologd.lock:
            s.nologd.open.clear()
        wait_for(lambda: len(s.nologd.open) == 1)
        assert next(iter(s.nologd.open.values())).start == (T + 1) * 1000
        server.call(disconnect(), *options).good()
        count = s.count("ALIVE")
        time.sleep(1.5)
        assert s.count("ALIVE") <= count + 1


def test_bytes_that_nologd_has_no_room_for_are_said_once_and_counted_later():
    with Stage() as s, Server(s.run) as server:
        full = True
        s.nologd.refuse = lambda _, f: nolog.OVER_CAPACITY if f.name == "USAGE" and full else 0
        server.call(connect()).good()
        # Its own bytes may be refused before it is answered, or a moment after.
        said = [server.call(disconnect()).err]
        s.nologd.wait_event("USAGE")

        def heard():
            said.append(server.call(connect(untrusted_port=1)).err)
            return any("over capacity" in err for err in said)
        wait_for(heard)
        said += [server.call(connect(untrusted_port=p)).err for p in (2, 3)]
        assert sum("over capacity" in err for err in said) == 1, said
        full = False
        wait_for(lambda: s.total() == (7426, 7463), 15, "another try")


def test_closed_standard_descriptors_cost_nothing():
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        with Stage() as s, Server(s.run) as server:
            wrapper = ("/bin/sh", "-c", f'"$@" {closed}', "sh")
            server.call(connect(), wrapper=wrapper).good()
            pid, = agents(s.run)
            time.sleep(0.3)
            ticks = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
            assert sum(map(int, ticks)) < 15, (closed, ticks)
            server.call(disconnect(), wrapper=wrapper).good()
            assert agents(s.run) == [pid], closed
            assert len(s.records) == 1, closed
            wait_for(lambda: s.total() == (7426, 7463))


def in_memory(pid, needles):
    """Which of some byte strings lie in a process's memory, and where: name -> places."""
    found = {}
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, \
            open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            words = line.split()
            begin, end = (int(x, 16) for x in words[0].split("-"))
            place = words[5] if len(words) > 5 else "anonymous"
            if "r" not in words[1] or place in ("[vvar]", "[vsyscall]", "[vdso]"):
                continue
            memory.seek(begin)
            try:
                data = memory.read(end - begin)
            except OSError:
                continue
            for name, needle in needles.items():
                if needle in data:
                    found.setdefault(name, []).append(place)
    return found


def canary_environment(function, number=0):
    address = f"203.0.113.{201 + number}"
    return function(common_name=f"canaryname-zq81x{number}", X509_0_CN="canaryname-zq81x",
                    ifconfig_pool_remote_ip=f"10.77.66.{55 + number}", untrusted_ip=address,
                    trusted_ip=address)


def canaries(number=0):
    """What of a client must not stay in memory, as text and as it goes over sockets."""
    name, pool, address = (canary_environment(connect, number)[k] for k in
                           ("common_name", "ifconfig_pool_remote_ip", "trusted_ip"))
    packed = {k: bytes(10) + b"\xff\xff" + socket.inet_aton(a)
              for k, a in (("pool", pool), ("address", address))}
    return {"name": b"canaryname-zq81x", "account": nolog.account(name), "pool text": pool.encode(),
            "address text": address.encode(), "environment": b"X509_0_CN", **packed}


def test_what_nologd_has_is_nowhere_in_memory_any_more():
    if os.geteuid() != 0:
        nolog.skip("needs root to read the background process's memory")
    if b"__asan_init" in pathlib.Path(HOOK).read_bytes():
        nolog.skip("a sanitizer keeps copies of the environment and of the stack")
    for with_file in (False, True):
        with Stage() as s, Server(s.run) as server:
            text = status_text(100, 200).replace("alice", "canaryname-zq81x0")
            path = s.file("status", text.replace("10.8.0.2", "10.77.66.55")
                          .replace("203.0.113.77", "203.0.113.201"))
            options = ("--status", str(path), "--tick", "1s") if with_file else ()
            server.call(canary_environment(connect), *options).good()
            pid, = agents(s.run)
            if with_file:
                wait_for(lambda: s.total("canaryname-zq81x0") == (100, 200))
                # Between two reads it knows the session, and no name.
                time.sleep(0.3)
                assert "name" not in in_memory(pid, canaries())
            assert "pool" in in_memory(pid, canaries()), "the search finds nothing at all"
            for number in range(1, 4):
                server.call(canary_environment(connect, number), *options).good()
                server.call(canary_environment(disconnect, number), *options).good()
            server.call(canary_environment(disconnect), *options).good()
            path.write_text(status_text(1, 2).replace("CLIENT_LIST,alice", "X"))
            for number in range(4):
                wait_for(lambda n=number: s.total(f"canaryname-zq81x{n}") == (7426, 7463))
            needles = {f"{k} {n}": v for n in range(4) for k, v in canaries(n).items()}
            wait_for(lambda n=needles: not in_memory(pid, n), 5,
                     f"forgetting; left is {in_memory(pid, needles)}")


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
        name = agent_address(s.run)
        os.kill(agents(s.run)[0], signal.SIGKILL)
        no_agents(s.run)
        squatter = subprocess.Popen(
            [sys.executable, "-c", "import os, socket, sys\nos.setuid(65534)\n"
             "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
             "s.bind('\\0' + sys.argv[1]); s.listen(); print('ready', flush=True)\n"
             "s.settimeout(20)\nc, _ = s.accept(); print(len(c.recv(4096)), flush=True)\n", name[1:]],
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
