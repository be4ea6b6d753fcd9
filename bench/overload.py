"""What is left of a server that is asked for three times what it can do: its goodput, its memory, its refusals.

Senders wait for nobody (an open loop): each request leaves when it is due, whether or not the one before was answered.
The server has one core and the senders another, where there are two. Peak and overload alternate, since machines change
their speed; what was accepted is what the server counts, since a busy sender reads late.
"""

import multiprocessing
import os
import re
import select
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
from msgspec import Struct

from bench.core import BODY, CYCLE
from bench.http import PORT, load, request, resident_mib, start
from bench.table import row

ROUNDS = 5
SECONDS = 3.0  # Of a phase that are counted, by the clock on the wall.
WARM_S = 1.0  # Of a phase before those, and after them: what is counted is all under load.
PHASE_S = WARM_S + SECONDS + WARM_S
CORES = sorted(os.sched_getaffinity(0))
TIMES = 3  # What is asked, in units of what can be done.
CONNECTIONS = 64
CALLERS = 6_000  # Connections under the load: more than requests may wait in the mailbox.
TICK_S = 0.002  # Requests that are due within it leave together.
ANSWER_S = 60.0  # For the last answers; one that does not come hangs.
REQUEST = request("bench-asked", BODY)

_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^{]*?(?:retry-after: (\d+)\r\n[^{]*)?\{[^}]*\}")  # Each has a flat body.


class Answers(Struct):
    """What came back, and how much was asked."""

    statuses: Counter[str]
    retries: Counter[str]
    sent: int = 0
    unanswered: int = 0
    seconds: float = 0.0  # In which all was sent.


class Phase(Struct):
    """What the server did in the seconds that are counted."""

    accepted: float  # Requests a second.
    cpu_us: float  # Processor time for each of them, with all else that was done meanwhile.


class _Sender:
    """Every connection of an open loop. No framework: it has to ask for more than a server can do, from one core."""

    def __init__(self) -> None:
        self.answers = Answers(Counter(), Counter())
        self._poll = select.epoll()
        self._sockets = [self._connect() for _ in range(CALLERS)]
        self._by_number = {one.fileno(): place for place, one in enumerate(self._sockets)}
        self._kept = [b""] * CALLERS
        self._open = [0] * CALLERS

    def _connect(self) -> socket.socket:
        one = socket.create_connection(("127.0.0.1", PORT))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.settimeout(0)
        self._poll.register(one, select.EPOLLIN)
        return one

    def run(self, rate: float) -> Answers:
        """Send so many requests a second, from one connection after the other, then read the last answers."""
        answers, began = self.answers, time.perf_counter()
        ends = began + PHASE_S
        while (now := time.perf_counter()) < ends:
            for _ in range(int((now - began) * rate) - answers.sent):
                self._send(answers.sent % CALLERS)
            self._read(TICK_S)
        answers.seconds = now - began
        while any(self._open) and time.perf_counter() < ends + ANSWER_S:
            self._read(1.0)
        answers.unanswered = sum(self._open)
        return answers

    def _send(self, place: int) -> None:
        self._sockets[place].send(REQUEST)
        self._open[place] += 1
        self.answers.sent += 1

    def _read(self, timeout: float) -> None:
        for number, _ in self._poll.poll(timeout):
            place = self._by_number[number]
            data = self._sockets[place].recv(65_536)
            if not data and not self._open[place]:
                self._poll.unregister(number)  # It was idle for too long, while others still get their last answers.
                continue
            if not data:
                raise ConnectionError("the server closed a connection that waits for an answer")
            kept, end = self._kept[place] + data, 0
            for answer in _ANSWER.finditer(kept):
                end = answer.end()
                self._open[place] -= 1
                self.answers.statuses[answer[1].decode()] += 1
                if answer[2]:
                    self.answers.retries[answer[2].decode()] += 1
            self._kept[place] = kept[end:]


def _ask(asking: Callable[..., None], *given: float) -> tuple[multiprocessing.Process, Connection]:
    """A process that asks, and what it tells us: that it begins, and what came of it."""
    ours, theirs = multiprocessing.Pipe()
    sender = multiprocessing.Process(target=asking, args=(theirs, *given))
    sender.start()
    theirs.close()  # So that its end is seen.
    return sender, ours


def _send(told: Connection, rate: float) -> None:
    sender = _Sender()
    told.send(None)
    told.send(sender.run(rate))


def _wait(told: Connection) -> None:
    """The peak: connections that wait for their answers."""
    told.send(None)
    load("bench-asked", BODY, CONNECTIONS, PHASE_S)


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _accepted() -> float:
    text = httpx.get(f"http://127.0.0.1:{PORT}/metrics", timeout=ANSWER_S).text
    return sum(float(found) for found in re.findall(r'hits_total\{.*answer="202"\} (\S+)', text))


def _phase(process: subprocess.Popen[bytes], told: Connection) -> Phase:
    """Count what the server does while it is being asked, once the sender has begun."""
    told.recv()
    time.sleep(WARM_S)
    before, took, began = _accepted(), _cpu_s(process), time.perf_counter()
    time.sleep(SECONDS)
    count, took, seconds = _accepted() - before, _cpu_s(process) - took, time.perf_counter() - began
    return Phase(count / seconds, took / count * 1e6)


def _keep_to(core: int) -> None:
    """Run on one core from now on, with all that is started: so the senders take nothing of what the server has."""
    os.sched_setaffinity(0, {CORES[core % len(CORES)]})


def run() -> None:
    """Measure the peak, then ask for three times as much, and again."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "bench.cycle.yaml").write_text(CYCLE)
        _keep_to(0)
        process, _ = start(["-m", "runtime.cli", "serve", name, "--bind", f"127.0.0.1:{PORT}"], "/readyz")
        _keep_to(1)
        peaks: list[Phase] = []
        loads: list[Phase] = []
        for _ in range(ROUNDS):
            peaks.append(_peak(process))
            loads.append(_overload(process, peaks[-1].accepted))
        peaks.append(_peak(process))
        around = [(before.accepted + after.accepted) / 2 for before, after in pairwise(peaks)]
        goodput = statistics.median(one.accepted / peak for one, peak in zip(loads, around, strict=True))
        cost = [(before.cpu_us + after.cpu_us) / 2 for before, after in pairwise(peaks)]
        by_cpu = statistics.median(peak / one.cpu_us for one, peak in zip(loads, cost, strict=True))
        note = f"of the peaks before and after; {by_cpu:.0%} by processor time"
        row(f"goodput, median of {ROUNDS}", f"{goodput:.0%}", note=note)
        process.send_signal(signal.SIGTERM)
        process.wait()


def _peak(process: subprocess.Popen[bytes]) -> Phase:
    sender, told = _ask(_wait)
    phase = _phase(process, told)
    sender.join()
    note = f"{phase.cpu_us:.0f} us of processor time each"
    row(f"peak, {CONNECTIONS} connections that wait", f"{phase.accepted:,.0f}/s", note=note)
    return phase


def _overload(process: subprocess.Popen[bytes], peak: float) -> Phase:
    before = resident_mib(process)
    sender, told = _ask(_send, peak * TIMES)
    phase = _phase(process, told)
    most = resident_mib(process)
    answers: Answers = told.recv()
    most = max(most, resident_mib(process))
    sender.join()
    asked = answers.sent / answers.seconds
    row(f"{CALLERS:,} connections ask for", f"{asked:,.0f}/s", note=f"{asked / peak:.1f} times the peak")
    row("accepted", f"{phase.accepted:,.0f}/s", note=f"{phase.cpu_us:.0f} us of processor time each")
    refused = ", ".join(f"{wait} s: {count}" for wait, count in sorted(answers.retries.items()))
    note = f"{answers.unanswered} without; Retry-After {refused or 'of none'}"
    row("answers", str(dict(answers.statuses)), note=note)
    row("memory", f"{most:.0f} MiB", note=f"{most - before:+.0f} MiB under the load")
    return phase
