"""The draft's own run: the same inputs as in the record, through the same `decide`, into a state of its own.

1. What the record brought is brought when the record did: requests, answers, due times, orders, restarts.
2. An answer finds its call by transaction, pass and step, in order. One whose call was not made yet waits for it.
3. A call is left without an answer only when the record can bring none any more; the pass stops there for good.
4. A due time that only the draft has fires when virtual time comes to it. What a turn left over is carried on when the
   record has carried it on, or has nothing of the kind.
5. Transactions keep the numbers that the record gave them. Those that only the draft begins get numbers behind the
   end of the journal, so they count as the latest ones where a request picks the most recent.
"""

import heapq
from collections import deque
from collections.abc import Callable

from msgspec import structs

from protocol import events as e
from protocol.cycle import decide
from protocol.events_redrive import TransactionResumed
from protocol.evolve import evolve
from protocol.inputs import (
    Aim,
    CallEnded,
    CallLeaves,
    Continue,
    Deliver,
    HoldDue,
    Input,
    ParkDue,
    Recover,
    ReplySettled,
    RunOnce,
    Settle,
    Start,
    Stop,
    Verdict,
)
from protocol.outbox import AnswerLink, RearmTimers, outbox
from protocol.program import HOOK, SCRIPT
from protocol.state import HitRow, OpenCall, TransactionRow
from runtime.store import StoredState
from runtime.whatif.differences import Changed, Ledger
from runtime.whatif.names import Names
from runtime.whatif.record import Ended, Pass, pass_of

NEVER = 2**62  # The due time of a pass that stopped for want of an answer: it waits, cold, and never goes on.
WAITING = ("new", "queued", "parked", "collected")  # Of hits whose pass is still to come.

BEGINNINGS = (e.TransactionStarted, e.TransactionSplit, e.GatheringEnded, TransactionResumed)

Due = tuple[int, str, int]
"""An instant, what it is for (`hit` or `transaction`), and the number of that."""


class Shadow:
    """The run of the draft.

    Args:
        state: its own.
        recorded: that of the record, folded up to and with the turn that is being run.
        ledger: takes its facts.
        tell: takes what differs.
        first_free: the first number behind the end of the journal.
    """

    def __init__(
        self,
        state: StoredState,
        recorded: StoredState,
        ledger: Ledger,
        tell: Callable[[Changed], None],
        first_free: int,
    ) -> None:
        self.state = state
        self.recorded = recorded
        self.at = 0
        self.names = Names(first_free)
        self.look_at_link: Callable[[TransactionRow, OpenCall], None] = lambda row, call: None  # noqa: ARG005 - Set by Links.
        self.link_answered: Callable[[CallEnded], None] = lambda ended: None  # noqa: ARG005 - The same.
        self.status_url: Callable[[int], str] = str
        self._ledger = ledger
        self._tell = tell
        self._answers: dict[int, deque[Ended]] = {}
        self._calls: dict[int, e.CallIntended] = {}  # Open ones.
        self._stops: dict[str, Stop] = {}  # Orders that one turn could not hold.
        self._due: list[Due] = []
        self._armed: set[Due] = set()
        self._overdue: dict[str, list[Due]] = {}  # Of cycles that do not run.
        self._told: dict[tuple[str, int], None] = {}  # What this turn was about, on either side.
        self._unseen: dict[tuple[str, int], None] = {}  # Of that, what was not looked at since it changed.
        self._cycles: dict[str, None] = {}
        self._stuck: dict[int, None] = {}  # Transactions whose call the record has no answer to.

    # ------------------------------------------------------------------ the record goes on

    def saw(self, seq: int, event: e.AnyEvent) -> None:
        """The record has one more event."""
        self._ledger.note("recorded", seq, event)
        self.names.learn(seq, event)
        self._touch(seq, event)

    def _touch(self, seq: int, event: e.AnyEvent) -> None:
        self._cycles[event.cycle] = None
        if isinstance(event, BEGINNINGS):
            self.touch("transaction", seq)
        if transaction := getattr(event, "transaction", 0):
            self.touch("transaction", transaction)
        if hit := seq if isinstance(event, e.HitAccepted) else getattr(event, "hit", 0):
            self.touch("hit", hit)

    def touch(self, kind: str, number: int) -> None:
        """Something happened to this."""
        self._told[kind, number] = self._unseen[kind, number] = None

    def brought(self, ended: Ended) -> None:
        """The record has an answer to a call."""
        self._answers.setdefault(ended.transaction, deque()).append(ended)

    # ------------------------------------------------------------------ turns of the draft

    def run(self, given: Input, hit: int = 0) -> Verdict:
        """One turn of the draft; `hit` is the number that a request has."""
        if not self._has(given):
            return None
        numbers: list[int] = []

        def number(event: e.AnyEvent, _proposed: int) -> int:
            numbers.append(hit if isinstance(event, e.HitAccepted) else self.names.take(event))
            return numbers[-1]

        decision = decide(self.state, given, hit or self.names.free, number)
        for seq, event in zip(numbers, decision.events, strict=True):
            self._ledger.note("draft", seq, event)
            self._touch(seq, event)
            if isinstance(event, e.CallIntended):
                self._calls[event.transaction] = event
        self._stops |= {left.cycle: left for left in decision.rest if isinstance(left, Stop)}
        for effect in outbox(self.state, decision, self.status_url):
            match effect:
                case AnswerLink(ended=ended):
                    self.link_answered(ended)
                    self.touch("transaction", ended.transaction)
                case RearmTimers(cycle=cycle):
                    for due in self._overdue.pop(cycle, ()):
                        self._arm(due)
                case _:
                    pass
        return decision.verdict

    def leave(self, given: CallLeaves) -> None:
        """A call of the record left; so does the same one of the draft, whichever attempt of which pass it is."""
        row = self.row(self.state, given.transaction)
        if row is not None and row.call is not None and row.call.step == given.step:
            self.run(structs.replace(given, number=row.number, attempt=row.call.attempt))

    def _has(self, given: Input) -> bool:
        """Whether the draft has what an input is about."""
        match given:
            case Aim(transaction=number, hit=hit):
                return self.row(self.state, number) is not None and self.hit(self.state, hit) is not None
            case HoldDue(transaction=number) | Settle(transaction=number) | Recover(transactions=(number,)):
                return self.row(self.state, number) is not None
            case ParkDue(hit=number) | ReplySettled(hit=number) | Recover(hits=(number,)):
                return self.hit(self.state, number) is not None
            case Start(cycle=cycle) | Stop(cycle=cycle) | RunOnce(cycle=cycle):
                return cycle in {row.name for row in self.state.cycles()}
            case _:
                return True

    def fire(self, now: int) -> None:
        """Due times that only the draft has, up to now."""
        while self._due and self._due[0][0] <= now:
            due = heapq.heappop(self._due)
            self._armed.discard(due)
            at, kind, number = due
            row = self.hit(self.state, number) if kind == "hit" else self.row(self.state, number)
            if row is None or row.until != at:
                continue
            self.at = at
            if isinstance(row, HitRow):
                self.run(ParkDue(row.cycle, at, number))
            elif row.status == "held" and self.state.cycle(row.cycle).status != "running":
                self._overdue.setdefault(row.cycle, []).append(due)
            else:
                self.run(HoldDue(row.cycle, at, number))
            self.look()
        self.at = now

    def _arm(self, due: Due) -> None:
        if due not in self._armed:
            self._armed.add(due)
            heapq.heappush(self._due, due)

    # ------------------------------------------------------------------ what follows

    def look(self) -> None:
        """Run what is open, as far as the record allows."""
        while self._cycles or self._unseen or self._stuck:
            if self._cycles:
                self._look_at_cycle(self._cycles.popitem()[0])
            elif self._unseen:
                kind, number = next(iter(self._unseen))
                del self._unseen[kind, number]
                if kind == "hit":
                    self._look_at_hit(number)
                else:
                    self._look_at(number)
            else:
                self._stop_here(self._stuck.popitem()[0])

    def settle(self) -> None:
        """Tell what differs about everything that this turn was about, and is over."""
        for kind, number in self._told:
            changed = self._ledger.settle(("hit" if kind == "hit" else "transaction", number))
            if changed is not None:
                self._tell(changed)
        self._told.clear()

    def _look_at_cycle(self, name: str) -> None:
        before = next((row for row in self.recorded.cycles() if row.name == name), None)
        row = next((row for row in self.state.cycles() if row.name == name), None)
        if row is None:
            return
        if name in self._stops and (before is None or before.status != "stopping"):
            self.run(self._stops.pop(name))
        if row.status == "running" and row.parked and self.state.find("collected", (name,), 1):
            left = before is not None and before.status == "running" and self.recorded.find("collected", (name,), 1)
            if not left:
                self.run(Deliver(name, self.at))

    def _look_at_hit(self, number: int) -> None:
        row, before = self.hit(self.state, number), self.hit(self.recorded, number)
        if row is None:
            return
        if row.transaction:
            self.touch("transaction", row.transaction)
        if row.status in ("parked", "collected") and (
            before is None or (before.status, before.until) != (row.status, row.until)
        ):
            self._arm((row.until, "hit", number))

    def _look_at(self, transaction: int) -> None:
        row, before = self.row(self.state, transaction), self.row(self.recorded, transaction)
        if row is not None and transaction not in self._ledger.stopped:
            if _is_left(row) and (before is None or not _is_left(before)):
                self.run(Continue(row.cycle, self.at, transaction))
                return
            if row.until and (before is None or (before.status, before.until) != (row.status, row.until)):
                self._arm((row.until, "transaction", transaction))
            if row.call is not None and not row.call.unknown and not row.until:
                self._look_at_call(row, row.call)
                return
        self._calls.pop(transaction, None)
        self.names.forget(transaction)
        kept = deque(one for one in self._answers.pop(transaction, ()) if not self._is_over(one.run, row))
        if kept:
            self._answers[transaction] = kept

    def _look_at_call(self, row: TransactionRow, call: OpenCall) -> None:
        if call.link is not None:
            self.look_at_link(row, call)
            return
        ended = self.take_answer(row, call)
        if ended is not None:
            self.end_call(row, call, ended)
        elif not self.can_bring(row):
            self._stuck[row.id] = None  # Unless something that is still to be looked at ends it.

    def end_call(self, row: TransactionRow, call: OpenCall, ended: Ended) -> None:
        """Bring the outcome of an open call."""
        self._calls.pop(row.id, None)
        self.run(CallEnded(row.cycle, self.at, row.id, call.step, row.number, 0, ended.outcome))

    def take_answer(self, row: TransactionRow, call: OpenCall) -> Ended | None:
        """The next outcome that the record has for a call of this pass."""
        run = pass_of(self.state, row)
        for ended in self._answers.get(row.id, ()):
            kinds = [one if one in (SCRIPT, HOOK) else "" for one in (ended.method, call.request.method)]
            if ended.run == run and ended.step == call.step and kinds[0] == kinds[1]:
                self._answers[row.id].remove(ended)
                return ended
        return None

    def can_bring(self, row: TransactionRow) -> bool:
        """Whether the record may still have something to say about the latest pass of a transaction."""
        before = self.row(self.recorded, row.id)
        if before is None:
            return False
        run, theirs = pass_of(self.state, row), pass_of(self.recorded, before)
        if run == theirs:
            return before.status == "running" or before.call is not None
        if run[0] == theirs[0]:
            return theirs[1] < run[1] and before.status in ("running", "held")
        hit = self.hit(self.recorded, run[0])
        return hit is not None and hit.status in WAITING

    def _is_over(self, run: Pass, row: TransactionRow | None) -> bool:
        """Whether a pass of the record needs no answer any more in the draft."""
        if row is not None and row.id in self._ledger.stopped:
            return True
        if row is not None and row.hit == run[0]:
            ours = pass_of(self.state, row)
            return run[1] < ours[1] or (run == ours and row.status != "running" and row.call is None)
        hit = self.hit(self.state, run[0])
        return hit is None or hit.status not in WAITING

    def _stop_here(self, transaction: int) -> None:
        """No answer to the open call of a transaction is recorded: what would follow is not known."""
        row = self.state.transaction(transaction)
        call = row.call
        if call is None or call.unknown or row.until:
            return
        event = self._calls.pop(row.id, None) or e.CallIntended(
            row.cycle, self.at, row.id, call.step, call.attempt, call.idempotency_key, call.request, call.link
        )
        self._tell(self._ledger.stop(row.id, event))
        self._answers.pop(row.id, None)
        waits = e.WaitStarted(row.cycle, self.at, row.id, call.step, NEVER, "remote")
        evolve(self.state, waits, self.names.next_free())

    def finish(self, at: int) -> None:
        """The record ends: what the draft still waits for, and the record does not, is not recorded."""
        self.fire(at)
        for transaction in list(self._calls):
            row, before = self.row(self.state, transaction), self.row(self.recorded, transaction)
            ours, theirs = (None if one is None else one.call for one in (row, before))
            if ours is not None and (theirs is None or theirs.step != ours.step):
                self._stop_here(transaction)
        for subject in self._ledger.open_subjects():
            changed = self._ledger.settle(subject, at_end=True)
            if changed is not None:
                self._tell(changed)

    # ------------------------------------------------------------------ rows

    @staticmethod
    def row(state: StoredState, transaction: int) -> TransactionRow | None:
        """The row of a transaction, if it has one."""
        try:
            return state.transaction(transaction)
        except KeyError:
            return None

    @staticmethod
    def hit(state: StoredState, number: int) -> HitRow | None:
        """The row of a hit, if it has one."""
        try:
            return state.hit(number)
        except KeyError:
            return None


def _is_left(row: TransactionRow) -> bool:
    """Whether a pass is in progress and waits for nothing: the rest of a turn."""
    return row.status == "running" and row.call is None and not row.until
