"""Whatever is resumed, after whatever failures and crashes: a remote that honours keys acts once for each step."""

from collections import defaultdict
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.events import CallIntended
from protocol.events_redrive import HitRedriven
from protocol.inputs import CallAnswer, CallEnded, CallFailure
from protocol.state import TransactionRow
from tests.protocol.story import Story, cycle

STEPS = "  t: {webhook: shop}\n  one: {post: remote, path: /1}\n  two: {post: remote, path: /2}\n"
OUTCOMES: dict[str, tuple[CallAnswer | CallFailure, bool]] = {  # And whether the remote acted.
    "good": (CallAnswer(200, {}, b""), True),
    "refused": (CallAnswer(422, {}, b""), False),
    "broken": (CallAnswer(500, {}, b""), True),
    "lost": (CallFailure("sent", "reset"), True),
    "unreachable": (CallFailure("connect", "refused"), False),
}


class World:
    """Three transactions, their resumes, and the keys under which a remote has acted."""

    def __init__(self) -> None:
        self.story = Story(cycle(STEPS, rules="{on_error: stop_transaction}"))
        for _ in range(3):
            self.story.hit("t")
        self.acted: defaultdict[tuple[int, str], set[str]] = defaultdict(set)

    def rows(self) -> list[TransactionRow]:
        return list(self.story.state.transactions.values())

    def root(self, row: TransactionRow) -> int:
        """The first transaction of a line of resumes."""
        while row.lineage is not None:
            row = self.story.state.transaction(row.lineage.transaction)
        return row.id

    def end(self, which: int, how: str) -> None:
        """An open call ends; a late second attempt after a restart ends like any."""
        row = self.rows()[which % len(self.rows())]
        if row.call is None:
            return
        outcome, acted = OUTCOMES[how]
        if acted:
            self.acted[self.root(row), row.call.step].add(row.call.idempotency_key)
        self.story.put(CallEnded("c", self.story.at, row.id, row.call.step, row.number, row.call.attempt, outcome))

    def crash(self, which: int, _how: str) -> None:
        """The process dies; of one open call the remote had done what it was asked."""
        row = self.rows()[which % len(self.rows())]
        if row.call is not None:
            self.acted[self.root(row), row.call.step].add(row.call.idempotency_key)
        self.story.restart()

    def halt(self, which: int, _how: str) -> None:
        """The cycle is stopped and started; of one call in flight the remote had done what it was asked."""
        row = self.rows()[which % len(self.rows())]
        if row.call is not None:
            self.acted[self.root(row), row.call.step].add(row.call.idempotency_key)
        self.story.stop()
        self.story.start()

    def resume(self, which: int, how: str) -> None:
        """One of two orders resumes, or refuses to."""
        row = self.rows()[which % len(self.rows())]
        self.story.redrive("resume", row.id, "o1" if how < "h" else f"o{which}")


ACTIONS: list[Callable[[World, int, str], None]] = [World.end, World.end, World.crash, World.halt, World.resume]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20), st.sampled_from(sorted(OUTCOMES))), max_size=40)
)
def test_13_a_line_of_resumes_acts_once_for_each_step(moves: list[tuple[Callable[..., None], int, str]]) -> None:
    """Section 13: no line of resumes leaves a key behind under which the remote may have acted.

    And an order makes one hit of an item, a transaction is resumed once, and history is what it was.
    """
    world = World()
    for move, which, how in moves:
        before = list(world.story.journal)
        move(world, which, how)
        assert world.story.journal[: len(before)] == before
    assert all(len(keys) == 1 for keys in world.acted.values()), dict(world.acted)
    redriven = [event for event in world.story.journal if isinstance(event, HitRedriven)]
    assert len({(one.order, one.transaction) for one in redriven}) == len(redriven)
    assert all(len(row.redriven) <= 1 for row in world.rows())
    calls = [event for event in world.story.journal if isinstance(event, CallIntended)]
    owners = {(call.idempotency_key, world.root(world.story.state.transaction(call.transaction))) for call in calls}
    assert len(owners) == len({key for key, _ in owners}), "two lines of resumes share a key"
