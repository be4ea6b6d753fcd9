"""How events about hits, and the answers to them, make the state; `protocol.evolve` is their front door."""

from itertools import islice

from protocol import events as e
from protocol.duration import DAY_NS
from protocol.state import HitRow, Reply, State, TransactionRow

EVENT_RANGES_MAX = 128  # Sequence ranges kept per transaction: 64 turns; older ones are found by reading the journal.


def count_task(state: State, event: e.AnyEvent, step: str) -> None:
    """Meter one unit of work (section 12): a hit, an attempt at a call, or a response."""
    row = state.usage(event.at // DAY_NS, event.cycle, step)
    row.tasks += 1
    state.save(row)


def hit_accepted(state: State, event: e.HitAccepted, seq: int) -> None:
    """Keep the request; its delivery key names it from now on."""
    row = HitRow(
        seq,
        event.cycle,
        event.step,
        event.at,
        event.method,
        event.headers,
        event.query,
        event.body,
        event.content_type,
        event.delivery,
        event.digest,
        event.wants_reply,
        event.depth,
        event.origin,
        fate="waiting" if event.wants_reply else "none",
        answer_by=event.answer_by,
        chain=event.chain,
        sampled=event.sampled,
    )
    state.save(row)
    count_task(state, event, event.step)
    if event.script:
        count_task(state, event, event.step)
    if event.delivery:
        state.file("delivery", (event.cycle, event.step, event.delivery), seq)


def hit_duplicated(state: State, event: e.HitDuplicated, _seq: int) -> None:
    """A repeat changes nothing; that it came is in the journal."""


def unpark(state: State, hit: HitRow) -> None:
    """Take a hit from the place where it was kept, if it was."""
    if hit.status == "parked":
        state.unfile("parked", (hit.cycle, hit.step, *hit.key), hit.id)
    elif hit.status == "collected":
        state.unfile("collected", (hit.cycle,), hit.id)
    else:
        return
    cycle = state.cycle(hit.cycle)
    cycle.parked -= 1
    state.save(cycle)


def hit_matched(state: State, event: e.HitMatched, seq: int) -> None:
    """The hit waits for its pass, behind those that came before it."""
    hit = state.hit(event.hit)
    row = touch(state, event, seq, event.transaction)
    unpark(state, hit)
    hit.status = "queued"
    hit.transaction = event.transaction
    hit.candidates = list(event.candidates)
    row.queue.append(event.hit)
    if event.mark:
        name = f"{hit.step}.{event.by}"
        hit.overtook = name, row.seen.get(name, "")
        row.seen = {**row.seen, name: event.mark}
    state.save(hit)
    state.save(row)


def give_back(state: State, row: TransactionRow, place: int) -> None:
    """Take a hit out of the queue of a transaction that does not run it, and so has not seen it (section 6.8)."""
    hit = state.hit(row.queue.pop(place))
    if hit.overtook is None:
        return
    name, before = hit.overtook
    hit.overtook = None
    state.save(hit)
    for later in map(state.hit, islice(row.queue, place, None)):
        if later.overtook is not None and later.overtook[0] == name:
            later.overtook = name, before
            state.save(later)
            return
    row.seen = {field: mark for field, mark in {**row.seen, name: before}.items() if mark}


def hit_ignored(state: State, event: e.HitIgnored, seq: int) -> None:
    """The hit belongs to the transaction and runs nothing; its caller is told so."""
    hit = state.hit(event.hit)
    row = touch(state, event, seq, event.transaction)
    unpark(state, hit)
    hit.status = "ignored"
    hit.transaction = event.transaction
    if hit.fate == "waiting":
        hit.fate = "none"
    hit.body, hit.headers, hit.query = b"", {}, {}
    state.save(hit)
    state.save(row)


def hit_parked(state: State, event: e.HitParked, _seq: int) -> None:
    """Keep the hit under its values, or for its cycle."""
    hit = state.hit(event.hit)
    unpark(state, hit)
    if hit.status == "queued":
        row = state.transaction(hit.transaction)
        if hit.id in row.queue:
            give_back(state, row, row.queue.index(hit.id))
            state.save(row)
    hit.transaction = 0
    hit.key, hit.until = list(event.key), event.until
    if event.reason == "early":
        hit.status = "parked"
        state.file("parked", (hit.cycle, hit.step, *hit.key), hit.id)
    else:
        hit.status = "collected"
        state.file("collected", (hit.cycle,), hit.id)
    if event.reason != "moved":
        hit.parked = True
        if hit.fate == "waiting":
            hit.fate = "none"  # Its caller is told `parked`; nobody waits for the answer.
    cycle = state.cycle(hit.cycle)
    cycle.parked += 1
    state.save(cycle)
    state.save(hit)


def hit_expired(state: State, event: e.HitExpired, _seq: int) -> None:
    """The hit gives up what it was kept for."""
    hit = state.hit(event.hit)
    unpark(state, hit)
    hit.status = "expired"
    if hit.fate == "waiting":
        hit.fate = "none"  # Its caller is told so.
    hit.body, hit.headers, hit.query = b"", {}, {}
    state.save(hit)


def end_hit(state: State, row: TransactionRow) -> None:
    """The pass is over: its hit gives up what only a running pass needs, when no other shares it."""
    hit = pass_hit(state, row)
    if hit is None:
        return
    if hit.branches:
        hit.branches -= 1
        state.save(hit)
    if hit.status == "running" and not hit.branches:
        hit.status = "done"
        hit.body, hit.headers, hit.query = b"", {}, {}
        state.save(hit)


def hit_of(state: State, row: TransactionRow) -> HitRow | None:
    """The latest hit of a transaction; None when there never was one, or when retention removed it.

    A part of a split shares the hit of its parent, which may be long over while the part still holds.
    """
    try:
        return state.hit(row.hit) if row.hit else None
    except KeyError:
        if row.hit <= state.cycle(row.cycle).removed:
            return None
        raise


def pass_hit(state: State, row: TransactionRow) -> HitRow | None:
    """The hit that the latest pass runs, or ran; None too when that pass began with an expired hold, which none did."""
    return None if row.alone else hit_of(state, row)


def reply_built(state: State, event: e.ReplyBuilt, _seq: int) -> None:
    """Keep the answer, so that a repeat is given it byte for byte."""
    hit = state.hit(event.hit)
    hit.reply = Reply(event.status, event.headers, event.body)
    state.save(hit)
    if event.step:
        count_task(state, event, event.step)


def reply_settled(state: State, event: e.ReplySent | e.ReplyDetached, _seq: int) -> None:
    """Keep what became of the answer."""
    hit = state.hit(event.hit)
    hit.fate = "sent" if isinstance(event, e.ReplySent) else event.reason
    state.save(hit)


def touch(state: State, event: e.AnyEvent, seq: int, transaction: int) -> TransactionRow:
    """The row of a transaction that an event is about, with the instant and the number of the event noted."""
    row = state.transaction(transaction)
    row.updated = event.at
    ranges = row.events
    if ranges and ranges[-1] == seq - 1:  # Nearly always: the events of a turn follow each other.
        ranges[-1] = seq
    else:
        note_event(row, seq)
    return row


def note_event(row: TransactionRow, seq: int) -> None:
    """Note the number of an event that is about a transaction."""
    ranges = row.events
    if ranges and ranges[-1] == seq - 1:
        ranges[-1] = seq
    else:
        ranges += (seq, seq)
        if len(ranges) > EVENT_RANGES_MAX:
            del ranges[2:4]  # The first turn stays: it says how the transaction began.
