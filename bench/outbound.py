"""What a call to a remote costs: a synchronous webhook with one real call, beside that call by itself."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import trio

from bench.http import PORT, SECONDS, load, start
from bench.table import percentiles, row

REMOTE_PORT = PORT + 1
REMOTE = Path(__file__).parent / "peers" / "floor.py"
CYCLE = f"""
cycle: asking
connectors:
  shop: {{}}
  remote: {{base_url: "http://127.0.0.1:{REMOTE_PORT}", allow_private: true}}
steps:
  asked:
    webhook: shop
    identifier: bench-asking
    fields: {{amount: {{type: integer, required: true}}}}
  price: {{post: remote, path: /price, body: {{amount: "{{{{ asked.amount }}}}"}}, fields: {{status: text}}}}
  answer: {{respond: {{body: {{status: "{{{{ price.status }}}}"}}}}}}
"""


def by_itself(connections: int) -> list[float]:
    """The times of the same calls, made by httpx from a process that does nothing else."""
    times: list[float] = []

    async def caller(client: httpx.AsyncClient, ends: float) -> None:
        while trio.current_time() < ends:
            began = time.perf_counter()
            (await client.post(f"http://127.0.0.1:{REMOTE_PORT}/price", json={"amount": 7})).raise_for_status()
            times.append(time.perf_counter() - began)

    async def main() -> None:
        ends = trio.current_time() + SECONDS
        async with httpx.AsyncClient() as client, trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(caller, client, ends)

    trio.run(main)
    return times


def run() -> None:
    """Every question of this file."""
    remote = subprocess.Popen([sys.executable, str(REMOTE), str(REMOTE_PORT)])
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "asking.cycle.yaml").write_text(CYCLE)
        server, _ = start(["-m", "runtime.cli", "serve", name, "--bind", f"127.0.0.1:{PORT}"], "/readyz")
        try:
            for connections in (1, 16):
                alone = by_itself(connections)
                row(f"httpx alone, {connections} at once", f"{len(alone) / SECONDS:,.0f}/s", *percentiles(alone))
                times, statuses = load("bench-asking", b'{"amount": 7}', connections)
                added = percentiles(times)[0] - percentiles(alone)[0]
                note = f"p50 {added:+.2f} ms beside the call; {statuses}"
                figure = f"{len(times) / SECONDS:,.0f}/s"
                row(f"synchronous, one real call, {connections} connections", figure, *percentiles(times), note=note)
        finally:
            server.terminate()
            server.wait()
            remote.kill()
            remote.wait()
