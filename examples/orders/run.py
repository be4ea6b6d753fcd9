"""Runs the example: the warehouse and the server side by side, until Ctrl-C."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from warehouse import make_warehouse

HERE = Path(__file__).parent
TOUR = """
The example runs: cyclewright on http://127.0.0.1:8080, its warehouse on http://127.0.0.1:9000.
Paste these into another terminal, one after the other.

  # Place an order; the warehouse gives its job the number 1001.
  curl -s 127.0.0.1:8080/webhook/orders-placed --json '{"order": {"id": "A1", "total": "9.90"}}'; echo

  # The carrier reports, four times; each report runs the same transaction from its webhook again.
  for status in Received Picked Packed Despatched; do
    curl -s 127.0.0.1:8080/webhook/orders-status --json "{\\"job_id\\": 1001, \\"status\\": \\"$status\\"}"; echo
  done

  # One message went to the customer.
  curl -s 127.0.0.1:9000/messages; echo

  # See the transaction: the order's pass, and the four of the reports.
  .venv/bin/cyclewright transactions ls --project examples/orders
  .venv/bin/cyclewright transactions show --project examples/orders ID

  # Ask for a quote; the answer comes on the same connection.
  curl -s 127.0.0.1:8080/webhook/quotes-asked --json '{"sku": "tea", "count": 3}'; echo

  # A refund goes through two linked cycles.
  curl -s 127.0.0.1:8080/webhook/refunds-asked --json '{"order": "A1", "amount": "9.90"}'; echo

Ctrl-C stops both.
"""


async def main() -> int:
    """Start both, tell what to try, and end with the server; returns its exit code."""
    config = Config()
    config.bind = ["127.0.0.1:9000"]
    config.accesslog = config.errorlog = None
    command = [sys.executable, "-m", "runtime.cli", "serve", str(HERE)]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, make_warehouse(), config, shutdown_trigger=trio.sleep_forever))
        process = await trio.lowlevel.open_process(command)
        nursery.start_soon(_pass_on, process)
        with trio.move_on_after(2):
            await process.wait()
        if process.returncode is None:
            print(TOUR, flush=True)  # noqa: T201 - The whole point of this script.
        code = await process.wait()
        nursery.cancel_scope.cancel()
    return code


async def _pass_on(process: trio.Process) -> None:
    """Ctrl-C and SIGTERM end the server, which drains; the warehouse stays until it has."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(trio.run(main))
