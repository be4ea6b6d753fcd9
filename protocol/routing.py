"""Where a request goes (sections 4 and 6): a new transaction, the most recent match, the parking place, or nowhere.

1. A hit is refused before anything is recorded, or it is accepted and from then on never lost.
2. A hit and a hold meet whichever comes first, since both are turns of one actor.
3. A delivery key names one hit for ever; what comes again under it is answered as the first was.
"""

from protocol.events import (
    CycleOnce,
    CycleOnceTaken,
    HitAccepted,
    HitDuplicated,
    HitExpired,
    HitParked,
    TransactionStarted,
)
from protocol.events_redrive import HitRedriven
from protocol.incidents import Level
from protocol.inputs import Accepted, Deliver, Duplicate, Hit, Ignored, Parked, Receipt, Refused, Resumed, Verdict
from protocol.matching import find_candidates, read_hit
from protocol.newer import give, is_outdated
from protocol.program import COLLECTED_NS, WebhookPlan
from protocol.state import HitRow, State, TransactionRow, transaction_name
from protocol.transaction import begin_pass, run
from protocol.turn import TURN_PASSES, Turn

CANDIDATES_MAX = 20  # Transactions named when a match is ambiguous; the most recent is always among them.
COLLECTED_MAX = 10_000  # Hits kept for a stopped cycle; past it they are refused, so a stopped cycle stays bounded.
PARKED_MAX = 100_000  # Hits parked in one cycle: 2 minutes of 800 a second that match nothing.
QUEUE_MAX = 10_000  # Hits that wait behind one transaction's pass, or for one value; past it they are refused.


def decide_hit(turn: Turn, hit: Hit) -> Verdict:
    """What becomes of a new request."""
    cycle = turn.state.cycle(hit.cycle)
    before = delivered(turn.state, hit.cycle, hit.step, hit.delivery, turn.at)
    if before is not None:
        return _repeated(turn, hit, before)
    if hit.repeat:
        return Refused(503, "Send it again", "the delivery that this request repeats was forgotten in this instant")
    program = turn.state.program(cycle.definition_hash)
    try:
        plan = program.webhook(hit.step)
    except KeyError:  # A deploy came between the door and this turn.
        return Refused(404, "No such webhook", f"cycle {hit.cycle} has no webhook step {hit.step} any more")
    if hit.depth > program.definition.settings.max_depth:
        return _too_deep(turn, hit)
    if cycle.status != "running" and cycle.once != ("running" if plan.match else "waiting"):
        return _while_stopped(turn, hit)
    if not plan.match:
        return begin_transaction(turn, hit)
    found = find_candidates(turn.state, hit, hit.key, CANDIDATES_MAX)
    candidates = [one for one in found if one > cycle.once_since]
    if found and not candidates:
        return _while_stopped(turn, hit)  # For all but the run of the one request the cycle is stopped.
    if not candidates:
        if plan.step.unmatched == "reject":
            return Refused(404, "No transaction matches", f"no transaction waits at {hit.step} for this request")
        if _is_crowded(turn, hit):
            return Refused(503, "Too many hits are parked", f"requests that match nothing yet fill {hit.cycle}")
        accepted = turn.state.hit(accept(turn, hit))
        _warn(turn, hit, 0)
        _park(turn, accepted, plan, hit.key)
        return Parked(accepted.id, accepted.until)
    if len(candidates) > 1 and plan.step.pick == "only":
        names = ", ".join(transaction_name(hit.cycle, one) for one in candidates)
        return Refused(409, "Several transactions match", f"step {hit.step} takes only one match, found {names}")
    row = turn.state.transaction(candidates[0])
    if len(row.queue) >= QUEUE_MAX and not is_outdated(row, plan, hit.step, hit.mark):
        return Refused(503, "Queue is full", f"{QUEUE_MAX} requests already wait for this transaction")
    accepted = turn.state.hit(accept(turn, hit))
    _warn(turn, hit, row.id)
    if not _match(turn, accepted, plan, candidates, hit.mark):
        return Ignored(accepted.id, row.id)
    return Resumed(accepted.id, row.id, tuple(candidates) if len(candidates) > 1 else ())


def _too_deep(turn: Turn, hit: Hit) -> Refused:
    """A chain that comes back once too often; told once, since who refuses a caller may be asked again."""
    chain, cycle = hit.chain, turn.state.cycle(hit.cycle)
    detail = f"chain {chain.id} is {hit.depth} hand-overs deep at {hit.cycle}/{hit.step}"
    if chain.id not in cycle.looped:
        said = detail if chain.signed else f"{detail}, as its caller says"
        level: Level = "error" if chain.signed else "warning"  # Whoever knows the URL can say so.
        facts = {"chain": chain.id, "depth": hit.depth, "signed": chain.signed}
        turn.incident(0, hit.step, "loop_detected", f"508 Loop Detected: {said}", level, facts)
    return Refused(508, "Loop Detected", detail)


def run_once(turn: Turn) -> Verdict:
    """Let a stopped cycle run one request: the oldest one to its trigger that was kept, else the next that comes."""
    cycle = turn.state.cycle(turn.cycle)
    if cycle.status != "stopped":
        doing = "runs once already" if cycle.once else f"is {cycle.status}"
        return Refused(409, "Cycle is not stopped", f"cycle {cycle.name} {doing}: stop it first")
    if not cycle.once:
        turn.emit(CycleOnce(cycle.name, turn.at))
    trigger = turn.state.program(cycle.definition_hash).trigger
    for kept in turn.state.find("collected", (cycle.name,), COLLECTED_MAX):
        if turn.state.hit(kept).step == trigger:
            turn.emit(CycleOnceTaken(cycle.name, turn.at, kept))
            _start_transaction(turn, None, kept)
            return Receipt("stopping" if cycle.running else "stopped", resumed=1, once=cycle.once)
    return Receipt(cycle.status, once=cycle.once)


def accept(turn: Turn, hit: Hit) -> int:
    """Make a request ours; one that came before says so."""
    accepted = turn.emit(
        HitAccepted(
            hit.cycle,
            turn.at,
            hit.step,
            hit.method,
            hit.headers,
            hit.query,
            hit.body,
            hit.content_type,
            hit.delivery,
            hit.digest,
            hit.wants_reply,
            hit.depth,
            hit.origin,
            hit.answer_by,
            hit.script,
            hit.chain.id,
            hit.chain.signed,
            hit.chain.sampled,
        )
    )
    if (lineage := hit.lineage) is not None:
        transaction = 0 if lineage.action == "redeliver" else lineage.transaction
        turn.emit(HitRedriven(hit.cycle, turn.at, accepted, lineage.hit, lineage.order, lineage.action, transaction))
    return accepted


def begin_transaction(turn: Turn, hit: Hit, version: str = "") -> Accepted:
    """A request of a trigger begins a transaction, which runs the current version unless one is named."""
    began = accept(turn, hit)  # By the end of the turn the row may be at the pass of a hit that was parked.
    if turn.state.cycle(hit.cycle).once == "waiting":
        turn.emit(CycleOnceTaken(hit.cycle, turn.at, began))
    row = _start_transaction(turn, hit, began, version)
    _warn(turn, hit, row.id)
    return Accepted(began, row.id)


def _warn(turn: Turn, hit: Hit, transaction: int) -> None:
    for warning in hit.warnings:
        turn.incident(transaction, hit.step, "contract_broken", warning, "warning")


def _start_transaction(turn: Turn, given: Hit | None, accepted: int, version: str = "") -> TransactionRow:
    """Begin a transaction; a fresh hit brings its data along, a kept one has it read again."""
    hit = turn.state.hit(accepted)
    version = version or turn.state.cycle(hit.cycle).definition_hash
    event = TransactionStarted(hit.cycle, turn.at, hit.id, version, hit.depth, hit.origin)
    row = turn.state.transaction(turn.emit(event))
    begin_pass(turn, row, hit, None if given is None else given.data)
    run(turn, row)
    return row


def _match(turn: Turn, hit: HitRow, plan: WebhookPlan, candidates: list[int], mark: str) -> bool:
    """Give a hit to the most recent candidate; its pass begins now unless one is in progress, or it is outdated."""
    row = turn.state.transaction(candidates[0])
    given = give(turn, hit, row, plan, mark, candidates if len(candidates) > 1 else ())
    if given:
        run(turn, row)
    return given


def _park(turn: Turn, hit: HitRow, plan: WebhookPlan, key: tuple[str, ...]) -> None:
    turn.emit(HitParked(hit.cycle, turn.at, hit.id, list(key), turn.at + plan.park, "early"))


def _is_crowded(turn: Turn, hit: Hit) -> bool:
    """Whether parking one more hit would break a bound, of the cycle or of what one hold takes at once."""
    parked = turn.state.cycle(hit.cycle).parked
    if parked < QUEUE_MAX:
        return False
    return (
        parked >= PARKED_MAX or len(turn.state.find("parked", (hit.cycle, hit.step, *hit.key), QUEUE_MAX)) == QUEUE_MAX
    )


def delivered(state: State, cycle: str, step: str, delivery: str, at: int) -> HitRow | None:
    """The hit that came under a delivery key and is still remembered."""
    before = state.find_latest("delivery", (cycle, step, delivery), 1) if delivery else []
    hit = state.hit(before[0]) if before else None
    return None if hit is None or _forgotten(state, hit, at) else hit


def _forgotten(state: State, before: HitRow, at: int) -> bool:
    """Whether the time for which a delivery key is remembered is over; links are remembered for ever."""
    if before.origin is not None:
        return False
    try:
        program = state.program(state.cycle(before.cycle).definition_hash)
        return at - before.at > program.webhook(before.step).window
    except KeyError:
        return False  # The step is gone from the current version: keep the promise that was made.


def _repeated(turn: Turn, hit: Hit, before: HitRow) -> Verdict:
    if before.digest != hit.digest:
        detail = f"delivery {hit.delivery!r} came before with another body; a new event needs a key of its own"
        return Refused(409, "Delivery key reused", detail)
    turn.emit(HitDuplicated(hit.cycle, turn.at, before.id))
    return Duplicate(before.id)


def _while_stopped(turn: Turn, hit: Hit) -> Verdict:
    cycle = turn.state.cycle(hit.cycle)
    settings = turn.state.program(cycle.definition_hash).definition.settings
    if hit.origin is None and settings.while_stopped == "refuse":
        return Refused(409, "Cycle is not running", f"cycle {hit.cycle} is {cycle.status}: start it first")
    if cycle.parked >= COLLECTED_MAX:
        return Refused(503, "Too many hits are kept", f"{COLLECTED_MAX} hits already wait for {hit.cycle}")
    accepted = accept(turn, hit)
    _warn(turn, hit, 0)
    until = turn.at + COLLECTED_NS
    turn.emit(HitParked(hit.cycle, turn.at, accepted, list(hit.key), until, "stopped"))
    return Parked(accepted, until)


def _route(turn: Turn, hit: HitRow) -> None:
    """Find a place for a hit that was accepted before: a new transaction, a match, or the parking place."""
    cycle = turn.state.cycle(hit.cycle)
    try:
        plan = turn.state.program(cycle.definition_hash).webhook(hit.step)
    except KeyError:
        turn.emit(HitExpired(hit.cycle, turn.at, hit.id))
        turn.incident(0, hit.step, "hit_expired", f"the step of hit {hit.id} is gone from the cycle")
        return
    if not plan.match:
        _start_transaction(turn, None, hit.id)
        return
    data, _ = read_hit(plan, hit)
    key = plan.key(data)
    if key is None:
        key = tuple(hit.key)
    candidates = find_candidates(turn.state, hit, key, CANDIDATES_MAX)
    if candidates:
        _match(turn, hit, plan, candidates, plan.mark(data) or "")
    else:
        _park(turn, hit, plan, key)


def deliver(turn: Turn) -> None:
    """Give kept hits their places, in order of arrival; in a cycle that does not run they wait for its start."""
    cycle = turn.state.cycle(turn.cycle)
    if cycle.status != "running":
        return
    for hit in turn.state.find("collected", (cycle.name,), TURN_PASSES):
        if turn.exhausted:
            break
        _route(turn, turn.state.hit(hit))
    if turn.state.find("collected", (cycle.name,), 1):
        turn.rest.append(Deliver(cycle.name, turn.at))
