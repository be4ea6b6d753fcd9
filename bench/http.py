"""What a caller sees: durable webhooks and synchronous round trips over real sockets, and what holds cost."""

import os
import signal
import subprocess
import sys
import tempfile
import time
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
BARE = """
from functools import partial
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import request
from quart_trio import QuartTrio
app = QuartTrio("bare")
@app.post("/webhook/<name>")
async def hook(name):
    await request.get_data()
    return {"status": "accepted"}, 202
config = Config()
config.bind = ["127.0.0.1:%d"]
config.accesslog = config.errorlog = None
trio.run(partial(serve, app, config))
"""


class _Answers:
    """Counts the complete answers that a parser has seen."""

    def __init__(self) -> None:
        self.done = 0

    def on_message_complete(self) -> None:
        self.done += 1


async def _client(request: bytes, times: list[float], statuses: dict[int, int], ends: float) -> None:
    while trio.current_time() < ends:
        await _connection(request, times, statuses, ends)


async def _connection(request: bytes, times: list[float], statuses: dict[int, int], ends: float) -> None:
    """Requests over one connection, until the time is over or the server closes it."""
    async with await trio.open_tcp_stream("127.0.0.1", PORT) as stream:
        while trio.current_time() < ends:
            answers = _Answers()
            parser = httptools.HttpResponseParser(answers)
            began = time.perf_counter()
            await stream.send_all(request)
            while not answers.done:
                received = await stream.receive_some(65_536)
                if not received:
                    return
                parser.feed_data(received)
            times.append(time.perf_counter() - began)
            status = parser.get_status_code()
            statuses[status] = statuses.get(status, 0) + 1


def load(
    identifier: str, body: bytes, connections: int, seconds: float = SECONDS
) -> tuple[list[float], dict[int, int]]:
    """Send one request after the other on so many connections; the times of all, and their statuses."""
    head = f"POST /webhook/{identifier} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    times: list[float] = []
    statuses: dict[int, int] = {}

    async def main() -> None:
        ends = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(_client, request, times, statuses, ends)

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
    process, _ = start(["-c", BARE % PORT], "/webhook/x")
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
    made, job = 0, 0
    began = time.perf_counter()
    while made < holds and time.perf_counter() - began < 300:
        job += 1
        times, _ = load("bench-hold", b'{"job": %d}' % job, 64, seconds=10)
        made += len(times)
    rate = made / (time.perf_counter() - began)
    row("holds made over HTTP", f"{rate:,.0f}/s", note=f"{made:,} held")
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
