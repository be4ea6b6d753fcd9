"""One what-if: the journal read once, two states folded beside each other on disk, and the summary."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from protocol.definition import Definition
from protocol.events import AnyEvent, HitAccepted
from protocol.evolve import evolve
from protocol.inputs import CallLeaves, Deploy, Start
from protocol.loading import encode_definition
from runtime.masking import Hidden
from runtime.store import Database, StoredState
from runtime.whatif.differences import Changed, Ledger
from runtime.whatif.record import Came, CameAgain, Ended, Record, RecordedTurn, Redrives
from runtime.whatif.requests import Requests
from runtime.whatif.shadow import Shadow

ROWS_MAX = 4000  # Changed rows in memory before they go to the file.
USAGE_ROWS_MAX = 10_000_000

Numbered = tuple[int, AnyEvent]


class Past(Struct, frozen=True):
    """The journal, as a what-if needs it.

    Attributes:
        events: all of them, from the beginning.
        original: reads one accepted request again.
        next_seq: the number behind the last one.
        cycles: the names of all cycles that were ever deployed.
    """

    events: Iterable[Numbered]
    original: Callable[[int], HitAccepted]
    next_seq: int
    cycles: frozenset[str]


class Window(Struct, frozen=True):
    """Which part of the past runs on the draft: numbers, or instants; what came before is as it was."""

    since: int = 0
    until: int = 2**62
    since_at: int = 0
    until_at: int = 2**62

    def has_begun(self, turn: RecordedTurn) -> bool:
        """Whether a turn belongs to it, or comes after it."""
        return turn.seq >= self.since and turn.at >= self.since_at

    def is_over(self, turn: RecordedTurn) -> bool:
        """Whether a turn comes after it."""
        return turn.seq > self.until or turn.at > self.until_at


class Outcome(Struct, frozen=True):
    """What a what-if came to.

    Attributes:
        hits: requests that were run.
        transactions: of which something differs.
        requests: requests that found another place.
        not_recorded: transactions that stopped at a call without a recorded answer.
        kinds: how many differences of each kind.
        tasks: by cycle, in the record and in the draft.
    """

    hits: int
    transactions: int
    requests: int
    not_recorded: int
    kinds: dict[str, int]
    tasks: dict[str, tuple[int, int]]

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not (self.transactions or self.requests or any(one != two for one, two in self.tasks.values()))


def what_if(
    past: Past,
    drafts: Mapping[str, Definition],
    hidden: Callable[[str], Hidden],
    tell: Callable[[Changed], None],
    window: Window = Window(),  # noqa: B008 - Frozen.
) -> Outcome:
    """Run the past with drafts of its cycles.

    Args:
        past: the journal.
        drafts: definitions, by the name of their cycle; other cycles run as they were.
        hidden: what must not be shown of a cycle, in the record and in the draft.
        tell: takes what differs, as soon as it is known.
        window: which part of the past.
    """
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="cyclewright-")))
        states: list[StoredState] = []
        for name in ("recorded", "draft"):
            database = Database(folder / name)
            closing.callback(database.close)
            states.append(StoredState(database))
        return _WhatIf(past, drafts, hidden, tell, (states[0], states[1])).run(window)


class _WhatIf:
    def __init__(
        self,
        past: Past,
        drafts: Mapping[str, Definition],
        hidden: Callable[[str], Hidden],
        tell: Callable[[Changed], None],
        states: tuple[StoredState, StoredState],
    ) -> None:
        self._past = past
        self._drafts = drafts
        self._recorded, self._state = states
        self._ledger = Ledger(*states, hidden)
        self._shadow = Shadow(self._state, self._recorded, self._ledger, tell, past.next_seq)
        self._requests = Requests(self._shadow, self._ledger, past.original)
        self._begun = False
        self._before: Counter[str] = Counter()
        self._hits = 0
        self._at = 0

    def run(self, window: Window) -> Outcome:
        record = Record(self._recorded, self._saw)
        latest: RecordedTurn | None = None
        turns: Iterator[RecordedTurn] = record.turns(self._past.events)
        for turn in turns:
            if latest is not None:
                self._turn(latest)
            latest = None
            self._checkpoint()
            if window.is_over(turn):
                break
            if not self._begun and window.has_begun(turn):
                self._begin(turn.at)
            latest = turn if self._begun else None
        if latest is not None:
            self._turn(latest)
        self._shadow.finish(self._at)
        return self._outcome()

    def _saw(self, seq: int, event: AnyEvent) -> None:
        if self._begun:
            self._shadow.saw(seq, event)
        else:
            evolve(self._state, event, seq)

    def _begin(self, at: int) -> None:
        """The drafts become current; cycles that the journal never had are started too."""
        self._begun = True
        self._before = _tasks(self._recorded)
        for name, definition in self._drafts.items():
            known = name in {row.name for row in self._state.cycles()}
            if known or name not in self._past.cycles:
                self._shadow.run(self._deploy(name, definition, at))
            if name not in self._past.cycles:
                self._shadow.run(Start(name, at))
        for cycle in self._state.cycles():
            for transaction in self._state.running(cycle.name):
                row = self._state.transaction(transaction)
                if row.call is not None and row.call.link is not None:
                    self._requests.began(row, row.call)
        self._shadow.settle()

    def _deploy(self, name: str, definition: Definition, at: int) -> Deploy:
        packed = encode_definition(definition)
        return Deploy(name, at, packed, hashlib.sha256(packed).hexdigest(), {})

    def _turn(self, turn: RecordedTurn) -> None:
        self._at = max(self._at, turn.at)
        given, shadow = turn.given, self._shadow
        if isinstance(given, Ended):
            shadow.brought(given)
        shadow.fire(turn.at)
        match given:
            case Came():
                self._hits += 1
                self._requests.came(given)
            case CameAgain():
                self._hits += 1
                self._requests.came_again(given)
            case Redrives():
                self._hits += 1
                self._requests.redriven(given)
            case CallLeaves():
                shadow.leave(given)
            case Ended() | None:
                pass  # It is for a call that is open already, or will be.
            case Deploy(cycle=cycle) if cycle in self._drafts:
                if cycle not in {row.name for row in self._state.cycles()}:
                    shadow.run(self._deploy(cycle, self._drafts[cycle], turn.at))
            case _:
                shadow.run(given)
        shadow.look()
        shadow.settle()

    def _checkpoint(self) -> None:
        for state in (self._recorded, self._state):
            if state.changed >= ROWS_MAX:
                taken = state.checkpoint(0)
                taken.write(state.database)
                state.written(taken)

    def _outcome(self) -> Outcome:
        recorded, draft = _tasks(self._recorded), _tasks(self._state)
        recorded.subtract(self._before)
        draft.subtract(self._before)
        ledger = self._ledger
        return Outcome(
            self._hits,
            ledger.changed.count,
            ledger.requests,
            ledger.stopped.count,
            dict(ledger.kinds),
            {name: (recorded[name], draft[name]) for name in sorted(recorded.keys() | draft.keys())},
        )


def _tasks(state: StoredState) -> Counter[str]:
    tasks: Counter[str] = Counter()
    for row in state.usages("", USAGE_ROWS_MAX):
        tasks[row.cycle] += row.tasks
    return tasks
