#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
# tests/run: timeout=600
"""nologctl: every command, its output, its exit status; against a stand-in
where nologd must misbehave, and against the real one for the rest."""

import contextlib
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import nolog  # noqa: E402
from fakenologd import FakeNologd  # noqa: E402
from nolog import Frame, Workspace, ctl  # noqa: E402

START = 1_795_334_400_000  # 2026-11-22T08:00:00Z


class Answers:
    """A stand-in for lookup.sock, quota.sock and admin.sock: answers what it was given.

    answers(request) returns frames; None as one of them closes the connection.
    """

    def __init__(self, run, role, answers):
        self.path = pathlib.Path(run) / f"{role}.sock"
        self.answers, self.requests = answers, []

    def __enter__(self):
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self.listener.accept()
                with conn, contextlib.suppress(OSError):
                    self._one(conn)

    def _one(self, conn):
        raw = conn.recv(nolog.SIZE, socket.MSG_WAITALL)
        if len(raw) < nolog.SIZE:
            return
        request = Frame.unpack(raw)
        self.requests.append(request)
        for frame in self.answers(request):
            if frame is None:
                return
            frame.seq = request.seq
            conn.sendall(frame.pack())
        conn.recv(1)


def records(*found, code=0):
    return lambda _: [*found, Frame("DONE", code=code, count=len(found))]


def record(ip="10.8.0.2", server="nl-ams-03", start=START, end=START + 1_800_000, code=0):
    return Frame("RECORD", ip=ip, server=server, start=start, end=end, code=code)


def wrong(run, *args, said, stdin=""):
    """A mistake: exit 2, one line on standard error, nothing on standard output."""
    result = ctl(*args, run=run, stdin=stdin, expect=2)
    assert said in result.err, result
    assert result.err.count("\n") == 1 and result.err.startswith("nologctl: "), result
    assert result.out == "", result


# --- The command line -------------------------------------------------------

def test_help_and_version_need_nothing():
    commands = ("start", "end", "session", "usage", "report", "lookup", "quota", "status", "metrics", "policy", "audit")
    for args in ((), *((c,) for c in commands)):
        result = ctl(*args, "--help", expect=0)
        assert "usage: nologctl" in result.out and result.err == "", result
        assert all(len(line) <= 80 for line in result.out.splitlines()), result.out
        assert ctl(*args, "-h", expect=0).out == result.out
    said = subprocess.run([nolog.program("nologd"), "--help"], capture_output=True, text=True, check=True).stdout
    assert all(len(line) <= 80 for line in said.splitlines()), said
    assert re.match(r"nologctl \d+\.\d+", ctl("--version", expect=0).out)


def test_mistakes_are_named_with_what_is_expected():
    with Workspace() as w:
        wrong(None, said="a command is missing")
        wrong(w.run, "frobnicate", said="'frobnicate' is no command")
        wrong(w.run, "status", "now", said="'now' does not belong here")
        wrong(w.run, "start", "--server", "nl", said="--handle H is missing")
        wrong(w.run, "lookup", "10.8.0.2", "--at", "2026-11-22T08:00:00",
              said="--at: '2026-11-22T08:00:00' has no offset; write 2026-11-22T08:00:00Z or +01:00")
        wrong(w.run, "lookup", said="IP[/LEN] or --server S is missing")
        wrong(w.run, "lookup", "10.8.0.256", said="'10.8.0.256' is no address or prefix")
        wrong(w.run, "lookup", "10.8.0.0/33", said="longer than its address")
        wrong(w.run, "lookup", "::1", "--slack", "1h", said="--slack needs --at")
        wrong(w.run, "lookup", "::1", "--at", "@1", "--to", "@2", said="exclude each other")
        wrong(w.run, "lookup", "::1", "--from", "@2", "--to", "@1", said="--from is later than --to")
        wrong(w.run, "usage", "--server", "nl", "--rx", "1", "--tx", "1", "--first", stdin="a",
              said="--first needs --meter")


def test_run_and_json_stand_before_or_behind_the_command():
    metrics = [Frame("METRIC", name=b"stalled", value=0), Frame("DONE", count=1)]
    with Workspace() as w, Answers(w.run, "admin", lambda _: metrics):
        for args in (("--run", w.run, "--json", "status"), ("status", "--json", f"--run={w.run}"),
                     ("--json", "status", "--run", w.run)):
            assert ctl(*args, expect=0).json == [{"stalled": 0}]


def test_without_nologd_every_command_says_so_at_once():
    with Workspace() as w:
        for args in (("lookup", "::1"), ("quota",), ("status",), ("metrics",),
                     ("end", "--server", "s", "--handle", "1"), ("report", "--server", "s")):
            began = time.monotonic()
            wrong(w.run, *args, stdin="end --handle 1\n", said="no nologd answers there")
            assert time.monotonic() - began < 3 * nolog.FACTOR


def test_a_full_output_is_an_error():
    with Workspace() as w, Answers(w.run, "lookup", records(record())):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([nolog.program("nologctl"), "--run", w.run, "lookup", "10.8.0.2"],
                                  stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 2 and b"No space left" in done.stderr, done


# --- Reporting --------------------------------------------------------------

def test_one_event_a_command():
    with Workspace() as w, FakeNologd(w.run) as fake:
        ctl("start", "--server", "nl", "--handle", "7", "--ip", "10.8.0.2", "--at", "@5.25",
            run=w.run, expect=0)
        result = ctl("end", "--server", "nl", "--handle", "7", "--at", "1970-01-01T01:00:06+01:00",
                     run=w.run, expect=0)
        assert result.out == result.err == ""
        ctl("session", "--server", "de", "--ip", "2001:db8::7", "--from", "@1", "--to", "@2",
            run=w.run, expect=0)
        assert fake.records == [("nl", "10.8.0.2", 5250, 6000), ("de", "2001:db8::7", 1000, 2000)]
        assert fake.streams == {}, "one-shot commands keep no position"


def test_an_event_without_a_time_happened_now():
    with Workspace() as w, FakeNologd(w.run) as fake:
        before = nolog.now_ms()
        ctl("start", "--server", "nl", "--handle", "1", "--ip", "::1", run=w.run, expect=0)
        assert before <= fake.named("START")[0].start <= nolog.now_ms()


def test_usage_hashes_exactly_the_bytes_of_the_line():
    with Workspace() as w, FakeNologd(w.run) as fake:
        for stdin, name in (("alice", b"alice"), ("alice\n", b"alice"), (" alice \n", b" alice "),
                            ("alice\r\n", b"alice\r"), ("ä\0b\n", "ä\0b".encode())):
            ctl("usage", "--server", "nl", "--rx", "1", "--tx", "2", stdin=stdin, run=w.run,
                expect=0)
            assert fake.named("USAGE")[-1].account == nolog.account(name), stdin
        ctl("usage", "--server", "nl", "--rx", "5", "--tx", "6", "--meter", "77", "--first",
            "--last", stdin="bob", run=w.run, expect=0)
        last = fake.named("USAGE")[-1]
        assert (last.rx, last.tx, last.aux, last.code) == (5, 6, 77, 3)


def test_an_account_that_is_none_is_refused_and_never_printed():
    with Workspace() as w, FakeNologd(w.run) as fake:
        for stdin in ("", "\n", "canary\nother\n", "canary" * 1000):
            for args in (("usage", "--server", "nl", "--rx", "1", "--tx", "2"), ("quota",)):
                result = ctl(*args, stdin=stdin, run=w.run, expect=2)
                assert "canary" not in result.out + result.err, result
        assert fake.events == []


def test_a_refusal_is_exit_1_with_its_reason():
    with Workspace() as w, FakeNologd(w.run):
        args = ("end", "--server", "nl", "--handle", "424242")
        result = ctl(*args, run=w.run, expect=1)
        assert result.err == "nologctl: end: refused: unknown handle (16)\n", result
        assert ctl(*args, run=w.run, json_=True, expect=1).json == [
            {"event": "end", "accepted": False, "code": 16, "reason": "unknown handle"}]
        args = ("start", "--server", "nl", "--handle", "1", "--ip", "::1")
        assert ctl(*args, run=w.run, json_=True, expect=0).out == '{"event":"start","accepted":true}\n'


def test_a_server_that_may_not_report_is_exit_1():
    with Workspace() as w, FakeNologd(w.run) as fake:
        fake.deny.add("nl")
        args = ("end", "--server", "nl", "--handle", "1")
        assert "(20)" in ctl(*args, run=w.run, expect=1).err
        assert ctl(*args, run=w.run, json_=True, expect=1).json[0]["code"] == 20
        assert "(20)" in ctl("report", "--server", "nl", stdin="end --handle 1\n", run=w.run,
                             expect=1).err


def test_report_takes_every_kind_of_line():
    lines = """# a comment

start --handle 1 --ip 10.8.0.2 --at @10
alive --handle 1 --at @11
\tend  --handle=1 --at @12\r
usage alice 10 20
session --ip 10.8.0.3 --from @1 --to @2
start --handle 2 --ip 10.8.0.4 --at @10
restart --at @20
usage alice 5 6 77 first
usage alice 7 8 77 last"""
    with Workspace() as w, FakeNologd(w.run) as fake:
        assert ctl("report", "--server", "nl", stdin=lines, run=w.run, expect=0).err == ""
        assert sorted(r[1:] for r in fake.records) == [
            ("10.8.0.2", 10000, 12000), ("10.8.0.3", 1000, 2000), ("10.8.0.4", 10000, 20000)]
        assert fake.usage == {nolog.account("alice"): [17, 28]}
        assert len(fake.named("ALIVE")) == 1
        assert fake.streams["sessions", "nl", list(fake.streams)[0][2]] == 6


def test_report_tells_refused_lines_by_their_number_only():
    lines = "# x\nend --handle 424242\nstart --handle 1 --ip 10.8.0.2\nend --handle 434343\n"
    with Workspace() as w, FakeNologd(w.run) as fake:
        result = ctl("report", "--server", "nl", stdin=lines, run=w.run, expect=1)
        assert result.err == ("nologctl: line 2: unknown handle (16)\n"
                              "nologctl: line 4: unknown handle (16)\n"), result
        assert (("nl", 1) in fake.open) and result.out == ""
        result = ctl("report", "--server", "nl", "--stream", "9", stdin=lines, run=w.run,
                     json_=True, expect=1)
        assert result.json == [
            {"line": 2, "event": "end", "accepted": False, "code": 16, "reason": "unknown handle"},
            {"line": 3, "event": "start", "accepted": False, "code": 17,
             "reason": "handle already open"},
            {"line": 4, "event": "end", "accepted": False, "code": 16, "reason": "unknown handle"},
            {"lines": 4, "events": 3, "skipped": 0, "refused": 3, "stream": 9}]


def test_report_stops_at_a_bad_line_after_acknowledging_what_was_before():
    for bad in ("canary", "start --handle canary --ip ::1", "usage canary 1", "x" * 5000):
        lines = f"start --handle 1 --ip ::1\n{bad}\nstart --handle 2 --ip ::1\n"
        with Workspace() as w, FakeNologd(w.run) as fake:
            result = ctl("report", "--server", "nl", stdin=lines, run=w.run, expect=2)
            assert result.err.startswith("nologctl: line 2: "), result
            assert "canary" not in result.err, result
            assert list(fake.open) == [("nl", 1)]
            # what it says is how to go on with the corrected input
            stream = re.search(r"--stream (\d+)", result.err)[1]
            good = lines.replace(bad, "# nothing")
            ctl("report", "--server", "nl", "--stream", stream, stdin=good, run=w.run, expect=0)
            assert list(fake.open) == [("nl", 1), ("nl", 2)]


def test_report_with_a_stream_skips_what_is_durable():
    lines = "".join(f"session --ip 10.8.0.{i} --from @{i} --to @{i}\nusage a{i % 3} {i} 1\n"
                    for i in range(1, 101))
    args = ("report", "--server", "nl", "--stream", "7")
    with Workspace() as w, FakeNologd(w.run) as fake:
        ctl(*args, stdin="".join(lines.splitlines(True)[:77]), run=w.run, expect=0)
        result = ctl(*args, stdin=lines, run=w.run, json_=True, expect=0)
        assert result.json == [{"lines": 200, "events": 200, "skipped": 77, "refused": 0,
                                "stream": 7}]
        ctl(*args, stdin=lines, run=w.run, expect=0)
        assert len(fake.records) == 100 and len(set(fake.records)) == 100
        assert sum(t[0] for t in fake.usage.values()) == sum(range(1, 101))
        # an input that is too short for the stream is not the one it began with
        result = ctl(*args, stdin="".join(lines.splitlines(True)[:10]), run=w.run, expect=2)
        assert "it is not the input" in result.err, result


def test_report_counts_each_event_once_however_it_is_interrupted():
    count = 3000
    lines = "".join(f"session --ip 10.{i >> 8}.{i & 255}.1 --from @{i} --to @{i}\nusage a 1 {i}\n"
                    for i in range(1, count + 1))
    with Workspace() as w, FakeNologd(w.run) as fake:
        path = w.file("events", lines)
        command = [nolog.program("nologctl"), "--run", w.run, "report", "--server", "nl",
                   "--stream", "99"]
        seen = 0
        for i in range(1000):
            with open(path, "rb") as events:
                run = subprocess.Popen(command, stdin=events)
            if i < 5:
                nolog.wait_for(lambda: len(fake.events) >= min(seen + 200, 2 * count)
                               or run.poll() is not None, what="some progress")
                run.send_signal(signal.SIGKILL if i % 2 else signal.SIGTERM)
                run.wait()
                seen = len(fake.events)
            elif run.wait() == 0:
                break
        assert len(fake.records) == count and len(set(fake.records)) == count
        assert fake.usage == {nolog.account("a"): [count, count * (count + 1) // 2]}


def test_report_waits_while_nologd_is_away():
    with Workspace() as w, FakeNologd(w.run) as fake:
        fake.ack = False
        run = subprocess.Popen([nolog.program("nologctl"), "--run", w.run, "report", "--server",
                                "nl"], stdin=subprocess.PIPE)
        run.stdin.write(b"start --handle 1 --ip ::1\n")
        run.stdin.close()
        time.sleep(0.2)  # let it be sent, or not: either way it must arrive once
        fake.stop()
        fake.ack = True
        fake.start()
        assert run.wait(30 * nolog.FACTOR) == 0
        assert list(fake.open) == [("nl", 1)]


def test_report_of_many_lines_keeps_its_memory_bounded():
    count = 60000
    with Workspace() as w, FakeNologd(w.run) as fake:
        run = subprocess.Popen([nolog.program("nologctl"), "--run", w.run, "report", "--server",
                                "nl"], stdin=subprocess.PIPE)
        for i in range(count):
            run.stdin.write(b"usage someone 1 2\n")
        run.stdin.flush()
        peak = re.search(r"VmHWM:\s*(\d+) kB",
                         pathlib.Path(f"/proc/{run.pid}/status").read_text())
        run.stdin.close()
        assert run.wait(120 * nolog.FACTOR) == 0
        assert fake.usage == {nolog.account("someone"): [count, 2 * count]}
        if "asan" not in str(nolog.BUILD):
            assert int(peak[1]) < 32768, f"{peak[1]} kB"


# --- Looking up -------------------------------------------------------------

def test_lookup_asks_what_the_options_say():
    low, high = nolog.MIN_TIME, nolog.MAX_TIME
    asked = (
        (("10.8.0.2",), ("10.8.0.2", 128, b"", low, high)),
        (("10.0.0.0/8",), ("10.0.0.0", 104, b"", low, high)),
        (("::/0",), ("::", 0, b"", low, high)),
        (("--server", "nl"), ("::", 0, b"nl", low, high)),
        (("2001:db8::/32", "--server=nl", "--at", "@10"),
         ("2001:db8::", 32, b"nl", 10000, 10000)),
        (("--at", "@10", "::1", "--slack", "2s"), ("::1", 128, b"", 8000, 12000)),
        (("::1", "--from", "@1", "--to", "@2.5"), ("::1", 128, b"", 1000, 2500)),
        (("::1", "--from", "@1"), ("::1", 128, b"", 1000, high)),
        (("::1", "--to", "@1"), ("::1", 128, b"", low, 1000)),
    )
    with Workspace() as w, Answers(w.run, "lookup", records()) as fake:
        for args, want in asked:
            ctl("lookup", *args, run=w.run, expect=1)
            f = fake.requests[-1]
            assert (nolog.ip_text(f.ip), f.code, f.server.rstrip(b"\0"), f.from_, f.to) == want, f


def test_lookup_prints_json_to_the_byte():
    found = records(record(start=START + 5, end=0, code=1, server="b"), record(),
                    record(code=6, start=START - 1, ip="2001:db8::7"))
    with Workspace() as w, Answers(w.run, "lookup", found):
        assert ctl("--json", "lookup", "10.8.0.2", run=w.run, expect=0).out == (
            '{"ip":"2001:db8::7","server":"nl-ams-03","start":"2026-11-22T07:59:59.999Z",'
            '"end":"2026-11-22T08:30:00.000Z","open":false,"candidate":true,"part":true}\n'
            '{"ip":"10.8.0.2","server":"nl-ams-03","start":"2026-11-22T08:00:00.000Z",'
            '"end":"2026-11-22T08:30:00.000Z","open":false,"candidate":false}\n'
            '{"ip":"10.8.0.2","server":"b","start":"2026-11-22T08:00:00.005Z",'
            '"end":null,"open":true,"candidate":false}\n')


def test_lookup_says_how_many_candidates_there_are():
    found = records(*(record(ip=f"10.8.0.{i}", code=2) for i in range(3)))
    with Workspace() as w, Answers(w.run, "lookup", found):
        result = ctl("lookup", "203.0.113.7", run=w.run, expect=0)
        assert result.out.endswith("3 candidates behind the shared exit 203.0.113.7; "
                                   "which one it was cannot be told\n"), result
        assert result.out.count("  candidate\n") == 3, result


def test_lookup_finds_nothing_with_exit_1():
    with Workspace() as w, Answers(w.run, "lookup", records()):
        result = ctl("lookup", "::1", run=w.run, expect=1)
        assert (result.out, result.err) == ("", "nologctl: no session found\n")
        result = ctl("lookup", "::1", run=w.run, json_=True, expect=1)
        assert result.out == result.err == ""


def test_an_answer_that_is_not_complete_is_never_taken_for_one():
    for answers, status, said in (
            (records(record(), code=1), 2, "could not be read"),
            (records(code=1), 2, "could not be read"),
            (records(record(), code=2), 0, "limit"),
            (records(record(), code=3), 2, "stopping"),
            (records(code=3), 2, "stopping"),
            (lambda _: [record(), None], 2, "NOT COMPLETE"),
            (lambda _: [None], 2, "closed the connection"),
            (lambda _: [record(), Frame("DONE", count=2)], 2, "NOT COMPLETE"),
            (lambda _: [Frame("REFUSED", code=22), None], 2, "over capacity (22)")):
        with Workspace() as w, Answers(w.run, "lookup", answers):
            for json_ in (False, True):
                result = ctl("lookup", "10.8.0.2", run=w.run, json_=json_, expect=status)
                assert said in result.err, result
                assert ("10.8.0.2" in result.out) == (said != "over capacity (22)" and
                                                      "10.8.0.2" in str(answers(None)[0])), result


def test_lookup_fits_a_narrow_terminal():
    found = records(record(ip="2001:db80:ffff:ffff:ffff:ffff:ffff:ffff", server="abcdefghijklmnop",
                           code=6), record())
    with Workspace() as w, Answers(w.run, "lookup", found):
        parent, child = pty.openpty()
        subprocess.run([nolog.program("nologctl"), "--run", w.run, "lookup", "::/0"], stdout=child,
                       check=True)
        os.close(child)
        out = b""
        with contextlib.suppress(OSError):
            while True:
                out += os.read(parent, 65536)
        os.close(parent)
        assert all(len(line) <= 80 for line in out.decode().splitlines()), out


# --- Quota, status, metrics, policy -----------------------------------------

def test_quota_prints_the_total_and_compares_it():
    total = Frame("TOTAL", rx=2**62, tx=5, month=202611, resets=1_796_083_200_000)
    with Workspace() as w, Answers(w.run, "quota", lambda _: [total]) as fake:
        result = ctl("quota", stdin="alice\n", run=w.run, json_=True, expect=0)
        assert result.out == (f'{{"month":"2026-11","rx":{2**62},"tx":5,"total":{2**62 + 5},'
                              '"resets":"2026-12-01T00:00:00.000Z"}\n')
        assert fake.requests[0].account == nolog.account("alice")
        ctl("quota", "--limit", 2**62 + 5, stdin="alice", run=w.run, expect=0)
        result = ctl("quota", "--limit", 2**62 + 4, stdin="alice", run=w.run, expect=1)
        assert "over the limit" in result.out and "alice" not in result.out + result.err, result


def test_status_and_metrics_tell_everything_nologd_sends():
    sent = {"sessions_open": 3, "refused_total": 2**64 - 1, "stalled": 1, "new_thing": 4}
    frames = [Frame("METRIC", name=n.encode(), value=v) for n, v in sent.items()]
    with Workspace() as w, Answers(w.run, "admin", lambda _: [*frames, Frame("DONE", count=4)]):
        assert ctl("status", run=w.run, json_=True, expect=0).json == [sent]
        table = ctl("status", run=w.run, expect=0).out
        for name, value in sent.items():
            assert re.search(rf"\b{name} +{value}\b", table), table
        text = ctl("metrics", run=w.run, expect=0).out
        assert text.endswith("\n# EOF\n")
        assert "# TYPE nologd_refused counter\n" in text
        assert f"nologd_refused_total {2**64 - 1}\n" in text


def test_policy_needs_no_nologd_and_believes_one():
    with Workspace() as w:
        first, *rest = ctl("policy", run=w.run, json_=True, expect=0).json
        assert first == {"retention_days": 90, "retention_days_max": 90, "configured": False}
        kept = {r["record"]: r["kept"] for r in rest if "record" in r}
        assert kept["row4"].startswith("90 days"), kept
        answer = [Frame("METRIC", name=b"retention_days", value=30), Frame("DONE", count=1)]
        with Answers(w.run, "admin", lambda _: answer):
            assert ctl("policy", run=w.run, json_=True, expect=0).json[0]["retention_days"] == 30
            text = ctl("policy", run=w.run, expect=0).out
        assert "Sessions are kept for 30 days" in text
        assert all(len(line) <= 80 for line in text.splitlines())


# --- The real one -----------------------------------------------------------

def test_the_real_nologd_from_start_to_answer():
    with Workspace() as w, nolog.Daemon(w.state, w.run, "[usage]\ntick = 50ms\n") as d:
        d.ctl("start", "--server", "nl-ams-03", "--handle", "1", "--ip", "10.8.0.2", expect=0)
        assert d.ctl("lookup", "10.8.0.2", json_=True, expect=0).json[0]["open"] is True
        d.ctl("end", "--server", "nl-ams-03", "--handle", "1", expect=0)
        found = d.ctl("lookup", "10.8.0.2", json_=True, expect=0).json
        assert len(found) == 1 and found[0]["open"] is False, found
        assert found[0]["server"] == "nl-ams-03" and not found[0]["candidate"]
        d.ctl("lookup", "10.8.0.3", expect=1)
        d.ctl("end", "--server", "nl-ams-03", "--handle", "1", expect=1)
        d.ctl("usage", "--server", "nl-ams-03", "--rx", "10", "--tx", "20", stdin="alice\n",
              expect=0)
        assert d.ctl("quota", stdin="alice", json_=True, expect=0).json[0]["total"] == 30
        d.ctl("quota", "--limit", "29", stdin="alice", expect=1)
        assert d.ctl("quota", stdin="nobody", json_=True, expect=0).json[0]["total"] == 0
        status = d.ctl("status", json_=True, expect=0).json[0]
        assert status["sessions_started_total"] == 1 and status["sessions_open"] == 0, status
        metrics = d.ctl("metrics", expect=0).out
        families = re.findall(r"^# TYPE (\S+)", metrics, re.M)
        assert len(families) == len(set(families)) == len(status), metrics
        assert d.ctl("policy", json_=True, expect=0).json[0]["configured"] is True


def test_report_to_the_real_nologd_is_exact_over_its_crashes():
    count, now = 30000, nolog.now_ms() // 1000
    with Workspace() as w:
        path = w.file("events", "".join(
            f"session --ip 10.{i >> 16}.{i >> 8 & 255}.{i & 255} --from @{now - i} "
            f"--to @{now}\nusage alice 1 {i}\n" for i in range(count)))
        d = nolog.Daemon(w.state, w.run, "[usage]\ntick = 50ms\n")
        d.start()
        with open(path, "rb") as events:
            run = subprocess.Popen([nolog.program("nologctl"), "--run", w.run, "report",
                                    "--server", "nl"], stdin=events)
        for _ in range(3):
            nolog.wait_for(lambda: d.status()["sessions_frames_total"] >= 2000
                           or run.poll() is not None, what="some progress")
            d.kill9()
            d.start()
        assert run.wait(60 * nolog.FACTOR) == 0
        found = d.ctl("lookup", "10.0.0.0/8", json_=True, expect=0).json
        assert len(found) == count and len({r["ip"] for r in found}) == count
        total = d.ctl("quota", stdin="alice", json_=True, expect=0).json[0]
        assert (total["rx"], total["tx"]) == (count, count * (count - 1) // 2)
        d.term()


def filled_store(w):
    """A store with open and ended sessions, meters and totals, in journals and day files."""
    d = nolog.Daemon(w.state, w.run, "[usage]\ntick = 50ms\n")
    d.start()
    now = nolog.now_ms() // 1000
    lines = [f"session --ip 10.8.{i >> 8}.{i & 255} --from @{now - i * 300} --to @{now - i * 299}\n"
             for i in range(1000)]
    lines += [f"start --handle {i} --ip 2001:db8::{i:x} --at @{now - i}\n" for i in range(50)]
    lines += [f"usage a{i} 1 2 {i + 1} first\n" for i in range(50)]
    d.ctl("report", "--server", "nl", stdin="".join(lines), expect=0)
    return d


def test_audit_finds_a_running_store_sound_and_changes_nothing():
    with Workspace() as w:
        d = filled_store(w)
        result = d.ctl("audit", "--state", w.state, json_=True, expect=0)
        assert result.json[-1]["sound"] is True and result.json[-1]["usage.mdb"]["records"] > 0
        d.term()
        result = ctl("audit", "--state", w.state, json_=True, expect=0)
        assert result.json[-1]["days"]["records"] >= 1000, result
        assert "sound: " in ctl("audit", "--state", w.state, expect=0).out
        d.start()
        assert len(d.ctl("lookup", "10.8.0.0/16", json_=True, expect=0).json) == 1000
        d.term()


def findings(w, status=1):
    *found, last = ctl("audit", "--state", w.state, json_=True, expect=status).json
    assert last["sound"] is False and last["findings"] == len(found) > 0, last
    return {(f["file"], f["finding"]) for f in found}


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_audit_names_what_is_wrong():
    with Workspace() as w:
        filled_store(w).term()
        state = w.state
        # a file that does not belong there, one that is open, a directory that is
        (state / "notes.txt").write_text("x")
        os.chmod(state / "notes.txt", 0o600)
        os.chmod(state / "usage.mdb", 0o640)
        os.chmod(state, 0o755)
        found = {f for f, _ in findings(w)}
        assert found == {"notes.txt", "usage.mdb", "."}, found
        os.chmod(state, 0o700)
        os.chmod(state / "usage.mdb", 0o600)
        (state / "notes.txt").unlink()
        # one slot of two
        before = (state / "keyring").read_bytes()
        flip(state / "keyring", 100)
        assert findings(w) == {("keyring", "one of its two slots is damaged")}
        # both
        flip(state / "keyring", 4196)
        assert {f for f, _ in findings(w)} == {"keyring"}
        (state / "keyring").unlink()
        assert {f for f, _ in findings(w)} == {"keyring"}
        (state / "keyring").write_bytes(before)
        os.chmod(state / "keyring", 0o600)
        ctl("audit", "--state", state, expect=0)
        # a day's file with a changed byte in its last page, which is a block
        day = max((state / "days").glob("*.mdb"), key=lambda p: p.stat().st_size)
        whole = day.read_bytes()
        for at in range(len(whole) - 2000, 8192, -4096):
            if any(whole[at:at + 64]):
                flip(day, at)
                break
        found = findings(w)
        assert {f for f, _ in found} == {f"days/{day.name}"}, found


def test_audit_of_a_store_that_is_written_to_finds_nothing():
    count, now = 30000, nolog.now_ms() // 1000
    with Workspace() as w:
        path = w.file("events", "".join(
            f"start --handle {i} --ip 10.{i >> 16}.{i >> 8 & 255}.{i & 255} --at @{now - 60}\n"
            f"usage a{i % 100} 1 2\n" + (f"end --handle {i - 100}\n" if i >= 100 else "")
            for i in range(count)))
        d = nolog.Daemon(w.state, w.run, "[usage]\ntick = 50ms\n")
        d.start()
        with open(path, "rb") as events:
            run = subprocess.Popen([nolog.program("nologctl"), "--run", w.run, "report",
                                    "--server", "nl"], stdin=events)
        while run.poll() is None:
            ctl("audit", "--state", w.state, expect=0)
        assert run.returncode == 0
        d.term()
        ctl("audit", "--state", w.state, expect=0)


def test_audit_of_a_copy_that_is_too_old_is_a_finding():
    with Workspace() as w:
        filled_store(w).term()
        env = nolog.faketime_env("+100d")
        # libfaketime comes before the sanitizer's library, which wants to be told
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        result = ctl("audit", "--state", w.state, json_=True, env=env, expect=1)
        assert any("over the horizon" in f.get("finding", "") for f in result.json), result


def test_audit_of_no_store_is_an_error():
    with Workspace() as w:
        result = ctl("audit", "--state", w.path / "nowhere", expect=2)
        assert "No such file" in result.err, result
        result = ctl("audit", "--state", w.file("file", ""), expect=2)
        assert "Not a directory" in result.err, result


def test_audit_says_nothing_of_what_is_stored():
    with Workspace() as w:
        d = filled_store(w)
        flipped = ctl("audit", "--state", w.state).out
        d.term()
        flip(w.state / "sessions.mdb", 3 * 4096 + 2000)
        result = ctl("audit", "--state", w.state)
        for canary in ("10.8.", "2001:db8", "nl\n", "a1"):
            assert canary not in flipped + result.out + result.err, result


if __name__ == "__main__":
    nolog.main()
