"""What is left of a server that is asked for three times what it can do: its goodput, its memory, its refusals.

Senders wait for nobody (an open loop): each request leaves when it is due, whether or not the one before was answered.
They run in processes of their own, and on another core than the server, where there are two.
"""

import multiprocessing
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import trio
from msgspec import Struct

from bench.core import BODY, CYCLE
from bench.http import PORT, load, resident_mib, start
from bench.table import row

SECONDS = 5.0
CORES = os.sched_getaffinity(0)
TIMES = 3  # What is asked, in units of what can be done.
CONNECTIONS = 64
CALLERS = 6_000  # Connections under the load: more than requests may wait in the mailbox.
TICK_S = 0.01  # Requests that are due within it leave together.
ANSWER_S = 20.0  # For the last answers; one that does not come hangs.
REQUEST = (
    f"POST /webhook/bench-asked HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    f"content-length: {len(BODY)}\r\n\r\n"
).encode() + BODY

_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^{]*?(?:retry-after: (\d+)\r\n[^{]*)?\{[^}]*\}")  # Each has a flat body.


class Answers(Struct):
    """What came back within the time of the load, and after it."""

    within: Counter[str]
    after: Counter[str]
    retries: Counter[str]
    sent: int
    connected: int = 0
    last: float = 0.0  # When the last answer came, in seconds since all were connected.


async def _one(rate: float, answers: Answers, began: trio.Event) -> None:
    """One connection, at so many requests a second from when all have one; a closed one is opened again."""
    stream = await trio.open_tcp_stream("127.0.0.1", PORT)
    answers.connected += 1
    if answers.connected == CALLERS:
        began.set()
    await began.wait()
    ends = trio.current_time() + SECONDS
    while trio.current_time() < ends:
        open_ones = [0]
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(_read, stream, ends, open_ones, answers, nursery.cancel_scope)
            due, start_at = 0.0, trio.current_time() - random.random() / rate  # noqa: S311 - So that not all are due at once.
            while (now := trio.current_time()) < ends:
                count = int((now - start_at) * rate - due)
                due += count
                if count:
                    open_ones[0] += count
                    answers.sent += count
                    await stream.send_all(REQUEST * count)
                await trio.sleep(max(TICK_S, (due + 1) / rate - (now - start_at)))
            if open_ones[0] > 0:
                await trio.sleep(ANSWER_S)  # Until the last answer ends it.
            nursery.cancel_scope.cancel()
        if trio.current_time() < ends:
            stream = await trio.open_tcp_stream("127.0.0.1", PORT)


async def _read(
    stream: trio.SocketStream, ends: float, open_ones: list[int], answers: Answers, scope: trio.CancelScope
) -> None:
    kept = b""
    async for data in stream:
        kept += data
        found = _ANSWER.findall(kept)
        kept = kept[max((match.end() for match in _ANSWER.finditer(kept)), default=0) :]
        (answers.within if trio.current_time() < ends else answers.after).update(one.decode() for one, _ in found)
        answers.retries.update(wait.decode() for _, wait in found if wait)
        open_ones[0] -= len(found)
        answers.last = trio.current_time() - (ends - SECONDS)
        if trio.current_time() > ends and open_ones[0] <= 0:
            break
    scope.cancel()


def _send(rate: float, results: "multiprocessing.Queue[tuple[Answers]]") -> None:
    answers = Answers(Counter(), Counter(), Counter(), 0)

    async def main() -> None:
        began = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(_one, rate / CALLERS, answers, began)

    trio.run(main)
    results.put((answers,))


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _keep_to(core: int) -> None:
    """Run on one core from now on, with all that is started: so the senders take nothing of what the server has."""
    os.sched_setaffinity(0, {sorted(CORES)[core % len(CORES)]})


def run() -> None:
    """Measure the peak, then ask for three times as much."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "bench.cycle.yaml").write_text(CYCLE)
        _keep_to(0)
        process, _ = start(["-m", "runtime.cli", "serve", name, "--bind", f"127.0.0.1:{PORT}"], "/readyz")
        _keep_to(1)
        took = _cpu_s(process)
        times, _ = load("bench-asked", BODY, CONNECTIONS, SECONDS)
        peak, peak_us = len(times) / SECONDS, (_cpu_s(process) - took) / len(times) * 1e6
        row("peak, 64 connections that wait", f"{peak:,.0f}/s", note=f"{peak_us:.0f} us of processor time a request")
        took = _cpu_s(process)
        before = resident_mib(process)
        results: multiprocessing.Queue[tuple[Answers]] = multiprocessing.Queue()
        sender = multiprocessing.Process(target=_send, args=(peak * TIMES, results))
        sender.start()
        most = before
        while sender.is_alive() and results.empty():
            most = max(most, resident_mib(process))
            time.sleep(0.05)
        (answers,) = results.get()
        sender.join()
        total = answers.within + answers.after
        good = total["202"] / max(SECONDS, answers.last)  # The senders may read late: until the last answer it is work.
        cost_us = (_cpu_s(process) - took) / total["202"] * 1e6  # With all that refusing took.
        row(f"asked for {TIMES} times as much", f"{answers.sent / SECONDS:,.0f}/s", note="as far as the senders got")
        row("accepted meanwhile", f"{good:,.0f}/s", note=f"{good / peak:.0%} of the peak")
        row(
            "processor time for each accepted",
            f"{cost_us:.0f} us",
            note=f"{peak_us / cost_us:.0%} of what the peak gives",
        )
        refused = ", ".join(f"{wait} s: {count}" for wait, count in sorted(answers.retries.items()))
        row("answers", str(dict(total)), note=f"Retry-After {refused or 'of none'}")
        row("memory", f"{most:.0f} MiB", note=f"{most - before:+.0f} MiB under the load")
        began = time.perf_counter()
        times, statuses = load("bench-asked", BODY, CONNECTIONS, 1)
        row("a second later", f"{len(times) / (time.perf_counter() - began):,.0f}/s", note=str(statuses))
        process.send_signal(signal.SIGTERM)
        process.wait()
