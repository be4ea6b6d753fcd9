"""Redrive (section 13): what ran, or was cut off, or came in vain, once more.

1. History is never rewritten: a redrive is a hit, or a transaction, of its own, which names what it comes from.
2. An order acts on an item once. What one order redrove, another one does only when it is asked to do so `again`,
   since what failed stays failed, and so is found again by whoever looks for failures.
3. A rerun makes calls under keys of its own. A resumed call keeps its key unless every attempt under it was refused
   (4xx) or never sent: then nothing happened, and a remote that remembers its refusal must not give it again.
4. Nobody waits for what is redriven: an answer is built and kept, and goes nowhere.
"""

from protocol.definition import END
from protocol.events_redrive import RedriveOrdered, TransactionResumed
from protocol.fold_retention import is_gone
from protocol.inputs import (
    Accepted,
    Ignored,
    Ordered,
    OrderRedrive,
    Parked,
    Redrive,
    Redriven,
    Refused,
    Resumed,
    Verdict,
)
from protocol.program import CallPlan, GatherPlan, Program, ScriptPlan, SplitPlan, WebhookPlan
from protocol.redrive_items import born_at
from protocol.routing import accept, begin_transaction, decide_hit
from protocol.state import Lineage, State, TransactionRow, transaction_name
from protocol.transaction import run, take_parked
from protocol.turn import Turn

PURGED = "retention has dropped its data"
WAITING = {"new": "in progress", "running": "in progress", "queued": "queued", "parked": "parked", "collected": "kept"}


def fix_order(turn: Turn, given: OrderRedrive) -> Verdict:
    """The items of a page are fixed when it is ordered first, so that ordering it twice is ordering it once."""
    find, order = turn.state.find, given.order
    if find("ordered", (order,), 1) and not find("ordered", (order, "digest", given.digest), 1):
        detail = f"order {order!r} asked for something else before: a new order needs a name of its own"
        return Refused(409, "Order reused", detail)
    fixed = find("ordered", (order, "page", given.page), 1)
    if fixed:
        return Ordered(fixed[0])
    event = RedriveOrdered(
        given.cycle, turn.at, order, given.page, given.action, given.digest, list(given.items), given.after
    )
    return Ordered(turn.emit(event))


def decide_redrive(turn: Turn, given: Redrive) -> Verdict:
    """Redrive one item, unless its order did so before."""
    state = turn.state
    done = done_before(state, given.order, given.item)
    if done is not None:
        return done
    refusal = refusal_of(state, given)
    if refusal is not None:
        return refusal
    if given.action == "redeliver":
        assert given.hit is not None, "what is delivered again is a request"
        return _as_redriven(decide_hit(turn, given.hit))
    row = state.transaction(given.item)
    program = state.program(given.version)
    if given.action == "resume":
        return _go_on(turn, given, row, row.step, list(row.data), _still_reached(state, row, program))
    if row.trigger:
        assert given.hit is not None, "what a trigger began has a request"
        return _as_redriven(begin_transaction(turn, given.hit, given.version))
    start = _start_of(program, row)
    assert start is not None, "one without a start was refused"
    return _go_on(turn, given, row, *start, {})


def done_before(state: State, order: str, item: int) -> Redriven | None:
    """What an order made of an item already; None when it has not yet acted on it."""
    found = state.find("redriven", (order, str(item)), 1)
    if not found:
        return None
    try:
        return Redriven(found[0], state.hit(found[0]).transaction, already=True)
    except KeyError:  # It is a transaction that no request began, or a hit that retention has removed since.
        return Redriven(0, found[0] if _is_transaction(state, found[0]) else 0, already=True)


def _is_transaction(state: State, row_id: int) -> bool:
    try:
        state.transaction(row_id)
    except KeyError:
        return False
    return True


def refusal_of(state: State, given: Redrive) -> Refused | None:
    """Why an item can not be redriven now; it changes nothing, so a preview asks too."""
    redelivers = given.action == "redeliver"
    if is_gone(state, given.cycle, **{"hit" if redelivers else "transaction": given.item}):
        return Refused(404, "Not found", "retention has removed it")
    status = state.cycle(given.cycle).status
    if status != "running":
        return Refused(409, "Cycle is not running", f"cycle {given.cycle} is {status}: start it first")
    if redelivers:
        reason = _against_delivery(state, given)
    else:
        row = state.transaction(given.item)
        program = state.program(given.version)
        reason = PURGED if row.purged else None
        reason = reason or (_against_resume if given.action == "resume" else _against_rerun)(row, program)
        names = [transaction_name(row.cycle, one) for one in row.redriven]
        reason = reason or _repeats(given, row.lineage, names)
    return None if reason is None else Refused(409, "Can not be redriven", reason)


def _against_delivery(state: State, given: Redrive) -> str | None:
    hit = state.hit(given.item)
    if hit.purged:
        return PURGED
    if hit.status in WAITING:
        return f"hit {hit.id} is {WAITING[hit.status]}: it has its place already"
    return _repeats(given, hit.lineage, [f"hit {one}" for one in hit.redriven])


def _repeats(given: Redrive, lineage: Lineage | None, redriven: list[str]) -> str | None:
    if lineage is not None and lineage.order == given.order:
        return "this order made it"
    if redriven and not given.again:
        return f"it was redriven as {redriven[-1]}: redrive that, or ask for it again"
    return None


def _against_resume(row: TransactionRow, program: Program) -> str | None:
    if row.status not in ("failed", "stopped"):
        return f"it is {row.status}: what failed or was stopped can be resumed"
    plan = program.plans.get(row.step)
    arrived = row.remains is not None and row.remains.arrived
    if (plan is None and row.step != END) or (isinstance(plan, WebhookPlan) and not plan.match and not arrived):
        return f"its step {row.step} is gone from the current version: resume it with the original one, or rerun it"
    return None


def _against_rerun(row: TransactionRow, program: Program) -> str | None:
    if row.status == "running":
        return "it is in progress: it would run twice at once"
    if row.call is not None:
        return f"the outcome of its call at {row.call.step} is unknown: say resend, done or fail first"
    if not row.trigger and _start_of(program, row) is None:
        return f"its first step {born_at(row)} is gone from the current version: rerun it with the original one"
    return None


def _start_of(program: Program, row: TransactionRow) -> tuple[str, list[str]] | None:
    """Where a transaction that no trigger began starts, and the steps whose data it has there."""
    born = born_at(row)
    plan = program.plans.get(born)
    if not isinstance(plan, SplitPlan | GatherPlan | WebhookPlan | CallPlan | ScriptPlan):
        return None  # The last three bring lists that `settings.split` parts.
    names = list(row.data)
    return plan.after, names[: names.index(born) + 1]


def _still_reached(state: State, row: TransactionRow, program: Program) -> dict[str, list[str]]:
    """The webhooks at which requests found a transaction before it ended, that match in the same way in a version."""
    assert row.remains is not None, "one that failed or was stopped left something"
    before = state.program(row.definition_hash).plans
    return {
        step: list(key)
        for step, key in row.remains.reached.items()
        if (step != row.step or row.remains.arrived)
        and _matching(before.get(step)) == _matching(program.plans.get(step))
    }


def _matching(plan: object) -> list[tuple[str, str, str]] | None:
    if not isinstance(plan, WebhookPlan):
        return None
    return [(pair.location, pair.type, pair.earlier.text) for pair in plan.match]


def _go_on(
    turn: Turn, given: Redrive, row: TransactionRow, step: str, kept: list[str], reached: dict[str, list[str]]
) -> Redriven:
    """Begin a transaction in the middle; requests that wait for what it has reached are its own from now on."""
    hit = 0 if given.hit is None else accept(turn, given.hit)
    number = row.number if given.action == "resume" else 1
    event = TransactionResumed(
        row.cycle, turn.at, row.id, hit, given.order, given.action, given.version, step, number, kept, reached
    )
    new = turn.state.transaction(turn.emit(event))
    for webhook, key in reached.items():
        take_parked(turn, new, webhook, key)
    run(turn, new)
    return Redriven(hit, new.id)


def _as_redriven(verdict: Verdict) -> Verdict:
    match verdict:
        case (
            Accepted(hit=hit, transaction=transaction)
            | Resumed(hit=hit, transaction=transaction)
            | Ignored(hit=hit, transaction=transaction)
        ):
            return Redriven(hit, transaction)
        case Parked(hit=hit):
            return Redriven(hit, 0)
        case _:
            return verdict
