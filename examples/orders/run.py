"""Runs the example: the warehouse and the server side by side, until Ctrl-C."""

import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from warehouse import make_warehouse

HERE = Path(__file__).parent
HOST = "127.0.0.1"
SERVER_PORT = 8080  # As cyclewright.toml says.
WAREHOUSE_PORT = 9000  # As connectors.yaml says.
READY_S = 30  # A journal of millions of events is read again in this time.
LOOK_S = 0.1  # Between looks at whether the server is ready.
TOUR = """
The example runs: cyclewright on http://127.0.0.1:8080, its warehouse on http://127.0.0.1:9000.
Paste these into another terminal, in this folder, one after the other.

  # Place an order; the warehouse gives its job a number, 1001 for the first one.
  curl -s 127.0.0.1:8080/webhook/orders-placed -H 'content-type: application/json' \\
    -d '{"order": {"id": "A1", "total": "9.90"}}'; echo

  # The carrier reports, four times; each report runs the same transaction from its webhook again.
  for status in Received Picked Packed Despatched; do
    curl -s 127.0.0.1:8080/webhook/orders-status -H 'content-type: application/json' \\
      -d "{\\"job_id\\": 1001, \\"status\\": \\"$status\\"}"; echo
  done

  # One message went to the customer.
  curl -s 127.0.0.1:9000/messages; echo

  # See the transaction, under the name that the list gives: the pass of the order, and the four of the reports.
  .venv/bin/cyclewright transactions ls --project examples/orders
  .venv/bin/cyclewright transactions show --project examples/orders order_fulfilment-N

  # Ask for a quote; the answer comes on the same connection.
  curl -s 127.0.0.1:8080/webhook/quotes-asked -H 'content-type: application/json' \\
    -d '{"sku": "tea", "count": 3}'; echo

  # A refund goes through two linked cycles.
  curl -s 127.0.0.1:8080/webhook/refunds-asked -H 'content-type: application/json' \\
    -d '{"order": "A1", "amount": "9.90"}'; echo

Ctrl-C stops both.
"""


async def main() -> int:
    """Start both, tell what to try once both are ready, and end with the server; returns its exit code."""
    for port in (SERVER_PORT, WAREHOUSE_PORT):
        if _taken(port):
            print(f"the example needs port {port}, which another program holds: stop that first", file=sys.stderr)  # noqa: T201 - For a person.
            return 1
    config = Config()
    config.bind = [f"{HOST}:{WAREHOUSE_PORT}"]
    config.accesslog = config.errorlog = None
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, make_warehouse(), config, shutdown_trigger=trio.sleep_forever))
        # A group of its own: Ctrl-C reaches only this script, which passes it on once.
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "runtime.cli", "serve", str(HERE)], start_new_session=True
        )
        nursery.start_soon(_pass_on, process)
        nursery.start_soon(_tell_when_ready, process)
        code = await process.wait()
        nursery.cancel_scope.cancel()
    return code


def _taken(port: int) -> bool:
    """Asked beforehand, since whoever else answers there would pass for our server."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


async def _pass_on(process: trio.Process) -> None:
    """Ctrl-C, a closed terminal and SIGTERM end the server, which drains; the warehouse stays until it has."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGTERM)


async def _tell_when_ready(process: trio.Process) -> None:
    """Print the tour once the server of this very process says that it is ready."""
    async with httpx.AsyncClient(trust_env=False) as client:
        with trio.move_on_after(READY_S):
            while process.returncode is None:
                try:
                    ready = (await client.get(f"http://{HOST}:{SERVER_PORT}/readyz")).status_code == httpx.codes.OK
                except httpx.TransportError:
                    ready = False
                if ready and process.returncode is None:
                    print(TOUR, flush=True)  # noqa: T201 - The whole point of this script.
                    return
                await trio.sleep(LOOK_S)


if __name__ == "__main__":
    sys.exit(trio.run(main))
