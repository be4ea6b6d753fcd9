"""A parked hit, aimed by hand at a transaction that its own values do not find (section 6.5)."""

from protocol.events import HitMatched
from protocol.inputs import Aim, Refused, Resumed, Verdict
from protocol.routing import QUEUE_MAX
from protocol.state import transaction_name
from protocol.transaction import run
from protocol.turn import Turn


def aim(turn: Turn, given: Aim) -> Verdict:
    """Run a transaction from the step of a parked hit, whatever its values; the transaction must have come there."""
    try:
        hit = turn.state.hit(given.hit)
        row = turn.state.transaction(given.transaction)
    except KeyError as missing:
        return Refused(404, "Not found", f"there is no hit or no transaction of number {missing}")
    name = transaction_name(row.cycle, row.id)
    if hit.status != "parked":
        return Refused(409, "Not parked", f"hit {hit.id} is {hit.status}: only a parked one can be aimed")
    if (hit.cycle, row.cycle) != (given.cycle, given.cycle):
        return Refused(409, "Another cycle", f"hit {hit.id} came for {hit.cycle}, which {name} is not of")
    if turn.state.cycle(given.cycle).status != "running":
        return Refused(409, "Cycle is not running", f"start {given.cycle} first: the transaction goes on from the hit")
    if hit.step not in row.reached:
        return Refused(409, "Not reached", f"{name} is {row.status} and takes no request at {hit.step}")
    if len(row.queue) >= QUEUE_MAX:
        return Refused(503, "Queue is full", f"{QUEUE_MAX} requests already wait for this transaction")
    turn.emit(HitMatched(given.cycle, turn.at, hit.id, row.id, []))
    run(turn, row)
    return Resumed(hit.id, row.id)
