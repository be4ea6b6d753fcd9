"""What a caller sees: durable webhooks and synchronous round trips over real sockets, and what holds cost."""

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import httptools
import httpx
import trio

from bench.core import BODY, CYCLE
from bench.table import percentiles, row

PORT = 18_473
SECONDS = 3.0
QUOTE = """
cycle: quote
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: bench-quote
    fields: {amount: {type: integer, required: true}}
  answer: {respond: {body: {price: "{{ asked.amount }}"}}}
"""
HOLD = """
cycle: hold
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: bench-hold
    fields: {job: {type: integer, required: true}}
  back:
    webhook: shop
    identifier: bench-back
    fields: {job: {type: integer, required: true}}
    match: {job: asked.job}
"""
BARE = Path(__file__).parent / "peers" / "bare.py"


class _Answers:
    """Counts the complete answers that a parser has seen."""

    def __init__(self) -> None:
        self.done = 0

    def on_message_complete(self) -> None:
        self.done += 1


async def _client(requests: Iterator[bytes], times: list[float], statuses: dict[int, int], ends: float) -> None:
    while trio.current_time() < ends and await _connection(requests, times, statuses, ends):
        pass


async def _connection(requests: Iterator[bytes], times: list[float], statuses: dict[int, int], ends: float) -> bool:
    """Requests over one connection; returns whether the server closed it before the time or the requests ended."""
    async with await trio.open_tcp_stream("127.0.0.1", PORT) as stream:
        while trio.current_time() < ends:
            answers = _Answers()
            parser = httptools.HttpResponseParser(answers)
            began = time.perf_counter()
            following = next(requests, None)
            if following is None:
                return False
            await stream.send_all(following)
            while not answers.done:
                received = await stream.receive_some(65_536)
                if not received:
                    return True
                parser.feed_data(received)
            times.append(time.perf_counter() - began)
            status = parser.get_status_code()
            statuses[status] = statuses.get(status, 0) + 1
    return False


def load(
    identifier: str, bodies: bytes | Iterable[bytes], connections: int, seconds: float = SECONDS
) -> tuple[list[float], dict[int, int]]:
    """Send requests to one webhook until the time or the bodies end; see `send`."""
    each = itertools.repeat(bodies) if isinstance(bodies, bytes) else bodies
    return send((request(identifier, body) for body in each), connections, seconds)


def request(identifier: str, body: bytes) -> bytes:
    """A request to a webhook, as it goes over the wire."""
    head = f"POST /webhook/{identifier} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def send(requests: Iterator[bytes], connections: int, seconds: float = SECONDS) -> tuple[list[float], dict[int, int]]:
    """Send one request after the other on so many connections, until the time or the requests end.

    Returns:
        The times of all, and how many there were of each status.
    """
    times: list[float] = []
    statuses: dict[int, int] = {}

    async def main() -> None:
        ends = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(_client, requests, times, statuses, ends)

    trio.run(main)
    return times, statuses


def start(arguments: list[str], ready: str) -> tuple[subprocess.Popen[bytes], float]:
    """Start a server and wait until it answers; the process and the seconds that took."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    while time.perf_counter() - began < 60:
        try:
            if httpx.get(f"http://127.0.0.1:{PORT}{ready}").status_code in (200, 405):
                return process, time.perf_counter() - began
        except httpx.TransportError:
            time.sleep(0.01)
    raise AssertionError("the server did not start")


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def run(holds: int = 100_000) -> None:
    """Every question of this file."""
    process, _ = start([str(BARE), str(PORT)], "/webhook/x")
    bare, _ = load("x", BODY, 64)
    row("bare Quart-Trio, 202, 64 connections", f"{len(bare) / SECONDS:,.0f}/s", *percentiles(bare))
    process.kill()
    process.wait()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        for file, text in (("bench", CYCLE), ("quote", QUOTE), ("hold", HOLD)):
            (project / f"{file}.cycle.yaml").write_text(text)
        arguments = ["-m", "runtime.cli", "serve", name, "--bind", f"127.0.0.1:{PORT}"]
        process, took = start(arguments, "/readyz")
        row("start to ready, empty", f"{took:.2f} s", note=f"{resident_mib(process):.0f} MiB resident")
        for connections in (1, 16, 64):
            times, statuses = load("bench-asked", BODY, connections)
            ratio = f"{len(times) / len(bare):.2f} of bare; {statuses}" if connections == 64 else str(statuses)
            figure = f"{len(times) / SECONDS:,.0f}/s"
            row(f"webhook, durable 202, {connections} connections", figure, *percentiles(times), note=ratio)
        for connections in (1, 16, 64):
            times, statuses = load("bench-quote", b'{"amount": 7}', connections)
            figure = f"{len(times) / SECONDS:,.0f}/s"
            row(f"synchronous answer, {connections} connections", figure, *percentiles(times), note=str(statuses))
        _holds(process, arguments, project, holds)


def _holds(process: subprocess.Popen[bytes], arguments: list[str], project: Path, holds: int) -> None:
    """Make holds over HTTP, then look at memory, kill, and start again."""
    before = resident_mib(process)
    began = time.perf_counter()
    times, statuses = load("bench-hold", (b'{"job": %d}' % job for job in range(holds)), 64, seconds=600)
    made = len(times)
    figure = f"{made / (time.perf_counter() - began):,.0f}/s"
    row("holds made over HTTP, 64 connections", figure, *percentiles(times), note=str(statuses))
    jobs = random.sample(range(made), min(made, 10_000))
    times, statuses = load("bench-back", (b'{"job": %d}' % job for job in jobs), 64, seconds=60)
    row("holds resumed, any of them", f"{len(times) / sum(times) * 64:,.0f}/s", *percentiles(times), note=str(statuses))
    after = resident_mib(process)
    row("memory with holds", f"{after:.0f} MiB", note=f"{(after - before) * (1 << 20) / made:.0f} bytes a hold")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process, took = start(arguments, "/readyz")
    row("kill -9 to ready again", f"{took:.2f} s", note=f"{made:,} held, {resident_mib(process):.0f} MiB")
    for file in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
        (project / ".cyclewright" / file).unlink(missing_ok=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process, took = start(arguments, "/readyz")
    row("the same with the store deleted", f"{took:.2f} s")
    process.send_signal(signal.SIGTERM)
    process.wait()
