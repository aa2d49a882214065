#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
# tests/run: timeout=600
"""A real OpenVPN server reports to a real nologd.

Server and clients live in network namespaces of their own.  What OpenVPN says
of its sessions (its status file, and the variables of its hooks) is what
look-up and quota must say, to the second and the byte; and what it says of its
users must lie nowhere.

Needs root, OpenVPN 2.6, openssl, iproute2 and /dev/net/tun; else it is skipped.
"""

import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import nolog  # noqa: E402  pylint: disable=wrong-import-position
from nolog import wait_for  # noqa: E402  pylint: disable=wrong-import-position

SERVER = "ovpn-test"
CONFIG = "[usage]\ntick = 50ms\n[clock]\ntrust = always\n"


def missing():
    """Why this cannot run here, or None."""
    if os.geteuid() != 0:
        return "needs root (network namespaces)"
    for tool in ("openvpn", "openssl", "ip"):
        if not shutil.which(tool):
            return f"needs {tool}"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    name = f"nolog-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "cannot make a network namespace"
    # ip(8) also remounts what it sees there, which not every container or chroot allows.
    inside = subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], capture_output=True,
                            check=False).returncode == 0
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None if inside else "cannot work in a network namespace"


def run(*command, **kwargs):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False,
                          **kwargs)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


class Network:
    """A namespace for the server, and one for each client, on a wire of its own."""

    def __init__(self, clients):
        self.id = f"{os.getpid() % 100000:x}"
        self.server = f"nolog-s-{self.id}"
        self.names = {c: f"nolog-{c}-{self.id}" for c in clients}
        # Where clients come from: somewhere that nothing else on this machine has.
        self.prefix = {c: f"10.{secrets.randbelow(64) + 150}.{secrets.randbelow(256)}"
                       for c in clients}

    def __enter__(self):
        try:
            for name in (self.server, *self.names.values()):
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            for number, (client, name) in enumerate(self.names.items()):
                a, b = f"ns{self.id}{number}", f"nc{self.id}{number}"
                run("ip", "link", "add", a, "netns", self.server, "type", "veth", "peer", "name",
                    b, "netns", name)
                for ns, link, host in ((self.server, a, 1), (name, b, 77)):
                    run("ip", "-n", ns, "addr", "add", f"{self.prefix[client]}.{host}/24", "dev",
                        link)
                    run("ip", "-n", ns, "link", "set", link, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in (self.server, *self.names.values()):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def link(self, client):
        return f"nc{self.id}{list(self.names).index(client)}"

    def roam(self, client, old, new):
        """The client comes from another address from now on."""
        name, link, prefix = self.names[client], self.link(client), self.prefix[client]
        run("ip", "-n", name, "addr", "add", f"{prefix}.{new}/24", "dev", link)
        run("ip", "-n", name, "addr", "del", f"{prefix}.{old}/24", "dev", link)
        # It was secondary: it may have gone with the first one.
        subprocess.run(["ip", "-n", name, "addr", "replace", f"{prefix}.{new}/24", "dev", link],
                       capture_output=True, check=False)

    def talk(self, client, count=10, size=1000):
        """Traffic within the tunnel."""
        run("ip", "netns", "exec", self.names[client], sys.executable, "-c",
            "import socket, sys, time\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "for _ in range(int(sys.argv[1])):\n"
            "    s.sendto(bytes(int(sys.argv[2])), ('10.8.0.1', 9))\n"
            "    time.sleep(0.02)\n", count, size)


def make_keys(directory, names):
    """A CA, and a certificate for the server and for each name."""
    def openssl(*args):
        run("openssl", *args, cwd=directory)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test-ca",
            "-days", "30")
    for file, name in (("server", "server"), *names.items()):
        usage = "serverAuth" if file == "server" else "clientAuth"
        (directory / "ext").write_text(f"keyUsage=digitalSignature\nextendedKeyUsage={usage}\n")
        openssl("req", *new_key, "-keyout", f"{file}.key", "-out", f"{file}.csr", "-subj",
                f"/CN={name}")
        openssl("x509", "-req", "-in", f"{file}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", f"{file}.crt", "-days", "30", "-extfile", "ext")


class OpenVPN:
    """The server, its clients, and what they say."""

    def __init__(self, directory, network, names, run_dir, where):
        """where the hook has the status file from: its options, or the server's config or line."""
        self.dir, self.net, self.names = directory, network, names
        self.hooks = directory / "hooks"
        self.hooks.mkdir()
        self.status = directory / "status"
        self.process = None
        self.clients = {}
        make_keys(directory, names)
        options = f"--run {run_dir} --server {SERVER}"
        if where == "option":
            options += f" --status {self.status} --tick 1s"
        self.arguments = ["--status", "status", "1"] if where == "line" else []
        # What OpenVPN says to the hook is kept for comparison: whole files only.
        hook = directory / "hook"
        hook.write_text(
            "#!/bin/sh\n"
            f"env >{self.hooks}/.$$ && mv {self.hooks}/.$$ {self.hooks}/$script_type.$$\n"
            f"{nolog.program('nolog-openvpn')} {options} \"$@\" 2>>{directory}/hook.err\n"
            f"echo $? >>{directory}/hook.exit\n")
        hook.chmod(0o755)
        (directory / "server.conf").write_text(
            "mode server\ntls-server\nserver 10.8.0.0 255.255.255.0\ntopology subnet\ndev tun\n"
            "proto udp\nport 1194\nfloat\nca ca.crt\ncert server.crt\nkey server.key\ndh none\n"
            "keepalive 1 4\nscript-security 2\nduplicate-cn\n"
            f"client-connect {hook}\nclient-disconnect {hook}\n"
            "status-version 3\nverb 4\n" + ("" if where == "line" else "status status 1\n"))

    def start(self):
        with open(self.dir / "server.log", "ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.net.server, "openvpn", "--cd", str(self.dir),
                 "--config", "server.conf", *self.arguments], stdout=log, stderr=log)
        wait_for(lambda: b"Initialization Sequence Completed" in self.log(begin), 20,
                 "OpenVPN's start")

    def log(self, begin=0):
        return (self.dir / "server.log").read_bytes()[begin:]

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def connect(self, client):
        """Connects a client, and returns its line of the status file."""
        (self.dir / f"{client}.conf").write_text(
            f"client\ndev tun\nproto udp\nremote {self.net.prefix[client]}.1 1194\nca ca.crt\n"
            f"cert {client}.crt\nkey {client}.key\nremote-cert-tls server\nverb 3\n"
            "explicit-exit-notify 1\nconnect-retry 1 2\n")
        path = self.dir / f"{client}.log"
        with open(path, "wb") as log:
            self.clients[client] = subprocess.Popen(
                ["ip", "netns", "exec", self.net.names[client], "openvpn", "--cd", str(self.dir),
                 "--config", f"{client}.conf"], stdout=log, stderr=log)
        wait_for(lambda: b"Initialization Sequence Completed" in path.read_bytes(), 30,
                 f"{client}'s connection")
        return wait_for(lambda: self.line(client), 10, f"{client} in the status file")

    def stop(self, client, number):
        process = self.clients.pop(client)
        process.send_signal(number)
        process.wait()

    def lines(self):
        """The clients in the status file, each a dictionary by the file's own titles."""
        titles, found = [], []
        for line in self.status.read_text().splitlines():
            fields = line.split("\t")
            if fields[:2] == ["HEADER", "CLIENT_LIST"]:
                titles = fields[2:]
            elif fields[0] == "CLIENT_LIST" and len(fields) == len(titles) + 1:
                found.append(dict(zip(titles, fields[1:])))
        return found

    def line(self, client):
        return next((f for f in self.lines() if f["Common Name"] == self.names[client]), None)

    def hook(self, kind, client, count=1):
        """The variables of the count-th call of a hook for a client, once it has been made."""
        def calls():
            found = []
            for path in self.hooks.glob(f"{kind}.*"):
                env = dict(l.split("=", 1) for l in path.read_text().splitlines() if "=" in l)
                if env["common_name"] == self.names[client]:
                    found.append((path.stat().st_mtime_ns, env))
            found.sort(key=lambda f: f[0])
            return [env for _, env in found]

        return wait_for(lambda: (calls()[count - 1:] or [None])[0], 30, f"{kind} of {client}")

    def end(self):
        for process in (*self.clients.values(), self.process):
            if process and process.poll() is None:
                process.kill()
                process.wait()


class Accounts:
    """What nologd says, through nologctl."""

    def __init__(self, daemon):
        self.daemon = daemon

    def sessions(self):
        """{(address, start): end}, end None while open; of the whole server."""
        answer = self.daemon.ctl("lookup", "--server", SERVER, json_=True)
        return {(r["ip"], r["start"]): r["end"] for r in answer.json}

    def total(self, name):
        answer = self.daemon.ctl("quota", json_=True, stdin=name, expect=0).json[0]
        return answer["rx"], answer["tx"]


def stamp(seconds):
    """Unix seconds as look-up prints them."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(int(seconds)))


def key(line):
    return line["Virtual Address"], stamp(line["Connected Since (time_t)"])


def figures(env):
    return int(env["bytes_received"]), int(env["bytes_sent"])


def ending(env):
    return stamp(int(env["time_unix"]) + int(env["time_duration"]))


def add(*pairs):
    return sum(p[0] for p in pairs), sum(p[1] for p in pairs)


class Stage:
    """Everything together, and all of it gone at the end."""

    def __init__(self, where):
        self.where = where

    def __enter__(self):
        self.work = nolog.Workspace("nolog-ovpn-")
        tag = secrets.token_hex(6)
        self.names = {c: f"canary-{c}-{tag}" for c in ("ann", "bob")}
        self.net = Network(self.names)
        self.daemon = self.vpn = None
        try:
            self.net.__enter__()
            self.daemon = nolog.Daemon(self.work.state, self.work.run, CONFIG).start()
            self.accounts = Accounts(self.daemon)
            directory = self.work.path / "openvpn"
            directory.mkdir()
            self.vpn = OpenVPN(directory, self.net, self.names, self.work.run,
                               self.where)
            self.vpn.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.vpn:
            self.vpn.end()
            self.end_agents()
        if self.daemon and self.daemon.process and self.daemon.process.poll() is None:
            self.daemon.kill9()
        self.net.__exit__()
        self.work.remove()

    def agents(self):
        """The background processes of this stage."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if b"nolog-openvpn" in words and bytes(self.work.run) in words:
                found.append(int(path.parent.name))
        return found

    def end_agents(self):
        for pid in self.agents():
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not self.agents(), 20, "the end of the background process")

    def ends(self, session, end):
        """Waits until a session is finished, and compares."""
        found = wait_for(lambda: self.accounts.sessions().get(session), 20, f"the end of {session}")
        assert found == end, f"{session} ends at {found}, not at {end}"

    def totals(self, client, want):
        got = None

        def same():
            nonlocal got
            got = self.accounts.total(self.names[client])
            return got == want
        try:
            wait_for(same, 10)
        except nolog.Timeout:
            raise AssertionError(f"{client}'s total is {got}, not {want}") from None


def both_connect(s):
    ann, bob = s.vpn.connect("ann"), s.vpn.connect("bob")
    assert s.accounts.sessions() == {key(ann): None, key(bob): None}
    return key(ann), key(bob)


def usage_grows_while_a_session_lasts(s):
    """At some moment the total is what the status file says, and it is not the first."""
    s.net.talk("ann")
    seen = set()

    def matches():
        line = s.vpn.line("ann")
        if line:
            seen.add((int(line["Bytes Received"]), int(line["Bytes Sent"])))
        return s.accounts.total(s.names["ann"]) in seen - {(0, 0)}

    wait_for(matches, 15, "ann's total as in the status file")
    before = s.accounts.total(s.names["ann"])
    s.net.talk("ann")
    wait_for(lambda: s.accounts.total(s.names["ann"])[0] > before[0] + 5000, 15, "growing total")


def one_leaves(s, bob):
    s.vpn.stop("bob", signal.SIGTERM)
    env = s.vpn.hook("client-disconnect", "bob")
    s.ends(bob, ending(env))
    s.totals("bob", figures(env))
    return figures(env)


def one_roams_and_is_killed(s, ann):
    old = s.vpn.line("ann")["Real Address"]
    s.net.roam("ann", 77, 99)
    s.net.talk("ann")
    wait_for(lambda: s.vpn.line("ann")["Real Address"] != old, 10, "roaming in the status file")
    assert s.accounts.sessions()[ann] is None
    s.vpn.stop("ann", signal.SIGKILL)
    env = s.vpn.hook("client-disconnect", "ann")
    assert env["trusted_ip"] != env["untrusted_ip"], "it has not roamed"
    s.ends(ann, ending(env))
    s.totals("ann", figures(env))
    return figures(env)


def a_session_ends_while_nologd_is_away(s, bob_before):
    bob = key(s.vpn.connect("bob"))
    s.net.talk("bob")
    s.daemon.kill9()
    s.vpn.stop("bob", signal.SIGTERM)
    env = s.vpn.hook("client-disconnect", "bob", 2)
    # And one that begins and ends in the meantime.
    other = s.vpn.connect("ann")
    s.vpn.stop("ann", signal.SIGTERM)
    env2 = s.vpn.hook("client-disconnect", "ann", 2)
    s.daemon.start()
    s.ends(bob, ending(env))
    s.ends(key(other), ending(env2))
    bob_before = add(bob_before, figures(env))
    s.totals("bob", bob_before)
    return bob_before, figures(env2)


def the_server_is_killed_and_comes_back(s, bob_before):
    bob = s.vpn.connect("bob")
    s.net.talk("bob")
    # The last figures that anybody will know.
    s.vpn.kill9()
    last = s.vpn.line("bob")
    s.vpn.stop("bob", signal.SIGKILL)
    s.totals("bob", add(bob_before, (int(last["Bytes Received"]), int(last["Bytes Sent"]))))
    assert s.accounts.sessions()[key(bob)] is None, "ended by nobody"
    time.sleep(1.1)  # a server's start is a whole second, and this one is to be another
    s.vpn.start()
    ann = key(s.vpn.connect("ann"))
    env = s.vpn.hook("client-connect", "ann", 3)
    s.ends(key(bob), stamp(env["daemon_start_time"]))
    assert s.accounts.sessions()[ann] is None
    return ann


def everything_ends_with_the_server(s, ann, ann_before):
    s.vpn.process.terminate()
    s.vpn.process.wait()
    env = s.vpn.hook("client-disconnect", "ann", 3)
    s.ends(ann, ending(env))
    s.totals("ann", add(ann_before, figures(env)))
    wait_for(lambda: not s.agents(), 15, "the end of the background process")


def nobody_is_to_be_found(s):
    """Neither in the state, live and at rest, nor in a log: names, addresses, handles of users."""
    exits = set((s.vpn.dir / "hook.exit").read_text().split())
    assert exits == {"0"}, f"hooks ended with {exits}"
    canaries = [*s.names.values()]
    for prefix in s.net.prefix.values():
        canaries += [f"{prefix}.77", f"{prefix}.99"]
    canaries += ["10.8.0.2", "10.8.0.3"]
    planted = s.work.path / "planted"
    planted.mkdir()
    (planted / "x").write_bytes(b"\0" + nolog.traces(canaries[0])["account"])
    assert nolog.find_traces(planted, canaries), "the search finds nothing at all"
    for path in (s.work.state, s.daemon.log_path, s.vpn.dir / "hook.err"):
        assert not nolog.find_traces(path, canaries), nolog.find_traces(path, canaries)
    s.daemon.term()
    for path in (s.work.state, s.daemon.log_path):
        assert not nolog.find_traces(path, canaries), nolog.find_traces(path, canaries)


def everything(s):
    ann, bob = both_connect(s)
    usage_grows_while_a_session_lasts(s)
    bob_total = one_leaves(s, bob)
    ann_total = one_roams_and_is_killed(s, ann)
    bob_total, more = a_session_ends_while_nologd_is_away(s, bob_total)
    ann_total = add(ann_total, more)
    s.totals("ann", ann_total)
    ann = the_server_is_killed_and_comes_back(s, bob_total)
    everything_ends_with_the_server(s, ann, ann_total)
    nobody_is_to_be_found(s)


def test_openvpn_s_sessions_and_bytes_are_nologd_s_to_the_second_and_the_byte():
    with Stage("option") as s:
        everything(s)


def test_the_same_with_nothing_but_run_and_server_on_the_hook_s_command_line():
    with Stage("config") as s:
        everything(s)


def test_a_status_file_on_openvpn_s_command_line_is_found():
    with Stage("line") as s:
        s.vpn.connect("bob")
        s.net.talk("bob")
        wait_for(lambda: s.accounts.total(s.names["bob"])[0] > 5000, 15, "bob's total")
        s.vpn.kill9()
        last = s.vpn.line("bob")
        s.vpn.stop("bob", signal.SIGKILL)
        s.totals("bob", (int(last["Bytes Received"]), int(last["Bytes Sent"])))
        assert not (s.vpn.dir / "hook.err").read_text()


if __name__ == "__main__":
    why = missing()
    if why:
        nolog.skip(why)
    nolog.main()
