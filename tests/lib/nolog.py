# SPDX-License-Identifier: ISC
"""What the system tests share: nologd's wire and its processes.

    Frame      packs and unpacks every 64-byte frame of nolog-frame(5), from a
               table of its own: it shares no line with the C code it tests
    Conn       one connection: HELLO, events and their acknowledgement, look-up,
               quota, status; raw bytes for those who mean to be rude
    Daemon     a real nologd in the foreground: started, ready, killed, ended
    ctl        runs nologctl
    Workspace  a temporary directory with state and run directories in it

fakenologd.py has a stand-in for nologd, for tests of reporters.  Only the
standard library is used.  Nothing here sleeps for a fixed time: every
wait is for a condition, with a limit.

The environment chooses what is tested:
    NOLOGD_BUILD    the build directory (default: build/ of this tree)
    NOLOGD_TIMEOUT  factor for every time limit (default 1; slow machines: more)
"""

import contextlib
import hashlib
import ipaddress
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NOLOGD_BUILD", ROOT / "build")).resolve()
FACTOR = float(os.environ.get("NOLOGD_TIMEOUT", "1"))

SOCKETS = ("sessions.sock", "usage.sock", "lookup.sock", "quota.sock", "admin.sock")

# --- Frames -----------------------------------------------------------------

SIZE = 64
VERSION = 1
HEADER = struct.Struct("<BBHIQ")

# name: (number, body format, body fields)
FRAMES = {
    "HELLO": (0x01, "<16sQ", ("server", "stream")),
    "START": (0x10, "<Qq16s", ("handle", "start", "ip")),
    "END": (0x11, "<Qq", ("handle", "end")),
    "SESSION": (0x12, "<qq16s", ("start", "end", "ip")),
    "ALIVE": (0x13, "<Qq", ("handle", "at")),
    "RESTART": (0x14, "<q", ("at",)),
    "USAGE": (0x18, "<32sQQ", ("account", "rx", "tx")),
    "LOOKUP": (0x20, "<16s16sqq", ("ip", "server", "from_", "to")),
    "QUOTA": (0x30, "<32s", ("account",)),
    "STATUS": (0x40, "<", ()),
    "ACK": (0x80, "<", ()),
    "WELCOME": (0x81, "<q", ("now",)),
    "REFUSED": (0x8F, "<", ()),
    "RECORD": (0xA0, "<16s16sqq", ("ip", "server", "start", "end")),
    "DONE": (0xA1, "<Q", ("count",)),
    "TOTAL": (0xB0, "<QQqI", ("rx", "tx", "resets", "month")),
    "METRIC": (0xC0, "<32sQ", ("name", "value")),
}
TYPES = {number: name for name, (number, _, _) in FRAMES.items()}
for _name, (_number, _, _) in FRAMES.items():
    globals()[_name] = _number

SESSION_EVENTS = (0x10, 0x11, 0x12, 0x13, 0x14)
USAGE_LAST, USAGE_FIRST = 1, 2
RECORD_OPEN, RECORD_CANDIDATE, RECORD_PART = 1, 2, 4
DONE_COMPLETE, DONE_UNREADABLE, DONE_LIMIT, DONE_STOPPING = range(4)

MALFORMED, UNKNOWN_TYPE, BAD_VERSION, WRONG_SOCKET, BAD_SEQUENCE = 1, 2, 3, 4, 5
UNKNOWN_HANDLE, HANDLE_OPEN, TIME_RANGE, IP_NOT_ALLOWED = 16, 17, 18, 19
SERVER_NOT_ALLOWED, DAY_FORGOTTEN, OVER_CAPACITY = 20, 21, 22

MIN_TIME, MAX_TIME = -(2**63), 2**63 - 1


def ip_bytes(ip):
    """16 bytes of an address given as text, ipaddress object or bytes; IPv4 is mapped."""
    if isinstance(ip, (bytes, bytearray)):
        return bytes(ip)
    ip = ipaddress.ip_address(ip)
    return b"\0" * 10 + b"\xff\xff" + ip.packed if ip.version == 4 else ip.packed


def ip_text(raw):
    """The text of 16 bytes of address."""
    ip = ipaddress.IPv6Address(raw)
    return str(ip.ipv4_mapped or ip)


def server_bytes(server):
    """A server ID in its 16 bytes; struct pads with zeros."""
    return server if isinstance(server, (bytes, bytearray)) else server.encode()


def account(name):
    """The account of a name: unkeyed BLAKE2b-256; bytes of length 32 pass unchanged."""
    if isinstance(name, str):
        name = name.encode()
    elif len(name) == 32:
        return bytes(name)
    return hashlib.blake2b(name, digest_size=32).digest()


def ms(seconds):
    """Unix seconds as the wire's milliseconds."""
    return int(round(seconds * 1000))


def now_ms():
    return time.time_ns() // 1_000_000


_CONVERT = {"ip": ip_bytes, "server": server_bytes, "account": account}


class Frame:
    """One frame: Frame("START", seq=1, handle=7, start=ms, ip="10.8.0.2").

    Header fields are type, version, code, aux and seq, body fields those of the
    type; what is not given is zero.  `tail` replaces the zeros behind the body.
    """

    __slots__ = ("type", "version", "code", "aux", "seq", "body", "tail")

    def __init__(self, type_, *, code=0, aux=0, seq=0, version=VERSION, tail=b"", **body):
        self.type = FRAMES[type_][0] if isinstance(type_, str) else type_
        self.version, self.code, self.aux, self.seq = version, code, aux, seq
        fields = FRAMES[TYPES[self.type]][2] if self.type in TYPES else ()
        unknown = set(body) - set(fields)
        if unknown:
            raise TypeError(f"{self.name} has no field {', '.join(sorted(unknown))}")
        self.body = {f: body.get(f, b"" if f in ("ip", "server", "account", "name") else 0)
                     for f in fields}
        for field, convert in _CONVERT.items():
            if self.body.get(field):
                self.body[field] = convert(self.body[field])
            elif self.body.get(field) == "":
                self.body[field] = b""  # any server
        self.tail = tail

    @property
    def name(self):
        return TYPES.get(self.type, f"0x{self.type:02x}")

    def __getattr__(self, field):
        try:
            return object.__getattribute__(self, "body")[field]
        except KeyError:
            raise AttributeError(field) from None

    def __eq__(self, other):
        return isinstance(other, Frame) and self.pack() == other.pack()

    def __repr__(self):
        shown = [f"{n}={getattr(self, n)}" for n in ("seq", "code", "aux") if getattr(self, n)]
        for field, value in self.body.items():
            if isinstance(value, bytes):
                if field == "ip" and len(value) == 16:
                    value = ip_text(value)
                elif field in ("server", "name"):
                    value = value.rstrip(b"\0").decode("latin-1")
                else:
                    value = value.hex()
            shown.append(f"{field}={value}")
        return f"{self.name}({', '.join(shown)})"

    def pack(self):
        raw = HEADER.pack(self.type, self.version, self.code, self.aux, self.seq)
        if self.type in TYPES:
            _, layout, fields = FRAMES[TYPES[self.type]]
            raw += struct.pack(layout, *(self.body[f] for f in fields))
        raw += self.tail
        return raw + b"\0" * (SIZE - len(raw))

    @classmethod
    def unpack(cls, raw):
        if len(raw) != SIZE:
            raise ValueError(f"a frame is {SIZE} bytes, not {len(raw)}")
        type_, version, code, aux, seq = HEADER.unpack_from(raw)
        frame = cls(type_, code=code, aux=aux, seq=seq, version=version)
        end = HEADER.size
        if type_ in TYPES:
            _, layout, fields = FRAMES[TYPES[type_]]
            frame.body = dict(zip(fields, struct.unpack_from(layout, raw, end)))
            end += struct.calcsize(layout)
        frame.tail = raw[end:].rstrip(b"\0")
        return frame


# --- Waiting ----------------------------------------------------------------

class Timeout(AssertionError):
    """Something did not happen in time."""


def wait_for(condition, timeout=10.0, what="a condition"):
    """Polls until condition() is true, and returns what it gave."""
    deadline = time.monotonic() + timeout * FACTOR
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"{what}: not within {timeout * FACTOR:g} s")
        time.sleep(0.01)


# --- Connections ------------------------------------------------------------

class Closed(ConnectionError):
    """The other side closed the connection."""


class Refused(AssertionError):
    """A frame was refused that should not have been."""

    def __init__(self, frame):
        super().__init__(f"refused with {frame.code} at seq {frame.seq}")
        self.frame, self.code = frame, frame.code


class Conn:
    """A connection to one of nologd's sockets.

    Conn(run / "sessions.sock").hello("nl-ams-03") then
    .event("START", handle=1, start=..., ip=...) and .sync(): sync() returns the
    refusals as {seq: code}.
    """

    def __init__(self, path, timeout=10.0):
        self.path = str(path)
        self.timeout = timeout * FACTOR
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self.path)
        except OSError:
            self.sock.close()
            raise
        self.buffer = b""
        self.seq = 0  # of the last event sent
        self.acked = 0
        self.refused = {}
        self.welcome = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def fileno(self):
        return self.sock.fileno()

    def send_raw(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed(str(e)) from e

    def send(self, *frames):
        self.send_raw(b"".join(f.pack() for f in frames))

    def recv(self, timeout=None):
        """The next frame; Closed at the end, Timeout when none comes."""
        self.sock.settimeout(self.timeout if timeout is None else timeout * FACTOR)
        while len(self.buffer) < SIZE:
            try:
                data = self.sock.recv(65536)
            except (TimeoutError, BlockingIOError):
                raise Timeout(f"no frame from {os.path.basename(self.path)}") from None
            except ConnectionResetError as e:
                raise Closed(str(e)) from e
            if not data:
                raise Closed("end of file" + (" within a frame" if self.buffer else ""))
            self.buffer += data
        raw, self.buffer = self.buffer[:SIZE], self.buffer[SIZE:]
        return Frame.unpack(raw)

    def recv_all(self, timeout=None):
        """Every frame until the other side closes."""
        frames = []
        with contextlib.suppress(Closed):
            while True:
                frames.append(self.recv(timeout))
        return frames

    def closed(self, timeout=None):
        """True when the other side has closed; a frame instead is an error."""
        try:
            frame = self.recv(timeout)
        except Closed:
            return True
        raise AssertionError(f"{frame} instead of the end")

    # Reporters

    def hello(self, server, stream=0):
        """HELLO; returns WELCOME, or raises Refused.  Sequence goes on after WELCOME's."""
        self.send(Frame("HELLO", server=server, stream=stream))
        frame = self.recv()
        if frame.name == "REFUSED":
            raise Refused(frame)
        assert frame.name == "WELCOME", frame
        self.welcome = frame
        self.seq = self.acked = frame.seq
        return self.welcome

    def event(self, type_, **fields):
        """Sends one event with the next seq (or the one given), and returns its seq."""
        seq = fields.pop("seq", self.seq + 1)
        self.send(Frame(type_, seq=seq, **fields))
        self.seq = seq
        return seq

    def take(self, frame):
        """Keeps books of one ACK or REFUSED."""
        if frame.name == "REFUSED":
            self.refused[frame.seq] = frame.code
        elif frame.name == "ACK":
            assert frame.seq > self.acked, f"ACK of {frame.seq} after {self.acked}"
            self.acked = frame.seq
        else:
            raise AssertionError(f"unexpected {frame}")

    def sync(self, seq=None, timeout=None):
        """Reads until everything (or all up to seq) is acknowledged: {seq: code} refused."""
        seq = self.seq if seq is None else seq
        while self.acked < seq:
            self.take(self.recv(timeout))
        return dict(self.refused)

    # Questions

    def ask(self, request, end):
        """Sends a request and returns its answers up to and with the one named end."""
        self.send(request)
        answers = []
        while True:
            frame = self.recv()
            if frame.name == "REFUSED":
                raise Refused(frame)
            assert frame.seq == request.seq, f"{frame} for a request with seq {request.seq}"
            answers.append(frame)
            if frame.name == end:
                return answers

    def lookup(self, ip=None, length=None, server="", from_=MIN_TIME, to=MAX_TIME, seq=1):
        """Looks up; length in 128-bit terms (default: one address; without ip: any).

        Returns (records, done).
        """
        if length is None:
            length = 128 if ip is not None else 0
        request = Frame("LOOKUP", seq=seq, code=length, ip=ip if ip is not None else b"",
                        server=server, from_=from_, to=to)
        *records, done = self.ask(request, "DONE")
        assert done.count == len(records), (done, len(records))
        return records, done

    def quota(self, name, seq=1):
        """TOTAL of an account's name (str or bytes), or of 32 bytes of account."""
        return self.ask(Frame("QUOTA", seq=seq, account=name), "TOTAL")[-1]

    def status(self, seq=1):
        """Every metric by its name."""
        *metrics, done = self.ask(Frame("STATUS", seq=seq), "DONE")
        assert done.count == len(metrics), (done, len(metrics))
        return {m.body["name"].rstrip(b"\0").decode(): m.value for m in metrics}


class Refusals(Refused):
    """Several frames were refused."""

    def __init__(self, refused):
        AssertionError.__init__(self, f"refused: {refused}")
        self.refused = refused


def lookup(run, *args, **kwargs):
    with Conn(pathlib.Path(run) / "lookup.sock") as c:
        return c.lookup(*args, **kwargs)


def quota(run, name):
    with Conn(pathlib.Path(run) / "quota.sock") as c:
        return c.quota(name)


def status(run):
    with Conn(pathlib.Path(run) / "admin.sock") as c:
        return c.status()


def report(run, server, *events, stream=0):
    """Reports events, each (name, {fields}), and fails if one is refused."""
    usage = events and events[0][0] == "USAGE"
    with Conn(pathlib.Path(run) / ("usage.sock" if usage else "sessions.sock")) as c:
        c.hello(server, stream)
        for name, fields in events:
            c.event(name, **fields)
        refused = c.sync()
    if refused:
        raise Refusals(refused)


def random_stream():
    return random.SystemRandom().randrange(1, 2**64)


# --- Directories and programs -----------------------------------------------

class Workspace:
    """A temporary directory: .path, .state and .run (mode 0700); gone at the end.

    KEEP=1 in the environment leaves it there and says where it is.
    """

    def __init__(self, prefix="nolog-"):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
        self.state = self.path / "state"
        self.run = self.path / "run"
        for d in (self.state, self.run):
            d.mkdir(mode=0o700)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def file(self, name, text):
        path = self.path / name
        path.write_text(text)
        return path

    def remove(self):
        if os.environ.get("KEEP"):
            print(f"kept: {self.path}", file=sys.stderr)
        else:
            shutil.rmtree(self.path, ignore_errors=True)


def program(name):
    """The path of a built program; a test cannot go on without it."""
    path = BUILD / name
    if not path.exists():
        raise FileNotFoundError(f"{path}: build first, or set NOLOGD_BUILD")
    return path


def skip(why):
    """Ends the test as skipped, saying why."""
    print(f"SKIP: {why}")
    sys.exit(77)


def preload_env(library, env):
    """The environment of a process under a preloaded library, also one with a sanitizer."""
    asan = ":".join(filter(None, (env.get("ASAN_OPTIONS"), "verify_asan_link_order=0")))
    return dict(env, LD_PRELOAD=str(library), ASAN_OPTIONS=asan)


def sanitized():
    """Whether nologd is built with a sanitizer, which locks no memory and needs more system calls."""
    code = program("nologd").read_bytes()
    return b"__asan_init" in code or b"__tsan_init" in code


def faketime_env(spec, env=None):
    """The environment of a process under libfaketime: "@2026-11-22 08:00:00", "+3d", ..."""
    for pattern in ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1"):
        found = sorted(pathlib.Path("/").glob(pattern[1:]))
        if found:
            break
    else:
        skip("libfaketime is not installed")
    env = preload_env(found[0], os.environ if env is None else env)
    env.update(FAKETIME=spec, FAKETIME_DONT_FAKE_MONOTONIC="1", TZ="UTC")
    env.pop("FAKETIME_SHARED", None)
    return env


class Daemon:
    """A real nologd.

    with Daemon(workspace.state, workspace.run) as d: ... starts it, waits until
    it says that it is ready, and ends it with SIGTERM.  Its output is in
    d.logs().  faketime is a FAKETIME specification.
    """

    def __init__(self, state, run, config="", *, env=None, binary=None, faketime=None, args=(),
                 wrapper=()):
        self.state, self.run = pathlib.Path(state), pathlib.Path(run)
        self.config = config
        self.binary = binary or program("nologd")
        self.env = dict(os.environ if env is None else env)
        self.faketime = faketime
        self.args, self.wrapper = list(args), list(wrapper)
        self.process = None
        self.log_path = self.run.parent / f"{self.run.name}.nologd.log"
        self.config_path = self.run.parent / f"{self.run.name}.nologd.conf"
        self._notify = None
        self.notified = []

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.term()
        self._close_notify()

    @property
    def pid(self):
        return self.process.pid

    def command(self):
        return [*self.wrapper, str(self.binary), "-c", str(self.config_path), "--state",
                str(self.state), "--run", str(self.run), *self.args]

    def spawn(self):
        """Starts it and does not wait."""
        self._close_notify()
        self.config_path.write_text(self.config)
        env = faketime_env(self.faketime, self.env) if self.faketime else dict(self.env)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Abstract: no file to remove, no path that grows too long.
        name = f"nolog-test-{os.getpid()}-{random.getrandbits(48):x}"
        self._notify.bind("\0" + name)
        env["NOTIFY_SOCKET"] = "@" + name
        self.notified = []
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), env=env, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        return self

    def start(self, timeout=20.0):
        """Starts it and waits until it is ready."""
        self.spawn()
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=20.0):
        deadline = time.monotonic() + timeout * FACTOR
        self._notify.settimeout(0.05)
        while True:
            with contextlib.suppress(TimeoutError):
                self.notified += self._notify.recv(4096).decode().splitlines()
            if "READY=1" in self.notified:
                return
            if self.process.poll() is not None:
                raise AssertionError(f"nologd ended with {self.process.returncode}:\n{self.logs()}")
            if time.monotonic() > deadline:
                raise Timeout(f"nologd is not ready:\n{self.logs()}")

    def wait(self, timeout=20.0):
        """Waits for its end and returns the exit status (negative: the signal)."""
        try:
            return self.process.wait(timeout * FACTOR)
        except subprocess.TimeoutExpired:
            raise Timeout(f"nologd does not end:\n{self.logs()}") from None
        finally:
            self._close_notify()

    def signal(self, number):
        self.process.send_signal(number)

    def kill9(self):
        """Like a crash, at once."""
        self.process.kill()
        return self.wait()

    def term(self, timeout=20.0):
        """Ends it as a service manager would; anything but exit status 0 is an error."""
        self.process.terminate()
        status_ = self.wait(timeout)
        assert status_ == 0, f"nologd ended with {status_}:\n{self.logs()}"
        return status_

    def reload(self, config):
        """Another configuration and SIGHUP; does not wait for its effect."""
        self.config = config
        self.config_path.write_text(config)
        self.process.send_signal(signal.SIGHUP)

    def logs(self):
        """All it has written since the first start, as text."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(errors="backslashreplace")

    def _close_notify(self):
        if self._notify:
            self._notify.close()
            self._notify = None

    # Short ways

    def conn(self, role):
        """A connection to "sessions", "usage", "lookup", "quota" or "admin"."""
        return Conn(self.run / f"{role}.sock")

    def reporter(self, role, server, stream=0):
        """A connection that has said HELLO."""
        conn = self.conn(role)
        conn.hello(server, stream)
        return conn

    def lookup(self, *args, **kwargs):
        return lookup(self.run, *args, **kwargs)

    def quota(self, name):
        return quota(self.run, name)

    def status(self):
        return status(self.run)

    def report(self, server, *events, stream=0):
        report(self.run, server, *events, stream=stream)

    def ctl(self, *args, **kwargs):
        return ctl(*args, run=self.run, **kwargs)


class CtlResult:
    """What nologctl said: .status, .out, .err, and .json, an object a line."""

    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self):
        return f"exit {self.status}, out {self.out!r}, err {self.err!r}"


def ctl(*args, run=None, json_=False, stdin="", expect=None, env=None, timeout=60.0):
    """Runs nologctl; expect is the exit status it must have (None: any)."""
    command = [str(program("nologctl"))]
    if run is not None:
        command += ["--run", str(run)]
    if json_:
        command.append("--json")
    command += [str(a) for a in args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=env,
                          timeout=timeout * FACTOR, check=False)
    result = CtlResult(done)
    if expect is not None and result.status != expect:
        raise AssertionError(f"{' '.join(command)}: {result}")
    return result


# --- Looking for traces -----------------------------------------------------

def traces(value):
    """Every form in which an address or a name could lie in a file: {form: bytes}."""
    forms = {}
    with contextlib.suppress(ValueError):
        ip = ipaddress.ip_address(value)
        forms["text"] = str(ip).encode()
        forms["packed"] = ip.packed
        forms["packed reversed"] = ip.packed[::-1]
        if ip.version == 6:
            forms["exploded"] = ip.exploded.encode()
        return forms
    if isinstance(value, int):
        return {"little-endian": value.to_bytes(8, "little"), "big-endian": value.to_bytes(8, "big"),
                "decimal": str(value).encode(), "hex": f"{value:x}".encode()}
    raw = value.encode() if isinstance(value, str) else bytes(value)
    forms["text"] = raw
    for digest in ("md5", "sha1", "sha256", "sha512"):
        forms[digest] = hashlib.new(digest, raw).digest()
        forms[digest + " hex"] = hashlib.new(digest, raw).hexdigest().encode()
    forms["account"] = account(raw)
    forms["account reversed"] = account(raw)[::-1]
    forms["account hex"] = account(raw).hex().encode()
    return forms


def find_traces(directory, values):
    """The places where a value lies in a file or a file's name below a directory (or in a file).

    Returns [(path, value, form)]; a run of this that finds nothing proves
    nothing unless a planted one is found, so plant one.  Four bytes stand by
    chance somewhere in a few MiB of sealed blocks: of several IPv4 addresses
    one alone is no finding in that form.
    """
    forms = [(v, f, raw) for v in values for f, raw in traces(v).items()]
    short = {v for v, _, raw in forms if len(raw) < 5}
    found = []
    directory = pathlib.Path(directory)
    paths = [directory] if directory.is_file() else sorted(directory.rglob("*"))
    for path in paths:
        data = path.name.encode()
        with contextlib.suppress(OSError):
            if stat.S_ISREG(path.lstat().st_mode):
                data += b"\0" + path.read_bytes()
        found += [(str(path), v, f, len(raw)) for v, f, raw in forms if raw in data]
    if len(short) > 1 and len({v for _, v, _, size in found if size < 5}) < 2:
        found = [hit for hit in found if hit[3] >= 5]
    return [hit[:3] for hit in found]


# --- Running tests ----------------------------------------------------------

def main(namespace=None):
    """Runs every function test_* of the caller, prints TAP, exits 0, 1, or 77 if all skip.

    Names on the command line choose some of them.
    """
    namespace = namespace or sys.modules["__main__"].__dict__
    tests = {n: f for n, f in namespace.items() if n.startswith("test_") and callable(f)}
    chosen = [n for n in tests if not sys.argv[1:] or any(a in n for a in sys.argv[1:])]
    failed = skipped = 0
    print(f"1..{len(chosen)}", flush=True)
    for number, name in enumerate(chosen, 1):
        title = name[5:].replace("_", " ")
        began = time.monotonic()
        try:
            tests[name]()
            result, note = "ok", ""
        except SystemExit as e:
            if e.code != 77:
                raise
            result, note = "ok", " # SKIP"
            skipped += 1
        except Exception:  # pylint: disable=broad-except
            import traceback
            traceback.print_exc()
            result, note = "not ok", ""
            failed += 1
        print(f"{result} {number} - {title}{note}  ({time.monotonic() - began:.2f} s)", flush=True)
    sys.exit(1 if failed else 77 if chosen and skipped == len(chosen) else 0)
