"""A cycle's decisions: each input becomes events, by rules that look at nothing but the state.

1. A hit is refused before anything is recorded, or it is accepted and from then on never lost: it runs, waits in a
   queue, is parked, or has expired with an incident.
2. A hit and a hold meet whichever comes first, since both are turns of one actor.
3. A delivery key names one hit for ever; what comes again under it is answered as the first was.
4. At the end of a turn every accepted hit has a place, and what the turn could not hold is an input of its own.
"""

from protocol.events import (
    CallSettled,
    CycleDeployed,
    CycleStarted,
    CycleStopped,
    CycleStopping,
    HitAccepted,
    HitDuplicated,
    HitExpired,
    HitMatched,
    HitParked,
    HoldExpired,
    ReplyDetached,
    ReplySent,
    StepCompleted,
    TransactionStarted,
    TransactionStopped,
)
from protocol.inputs import (
    Accepted,
    CallEnded,
    Continue,
    Deliver,
    Deploy,
    Duplicate,
    Hit,
    HoldDue,
    Input,
    ParkDue,
    Parked,
    Receipt,
    Recover,
    Refused,
    ReplySettled,
    Resumed,
    Settle,
    Start,
    Stop,
    Verdict,
)
from protocol.program import COLLECTED_NS, WebhookPlan
from protocol.state import HitRow, State, TransactionRow, transaction_name
from protocol.transaction import (
    answer_at_end,
    begin_pass,
    call_ended,
    call_unknown,
    fail,
    hit_data,
    keep,
    resend,
    run,
)
from protocol.turn import TURN_PASSES, Decision, Turn

CANDIDATES_MAX = 20  # Transactions named when a match is ambiguous; the most recent is always among them.
COLLECTED_MAX = 10_000  # Hits kept for a stopped cycle; past it they are refused, so a stopped cycle stays bounded.
PARKED_MAX = 100_000  # Hits parked in one cycle: 2 minutes of 800 a second that match nothing.
QUEUE_MAX = 10_000  # Hits that wait behind one transaction's pass, or for one value; past it they are refused.


def decide(state: State, given: Input, seq: int) -> Decision:
    """Decide what an input means; the events are folded into the state already.

    Args:
        state: all rows; only `evolve` changes them.
        given: what happened.
        seq: the sequence number that the first event will have.

    Returns:
        The events, at most one turn's worth and atomic, and the verdict for who asked.
    """
    turn = Turn(state, given.cycle, given.at, seq)
    verdict = _decide(turn, given)
    _finish_when_drained(turn)
    return Decision(seq, turn.events, verdict, turn.records, tuple(turn.rest))


def _decide(turn: Turn, given: Input) -> Verdict:
    match given:
        case Hit():
            return _hit(turn, given)
        case CallEnded():
            call_ended(turn, turn.state.transaction(given.transaction), given)
        case HoldDue():
            _hold_due(turn, turn.state.transaction(given.transaction))
        case ParkDue():
            _park_due(turn, turn.state.hit(given.hit))
        case Deploy():
            return _deploy(turn, given)
        case Start():
            return _start(turn)
        case Stop():
            return _stop(turn, given)
        case ReplySettled():
            _reply_settled(turn, given)
        case Settle():
            return _settle(turn, given)
        case Recover():
            _recover(turn, given)
        case Continue():
            run(turn, turn.state.transaction(given.transaction))
        case Deliver():
            _deliver(turn)
    return None


def _hit(turn: Turn, hit: Hit) -> Verdict:
    cycle = turn.state.cycle(hit.cycle)
    if hit.delivery:
        before = turn.state.find_latest("delivery", (hit.cycle, hit.step, hit.delivery), 1)
        if before and not _forgotten(turn, turn.state.hit(before[0])):
            return _repeated(turn, hit, turn.state.hit(before[0]))
    plan = turn.state.program(cycle.definition_hash).webhook(hit.step)
    if cycle.status != "running":
        return _while_stopped(turn, hit)
    if not plan.match:
        row = _start_transaction(turn, hit, _accept(turn, hit))
        _warn(turn, hit, row.id)
        return Accepted(row.hit, row.id)
    candidates = turn.state.find_latest("reached", (hit.cycle, hit.step, *hit.key), CANDIDATES_MAX)
    if not candidates:
        if plan.step.unmatched == "reject":
            return Refused(404, "No transaction matches", f"no transaction waits at {hit.step} for this request")
        if _is_crowded(turn, hit):
            return Refused(503, "Too many hits are parked", f"requests that match nothing yet fill {hit.cycle}")
        accepted = turn.state.hit(_accept(turn, hit))
        _warn(turn, hit, 0)
        _park(turn, accepted, plan, hit.key)
        return Parked(accepted.id, accepted.until)
    if len(candidates) > 1 and plan.step.pick == "only":
        names = ", ".join(transaction_name(hit.cycle, one) for one in candidates)
        return Refused(409, "Several transactions match", f"step {hit.step} takes only one match, found {names}")
    row = turn.state.transaction(candidates[0])
    if len(row.queue) >= QUEUE_MAX:
        return Refused(503, "Queue is full", f"{QUEUE_MAX} requests already wait for this transaction")
    accepted = turn.state.hit(_accept(turn, hit))
    _warn(turn, hit, row.id)
    _match(turn, accepted, candidates)
    return Resumed(accepted.id, row.id, tuple(candidates) if len(candidates) > 1 else ())


def _accept(turn: Turn, hit: Hit) -> int:
    return turn.emit(
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
        )
    )


def _warn(turn: Turn, hit: Hit, transaction: int) -> None:
    for warning in hit.warnings:
        turn.incident(transaction, hit.step, "contract_broken", warning, "warning")


def _start_transaction(turn: Turn, given: Hit | None, accepted: int) -> TransactionRow:
    """Begin a transaction; a fresh hit brings its data along, a kept one has it read again."""
    hit = turn.state.hit(accepted)
    cycle = turn.state.cycle(hit.cycle)
    event = TransactionStarted(hit.cycle, turn.at, hit.id, cycle.definition_hash, hit.depth, hit.origin)
    row = turn.state.transaction(turn.emit(event))
    begin_pass(turn, row, hit, None if given is None else given.data)
    run(turn, row)
    return row


def _match(turn: Turn, hit: HitRow, candidates: list[int]) -> None:
    """Give a hit to the most recent candidate; its pass begins now unless one is in progress."""
    row = turn.state.transaction(candidates[0])
    named = candidates if len(candidates) > 1 else []
    turn.emit(HitMatched(hit.cycle, turn.at, hit.id, row.id, named))
    run(turn, row)


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


def _forgotten(turn: Turn, before: HitRow) -> bool:
    """Whether the time for which a delivery key is remembered is over; links are remembered for ever."""
    if before.origin is not None:
        return False
    try:
        program = turn.state.program(turn.state.cycle(before.cycle).definition_hash)
        return turn.at - before.at > program.webhook(before.step).window
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
    accepted = _accept(turn, hit)
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
    key = plan.key(hit_data(plan, hit))
    if key is None:
        key = tuple(hit.key)
    candidates = turn.state.find_latest("reached", (hit.cycle, hit.step, *key), CANDIDATES_MAX)
    if candidates:
        _match(turn, hit, candidates)
    else:
        _park(turn, hit, plan, key)


def _deliver(turn: Turn) -> None:
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


def _hold_due(turn: Turn, row: TransactionRow) -> None:
    """A hold that is still there goes on at its exit; in a cycle that is not running it waits for the start."""
    if row.status != "held" or not 0 < row.until <= turn.at or turn.state.cycle(row.cycle).status != "running":
        return
    step = row.step
    target = turn.program(row).webhook(step).on_timeout
    turn.emit(HoldExpired(row.cycle, turn.at, row.id, step, step if target == "fail" else target))
    if target == "fail":
        turn.incident(row.id, step, "hold_expired", "no matching request came in time")
        fail(turn, row, "hold_expired: no matching request came in time")
    run(turn, row)


def _park_due(turn: Turn, hit: HitRow) -> None:
    if hit.status not in ("parked", "collected") or hit.until > turn.at:
        return
    turn.emit(HitExpired(hit.cycle, turn.at, hit.id))
    turn.incident(0, hit.step, "hit_expired", f"hit {hit.id} was parked and nothing came for it")


def _deploy(turn: Turn, given: Deploy) -> Receipt:
    try:
        current = turn.state.cycle(given.cycle)
    except KeyError:
        current = None
    if current is None or current.definition_hash != given.hash or current.identifiers != given.identifiers:
        event = CycleDeployed(given.cycle, turn.at, given.definition, given.hash, given.identifiers)
        turn.emit(event)
    return Receipt(turn.state.cycle(given.cycle).status)


def _start(turn: Turn) -> Receipt:
    cycle = turn.state.cycle(turn.cycle)
    if cycle.status != "running":
        turn.emit(CycleStarted(cycle.name, turn.at))
    kept = turn.state.find("collected", (cycle.name,), COLLECTED_MAX)
    if kept:
        turn.rest.append(Deliver(cycle.name, turn.at))
    return Receipt("running", resumed=len(kept))


def _stop(turn: Turn, given: Stop) -> Receipt | None:
    """End passes now, or let them end; an order that one turn can not hold goes on in the next, which answers."""
    cycle = turn.state.cycle(turn.cycle)
    if cycle.status == "stopped":
        return Receipt("stopped", held=cycle.held)
    if given.mode == "finish":
        if cycle.status == "running":
            turn.emit(CycleStopping(cycle.name, turn.at))
        return Receipt("stopping" if cycle.running else "stopped", held=cycle.held)
    cut, kept = given.cut, given.kept
    for transaction in turn.state.running(cycle.name):
        if turn.exhausted:
            if cycle.status == "running":
                turn.emit(CycleStopping(cycle.name, turn.at))
            turn.rest.append(Stop(cycle.name, turn.at, "stop", cut, kept))
            return None
        row = turn.state.transaction(transaction)
        queue = list(row.queue)
        turn.emit(TransactionStopped(cycle.name, turn.at, row.id))
        answer_at_end(turn, row)
        keep(turn, queue, "stopped")
        cut, kept = cut + 1, kept + len(queue)
    turn.emit(CycleStopped(cycle.name, turn.at, "stop", cut, kept, cycle.held))
    return Receipt("stopped", cut, kept, cycle.held)


def _finish_when_drained(turn: Turn) -> None:
    try:
        cycle = turn.state.cycle(turn.cycle)
    except KeyError:
        return
    if cycle.status == "stopping" and cycle.running == 0:
        turn.emit(CycleStopped(cycle.name, turn.at, "finish", 0, cycle.parked, cycle.held))


def _reply_settled(turn: Turn, given: ReplySettled) -> None:
    hit = turn.state.hit(given.hit)
    if hit.fate != "waiting":
        return
    if given.fate == "sent":
        turn.emit(ReplySent(hit.cycle, turn.at, hit.id))
    else:
        turn.emit(ReplyDetached(hit.cycle, turn.at, hit.id, given.fate))


def _settle(turn: Turn, given: Settle) -> Verdict:
    row = turn.state.transaction(given.transaction)
    call = row.call
    if turn.state.cycle(row.cycle).status != "running":
        return Refused(409, "Cycle is not running", f"start {row.cycle} first: the transaction goes on from the call")
    if call is None or not call.unknown:
        return Refused(409, "Nothing to settle", "the transaction has no call whose outcome is unknown")
    turn.emit(CallSettled(row.cycle, turn.at, row.id, call.step, given.action))
    match given.action:
        case "resend":
            resend(turn, row)
        case "done":
            after = turn.program(row).plans[call.step].after
            turn.emit(StepCompleted(row.cycle, turn.at, row.id, call.step, {}, after))
        case "fail":
            fail(turn, row, "unknown_outcome: a person let it count as failed")
    run(turn, row)
    return Receipt(row.status)


def _recover(turn: Turn, given: Recover) -> None:
    for hit in given.hits:
        if turn.state.hit(hit).fate == "waiting":
            turn.emit(ReplyDetached(turn.cycle, turn.at, hit, "restart"))
    for transaction in given.transactions:
        row = turn.state.transaction(transaction)
        call_unknown(turn, row)
        run(turn, row)
