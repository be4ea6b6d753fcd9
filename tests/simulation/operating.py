"""What operators order of a running server, under faults: each order is given again until it was carried out."""

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from journal import JournalError
from protocol.events_redrive import RedriveAction
from protocol.inputs import Refused, RunOnce, Settle, Start, Stop
from runtime.redriving import Order, fixed, redrive_item
from tests.journal.disk import PowerLossError

if TYPE_CHECKING:
    from tests.simulation.life import Life
    from tests.simulation.running import Process

ITEMS_MAX = 3  # Of one order to redrive.


async def redrive(life: "Life", at: float) -> None:
    """Redrive what failed or came in vain, under one name, until a process lives long enough to have done it all."""
    while True:
        running = await life.up()
        with suppress(PowerLossError, JournalError), running.connection():  # It reads the journal: that stops as well.
            await _redrive(life, running, at)
            return
        await trio.sleep(1)


async def _redrive(life: "Life", running: "Process", at: float) -> None:
    engine = running.engine
    shadow = engine.shadow
    rows = [row for row in shadow.transactions.values() if row.cycle == "main" and row.trigger and not row.purged]
    over = [row.id for row in rows if row.status in ("failed", "stopped") and row.lineage is None]
    vain = [hit.id for hit in shadow.hits.values() if hit.status == "expired" and not hit.purged]
    action: RedriveAction = "redeliver" if vain and not over else "resume" if int(at) % 2 else "rerun"
    items = (vain if action == "redeliver" else over)[:ITEMS_MAX]
    order = Order(name=f"order at {at:g}", page="", action=action, digest=action, current=False, again=False)
    given = await fixed(engine, order, items, 0)
    if isinstance(given, Refused):
        return  # The state has changed since it was first given: another action is another order.
    for item in given.items:
        told = await redrive_item(engine, order, item, preview=False)
        life.world.saw(f"redrive {action} {told.outcome}")


async def order(life: "Life", verb: str) -> None:
    """An order to the cycle."""
    running = await life.up()
    engine, at = running.engine, life.world.clock()
    with running.connection():
        match verb:
            case "stop" | "finish":
                await engine.order(Stop("main", at, "stop" if verb == "stop" else "finish")).decided()
            case "start":
                await engine.order(Start("main", at)).decided()
            case _:
                await engine.order(RunOnce("main", at)).decided()
        life.world.saw(f"order {verb}")


async def tidy(life: "Life", running: "Process") -> None:
    """Start what stands still, and say what becomes of calls that nobody knows of."""
    engine, world = running.engine, life.world
    for cycle in list(engine.shadow.cycles.values()):
        if cycle.status == "stopped":
            await engine.order(Start(cycle.name, world.clock())).decided()
    rows = engine.shadow.transactions.values()
    for row in [row for row in rows if row.call is not None and row.call.unknown]:
        world.saw("a person settled a call")
        await engine.order(Settle(row.cycle, world.clock(), row.id, "resend")).decided()
