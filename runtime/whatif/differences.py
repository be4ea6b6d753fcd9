"""What differs between the record and a draft, told transaction by transaction as soon as both have come to rest.

1. A fact is an event that somebody outside would notice: a branch, a request, an answer, a place found for a request,
   a status, an incident. Facts of one subject meet by kind, step and how often that kind came there.
2. What is the same on both sides is forgotten at once, so memory follows what is in progress and differs.
3. Behind a call that has no recorded answer nothing is compared: nobody knows what would have come.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from protocol import events as e
from protocol.events_redrive import CallWithheld, TransactionResumed
from protocol.program import RespondPlan
from protocol.state import State, transaction_name
from runtime.masking import Hidden
from runtime.whatif.views import Refusal, shown

Side = Literal["recorded", "draft"]
Subject = tuple[Literal["transaction", "hit"], int]
Fact = e.AnyEvent | Refusal
Key = tuple[str, str, int]


class Difference(Struct, frozen=True):
    """One fact as each side has it, None where it has none; `what` is its kind."""

    what: str
    step: str
    recorded: dict[str, Any] | None
    draft: dict[str, Any] | None


class Changed(Struct, frozen=True):
    """What differs about one transaction, or about a request; `tasks` is how many more the draft takes."""

    cycle: str
    transaction: str | None
    hit: int | None
    differences: list[Difference]
    tasks: int


class Marks:
    """A set of sequence numbers, a bit each: of millions of transactions it takes a megabyte."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (number & 7) & 1)

    def add(self, number: int) -> None:
        """Put a number in."""
        place = number >> 3
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits)))
        self.count += number not in self
        self._bits[place] |= 1 << (number & 7)


class _Facts:
    """The facts of one side about one subject that are not yet known to be the same on the other."""

    def __init__(self) -> None:
        self.found: dict[Key, tuple[int, Fact, bool]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, kind: str, step: str, seq: int, fact: Fact, *, metered: bool) -> None:
        self._counts[kind, step] += 1
        self.found[kind, step, self._counts[kind, step]] = (seq, fact, metered)

    def essences(self) -> dict[Key, Any]:
        return {key: essence(fact) for key, (_, fact, _) in self.found.items()}


def _is_unasked(event: e.AnyEvent) -> bool:
    """Whether an incident is about what a draft is not asked: alerts, and requests of which only a refusal is left."""
    if not isinstance(event, e.IncidentRaised):
        return False
    return event.kind == "alert_failed" or (event.kind == "loop_detected" and not event.transaction)


class Ledger:
    """Takes the facts of both sides, and tells what differs."""

    def __init__(self, recorded: State, draft: State, hidden: Callable[[str], Hidden]) -> None:
        self.changed = Marks()  # Transactions of which something differs.
        self.stopped = Marks()  # Those that came to a call without a recorded answer.
        self.requests = 0  # Requests that found another place.
        self.kinds: Counter[str] = Counter()
        self._states: dict[Side, State] = {"recorded": recorded, "draft": draft}
        self._hidden = hidden
        self._open: dict[Subject, dict[Side, _Facts]] = {}
        self._latest: dict[Side, int] = {"recorded": 0, "draft": 0}  # The request that was latest accepted or expired.

    def note(self, side: Side, seq: int, event: e.AnyEvent) -> None:
        """Take a fact in, if an event is one; its state is folded already."""
        if isinstance(event, e.HitAccepted):
            self._latest[side] = seq
        elif isinstance(event, e.HitExpired):
            self._latest[side] = event.hit
        kind = _KINDS.get(type(event))
        if kind is None or _is_unasked(event):
            return
        for subject in self._subjects(side, seq, event):
            metered = self._is_metered(side, event)
            self._add(
                side, subject, "place" if subject[0] == "hit" and kind != "incident" else kind, seq, event, metered
            )

    def refused(self, refusal: Refusal) -> None:
        """Take in that the draft refuses a request which the record has."""
        self._add("draft", ("hit", refusal.hit), "place", refusal.hit, refusal, metered=False)

    def _add(self, side: Side, subject: Subject, kind: str, seq: int, fact: Fact, metered: bool) -> None:
        if subject[0] == "transaction" and subject[1] in self.stopped:
            return
        sides = self._open.setdefault(subject, {"recorded": _Facts(), "draft": _Facts()})
        step = "" if kind in ("place", "status") else getattr(fact, "step", "")
        sides[side].add(kind, step, seq, fact, metered=metered)

    def _subjects(self, side: Side, seq: int, event: e.AnyEvent) -> list[Subject]:
        match event:
            case e.TransactionStarted(hit=hit):
                return [("hit", hit), ("transaction", seq)]
            case TransactionResumed(hit=hit) if hit:
                return [("hit", hit), ("transaction", seq)]
            case e.TransactionSplit() | e.GatheringEnded() | TransactionResumed():
                return [("transaction", seq)]
            case e.HitMatched(hit=hit) | e.HitParked(hit=hit) | e.HitExpired(hit=hit) | e.HitIgnored(hit=hit):
                return [("hit", hit)]
            case e.ReplyBuilt(hit=hit):
                return [("transaction", self._states[side].hit(hit).transaction)]
            case e.IncidentRaised(transaction=0):
                return [("hit", self._latest[side])]
            case _:
                return [("transaction", getattr(event, "transaction", 0))]

    def _is_metered(self, side: Side, event: e.AnyEvent) -> bool:
        match event:
            case e.CallIntended(link=link):
                return link is None
            case e.ReplyBuilt(step=step):
                return bool(step)
            case e.IncidentRaised(transaction=transaction, step=step) if transaction:
                state = self._states[side]
                plans = state.program(state.transaction(transaction).definition_hash).plans
                return isinstance(plans.get(step), RespondPlan)
            case _:
                return False

    def stop(self, transaction: int, call: e.CallIntended) -> Changed:
        """The draft comes to a call of which no answer is recorded: tell what differs up to there, and leave it."""
        sides = self._open.pop(("transaction", transaction), {"recorded": _Facts(), "draft": _Facts()})
        self.stopped.add(transaction)
        row = self._states["draft"].transaction(transaction)
        hidden = self._hidden(row.cycle)
        tasks = _tasks(sides, known_only=True)
        latest = [key for key, (_, fact, _) in sides["draft"].found.items() if fact is call]
        for key in latest:
            sides["draft"].found.pop(key)
        found = self._compare(sides, hidden, known_only=True)
        found.append(Difference("not recorded", call.step, None, shown(0, call, hidden)))
        return self._told(("transaction", transaction), row.cycle, found, tasks)

    def settle(self, subject: Subject, *, at_end: bool = False) -> Changed | None:
        """Compare what is known of a subject; something is told once nothing of it is in progress, or at the end."""
        sides = self._open.get(subject)
        if sides is None:
            return None
        recorded, draft = sides["recorded"].essences(), sides["draft"].essences()
        if recorded == draft:
            del self._open[subject]
            return None
        if not at_end and any(self._is_moving(side, subject) for side in sides):
            return None
        del self._open[subject]
        if any(self._is_unknown(fact) for _, fact, _ in sides["recorded"].found.values()):
            return None
        cycle = self._cycle(subject)
        found = self._compare(sides, self._hidden(cycle), known_only=self._is_missing(subject))
        if not found:
            return None
        return self._told(subject, cycle, found, _tasks(sides, known_only=False))

    def open_subjects(self) -> list[Subject]:
        """What is still compared, in the order of its first fact."""
        return list(self._open)

    def _is_moving(self, side: Side, subject: Subject) -> bool:
        state, (kind, number) = self._states[side], subject
        try:
            if kind == "hit":
                return state.hit(number).status in ("new", "queued", "parked", "collected")
            row = state.transaction(number)
        except KeyError:
            return False
        return row.status == "running" or (row.call is not None and row.call.unknown)

    def _is_unknown(self, fact: Fact) -> bool:
        """Whether a request went to a transaction of which nobody knows whether it would have reached its step."""
        return isinstance(fact, e.HitMatched) and fact.transaction in self.stopped

    def _is_missing(self, subject: Subject) -> bool:
        """Whether a transaction never began in the draft; what its request became there says why."""
        if subject[0] == "hit":
            return False
        try:
            self._states["draft"].transaction(subject[1])
        except KeyError:
            return True
        return False

    def _cycle(self, subject: Subject) -> str:
        for state in self._states.values():
            try:
                return state.hit(subject[1]).cycle if subject[0] == "hit" else state.transaction(subject[1]).cycle
            except KeyError:
                continue
        return ""

    @staticmethod
    def _compare(sides: dict[Side, _Facts], hidden: Hidden, *, known_only: bool) -> list[Difference]:
        """Facts that differ, in the order of the draft, then those that only the record has, unless left out."""
        recorded, draft = sides["recorded"].found, sides["draft"].found
        found: list[Difference] = []
        for key in [*draft, *(key for key in recorded if key not in draft)]:
            before, after = recorded.get(key), draft.get(key)
            if before is not None and after is not None and essence(before[1]) == essence(after[1]):
                continue
            if after is None and known_only and not isinstance(before and before[1], _BEGUN_BY_STEP):
                continue
            views = [None if one is None else shown(one[0], one[1], hidden) for one in (before, after)]
            found.append(Difference(key[0], key[1], views[0], views[1]))
        return found

    def _told(self, subject: Subject, cycle: str, found: list[Difference], tasks: int) -> Changed:
        kind, number = subject
        self.kinds.update(one.what for one in found)
        if kind == "transaction":
            self.changed.add(number)
            return Changed(cycle, transaction_name(cycle, number), None, found, tasks)
        self.requests += 1
        transaction = self._hit_transaction(number)
        name = transaction_name(cycle, transaction) if transaction else None
        return Changed(cycle, name, number, found, tasks)

    def _hit_transaction(self, hit: int) -> int:
        for state in self._states.values():
            try:
                if transaction := state.hit(hit).transaction:
                    return transaction
            except KeyError:
                continue
        return 0


def _tasks(sides: dict[Side, _Facts], *, known_only: bool) -> int:
    """How many more tasks the facts of the draft are; `known_only` leaves out what only the record has."""
    draft = sides["draft"].found
    more = sum(metered for _, _, metered in draft.values())
    kept = (fact for key, fact in sides["recorded"].found.items() if not known_only or key in draft)
    return more - sum(metered for _, _, metered in kept)


def essence(fact: Fact) -> Any:
    """What of a fact counts when two are compared: instants and numbers of attempts do not."""
    match fact:
        case e.DecisionTaken(target=target) | e.HoldExpired(target=target):
            return target
        case e.CallIntended(request=request, link=link):
            said = (request.connector, request.method, request.url, request.headers, request.body)
            return (*said, request.content_type, link)
        case e.ReplyBuilt(status=status, headers=headers, body=body):
            return status, headers, body
        case e.TransactionHeld(step=step, key=key):
            return "held", step, tuple(key)
        case e.TransactionFailed(step=step, reason=reason):
            return "failed", step, reason
        case e.HitMatched(transaction=transaction, candidates=candidates):
            return transaction, tuple(candidates)
        case e.HitIgnored(transaction=transaction):
            return "ignored", transaction
        case e.HitParked(reason=reason, key=key):
            return reason, tuple(key)
        case e.IncidentRaised(kind=kind, message=message, level=level):
            return kind, message, level
        case CallWithheld(request=request):
            return request.method, request.url, request.body
        case TransactionResumed(step=step, action=action):
            return action, step
        case e.TransactionSplit(item=item, step=step):
            return step, item
        case _:
            return type(fact)


_BEGUN_BY_STEP = (e.TransactionSplit, e.GatheringEnded, TransactionResumed)
_KINDS: dict[type[Any], str] = {
    e.HitMatched: "place",
    e.HitParked: "place",
    e.HitExpired: "place",
    e.HitIgnored: "place",
    e.TransactionStarted: "begun",
    e.TransactionSplit: "begun",
    e.GatheringEnded: "begun",
    TransactionResumed: "begun",
    CallWithheld: "withheld call",
    e.DecisionTaken: "branch",
    e.HoldExpired: "branch",
    e.CallIntended: "call",
    e.ReplyBuilt: "answer",
    e.TransactionHeld: "status",
    e.TransactionCompleted: "status",
    e.TransactionFailed: "status",
    e.TransactionStopped: "status",
    e.IncidentRaised: "incident",
}
