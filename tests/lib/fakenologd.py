# SPDX-License-Identifier: ISC
"""A stand-in for nologd's two reporting sockets, for tests of reporters.

It takes what a reporter says as the contract has it and keeps it in memory, so
that a test can look at every frame; it has no disk, no days and no look-up.
"""

import contextlib
import os
import pathlib
import selectors
import socket
import threading

from nolog import (BAD_SEQUENCE, HANDLE_OPEN, SIZE, TIME_RANGE, UNKNOWN_HANDLE, USAGE_FIRST,
                   USAGE_LAST, Frame, ip_text, now_ms, wait_for)


class FakeNologd:
    """Stands in for nologd's two reporting sockets and keeps what it is told.

    .events is a list of (server, Frame) in the order of arrival, repeats
    dropped; .open maps (server, handle) to START's frame; .records lists
    (server, ip text, start, end); .usage sums (account) -> [rx, tx] as the
    contract counts it.  `refuse` may name a function (server, frame) -> code.
    With `ack=False` it takes everything and says nothing.  stop() is a crash
    or the end of it; what it was told, it still knows after start().
    """

    def __init__(self, run):
        self.run = pathlib.Path(run)
        self.lock = threading.Lock()
        self.events, self.records = [], []
        self.open, self.usage, self.meters = {}, {}, {}
        self.streams = {}
        self.refuse = None
        self.ack = True
        self.deny = set()  # servers whose HELLO is refused
        self._thread = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self._wake_r, self._wake_w = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_r, selectors.EVENT_READ, None)
        self._listeners = []
        for role in ("sessions", "usage"):
            path = self.run / f"{role}.sock"
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            s.bind(str(path))
            s.listen(64)
            s.setblocking(False)
            self._listeners.append(s)
            self._selector.register(s, selectors.EVENT_READ, ("listen", role))
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """Closes everything; the socket files stay, as after a crash."""
        if not self._thread:
            return
        os.write(self._wake_w, b"x")
        self._thread.join()
        self._thread = None
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                key.fileobj.close()
        self._selector.close()
        os.close(self._wake_r)
        os.close(self._wake_w)

    def named(self, name):
        """The frames of one type so far."""
        with self.lock:
            return [f for _, f in self.events if f.name == name]

    def wait_event(self, name, count=1, timeout=10.0):
        """Waits until so many frames of a type were taken, and returns them."""
        return wait_for(lambda: (lambda l: l if len(l) >= count else None)(self.named(name)),
                        timeout, f"{count} {name}")

    def _loop(self):
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                if key.data[0] == "listen":
                    with contextlib.suppress(BlockingIOError):
                        conn, _ = key.fileobj.accept()
                        peer = {"role": key.data[1], "buffer": b"", "server": None}
                        self._selector.register(conn, selectors.EVENT_READ, ("peer", peer))
                else:
                    self._read(key.fileobj, key.data[1])

    def _read(self, conn, peer):
        try:
            data = conn.recv(65536)
        except OSError:
            data = b""
        alive = bool(data)
        peer["buffer"] += data
        with self.lock:
            try:
                while alive and len(peer["buffer"]) >= SIZE:
                    raw, peer["buffer"] = peer["buffer"][:SIZE], peer["buffer"][SIZE:]
                    alive = self._frame(conn, peer, Frame.unpack(raw))
            except OSError:
                alive = False
        if not alive:
            self._selector.unregister(conn)
            conn.close()

    def _frame(self, conn, peer, frame):
        if peer["server"] is None:
            server = frame.server.rstrip(b"\0").decode() if frame.name == "HELLO" else None
            if server is None or server in self.deny:
                conn.sendall(Frame("REFUSED", code=20 if server else 1, seq=frame.seq).pack())
                return False
            peer["server"], peer["stream"] = server, frame.stream
            peer["seq"] = self.streams.get((peer["role"], server, frame.stream), 0)
            conn.sendall(Frame("WELCOME", seq=peer["seq"], now=now_ms()).pack())
            return True
        if not self.ack:
            return True
        if frame.seq <= peer["seq"] and peer["stream"]:
            code = 0  # a repeat
        elif frame.seq != peer["seq"] + 1:
            conn.sendall(Frame("REFUSED", code=BAD_SEQUENCE, seq=frame.seq).pack())
            return False
        else:
            peer["seq"] = frame.seq
            if peer["stream"]:
                self.streams[peer["role"], peer["server"], peer["stream"]] = frame.seq
            code = self.refuse(peer["server"], frame) if self.refuse else 0
            code = code or self._apply(peer["server"], frame)
            self.events.append((peer["server"], frame))
        answer = Frame("REFUSED", code=code, seq=frame.seq).pack() if code else b""
        conn.sendall(answer + Frame("ACK", seq=frame.seq).pack())
        return True

    def _apply(self, server, f):
        key = (server, f.handle) if "handle" in f.body else None
        if f.name == "START":
            if key in self.open:
                return HANDLE_OPEN
            self.open[key] = f
        elif f.name in ("END", "ALIVE"):
            if key not in self.open:
                return UNKNOWN_HANDLE
            if f.name == "END":
                if f.end < self.open[key].start:
                    return TIME_RANGE
                start = self.open.pop(key)
                self.records.append((server, ip_text(start.ip), start.start, f.end))
        elif f.name == "SESSION":
            self.records.append((server, ip_text(f.ip), f.start, f.end))
        elif f.name == "RESTART":
            for k, start in list(self.open.items()):
                if k[0] == server and start.start < f.at:
                    del self.open[k]
                    self.records.append((server, ip_text(start.ip), start.start, f.at))
        elif f.name == "USAGE":
            self._count(server, f)
        return 0

    def _count(self, server, f):
        total = self.usage.setdefault(f.account, [0, 0])
        last = (0, 0)
        if f.aux:
            meter = (server, f.account, f.aux)
            last = self.meters.get(meter)
            if last == "closed":
                return
            if last is None:
                last = (0, 0) if f.code & USAGE_FIRST else (f.rx, f.tx)
            if f.rx < last[0] or f.tx < last[1]:
                last = (0, 0)
            self.meters[meter] = "closed" if f.code & USAGE_LAST else (f.rx, f.tx)
        total[0] += f.rx - last[0]
        total[1] += f.tx - last[1]
