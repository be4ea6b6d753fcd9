"""Each rule of the invariants is broken here once, and must be told; a state that the core makes breaks none."""

from collections.abc import Callable

import pytest

from protocol.cycle import decide
from protocol.events import GatheringEnded
from protocol.inputs import Deliver, Start
from protocol.invariants import Picture, broken
from protocol.memory import MemoryState
from protocol.state import CycleRow, HitRow, TransactionRow
from tests.protocol.story import Story, cycle

CYCLE = cycle(
    "  t: {webhook: shop, fields: {k: text}}\n"
    "  ask: {post: remote, path: /x}\n"
    "  back: {webhook: shop, fields: {k: text}, match: {k: t.k}, hold_for: 1 day}\n"
    "  told: {respond: {body: {ok: true}}}\n",
    rules="{on_error: stop_transaction}",
)


def lived() -> Story:
    """One that completed, one that failed, one that holds, one in a call, and a hit that is parked."""
    story = Story(CYCLE)
    for number, key in enumerate("abcd"):
        story.hit("t", {"k": key}, headers={"webhook-id": f"w{number}"})
    ids = list(story.state.transactions)
    story.answer({}, transaction=ids[0])
    story.hit("back", {"k": "a"})
    story.no_answer(transaction=ids[1])
    story.answer({}, transaction=ids[2])
    story.hit("back", {"k": "z"})
    return story


def rows(state: MemoryState, status: str) -> TransactionRow:
    """The transaction of a status."""
    return next(row for row in state.transactions.values() if row.status == status)


def hits(state: MemoryState, status: str) -> HitRow:
    """A hit of a status."""
    return next(row for row in state.hits.values() if row.status == status)


def cycle_of(state: MemoryState) -> CycleRow:
    """The one cycle."""
    (row,) = state.cycles.values()
    return row


def _no_call(state: MemoryState) -> None:
    rows(state, "running").call = None


def _unreachable(state: MemoryState) -> None:
    row = rows(state, "held")
    state.unfile("reached", ("c", "back", "c"), row.id)
    row.reached = {}


def _left_in_queue(state: MemoryState) -> None:
    rows(state, "held").queue.append(hits(state, "done").id)


def _owns(state: MemoryState) -> None:
    rows(state, "completed").until = 1


def _matched(state: MemoryState) -> None:
    row = rows(state, "failed")
    row.reached = {"back": ["b"]}
    state.file("reached", ("c", "back", "b"), row.id)


def _placeless(state: MemoryState) -> None:
    hits(state, "done").status = "new"


def _lost_from_queue(state: MemoryState) -> None:
    hits(state, "done").status = "queued"


def _not_run(state: MemoryState) -> None:
    hits(state, "done").status = "running"


def _endless(state: MemoryState) -> None:
    hits(state, "parked").until = 0


def _body(state: MemoryState) -> None:
    hits(state, "done").body = b"{}"


def _unanswered(state: MemoryState) -> None:
    next(hit for hit in state.hits.values() if hit.reply is not None).reply = None


def _miscounted(state: MemoryState) -> None:
    cycle_of(state).held += 1


def _parked_miscounted(state: MemoryState) -> None:
    cycle_of(state).parked = 0


def _forgotten_hold(state: MemoryState) -> None:
    state.unfile("reached", ("c", "back", "c"), rows(state, "held").id)


def _stale_entry(state: MemoryState) -> None:
    state.file("parked", ("c", "back", "q"), hits(state, "done").id)


def _missed(state: MemoryState) -> None:
    hit = hits(state, "parked")
    state.unfile("parked", ("c", "back", *hit.key), hit.id)
    hit.key = ["c"]
    state.file("parked", ("c", "back", "c"), hit.id)


def _key_forgotten(state: MemoryState) -> None:
    state.unfile("delivery", ("c", "t", "w0"), next(hit.id for hit in state.hits.values() if hit.delivery == "w0"))


def _key_of_two(state: MemoryState) -> None:
    state.file("delivery", ("c", "t", "w0"), next(hit.id for hit in state.hits.values() if hit.delivery == "w1"))


def _gathered(state: MemoryState) -> None:
    row = rows(state, "running")
    row.status, row.step, row.call = "held", "back", None
    row.reached = {"back": ["d"]}
    state.file("reached", ("c", "back", "d"), row.id)
    next(hit for hit in state.hits.values() if hit.transaction == row.id).status = "done"
    counts = cycle_of(state)
    counts.running, counts.held, counts.gathered = 0, counts.held + 1, {"all": 1}


def _run_though_done(state: MemoryState) -> None:
    hits(state, "running").status = "done"


def _parts_miscounted(state: MemoryState) -> None:
    hits(state, "running").branches = 5


BREAKS: list[tuple[Callable[[MemoryState], None], str]] = [
    (_no_call, "3: nothing will ever wake it"),
    (_unreachable, "3: it holds where no request can reach it"),
    (_left_in_queue, "wait behind a pass that is over"),
    (_owns, "6: it is finished and owns"),
    (_matched, "6: it is finished and can still be matched"),
    (_placeless, "3: it was accepted and has no place"),
    (_lost_from_queue, "does not have it in its queue"),
    (_not_run, "nor a part of it runs it"),
    (_endless, "8: it is kept without end"),
    (_body, "6: it is finished and keeps its body"),
    (_unanswered, "1: its pass is over and nobody answered"),
    (_miscounted, "5: it counts"),
    (_parked_miscounted, "parked hits, and there are"),
    (_forgotten_hold, "5: the index lacks"),
    (_stale_entry, "5: the index parked of c/back has"),
    (_missed, "4: it is parked at back under what"),
    (_key_forgotten, "6: its delivery key is forgotten"),
    (_key_of_two, "names hits"),
    (_run_though_done, "6: it is finished, and"),
    (_parts_miscounted, "5: it counts 5 parts"),
    (_gathered, "3: transactions came to"),
]


def test_given_a_state_that_turns_made_then_no_rule_is_broken() -> None:
    """All statuses are in it, so that every rule was asked."""
    state = lived().state
    assert sorted(row.status for row in state.transactions.values()) == ["completed", "failed", "held", "running"]
    assert not list(broken(Picture(state)))


@pytest.mark.parametrize(("breaks", "words"), BREAKS, ids=[breaks.__name__ for breaks, _ in BREAKS])
def test_given_a_broken_rule_then_it_is_told(breaks: Callable[[MemoryState], None], words: str) -> None:
    """Each by the number of its promise and the name of its row."""
    state = lived().state
    breaks(state)
    assert any(words in said for said in broken(Picture(state))), list(broken(Picture(state)))


def test_given_an_input_in_the_mailbox_then_what_waits_for_it_is_not_stuck() -> None:
    """A pass that one turn left over has its `Continue`."""
    state = lived().state
    row = rows(state, "running")
    row.call = None
    assert not list(broken(Picture(state), ahead={row.id}))


def test_given_a_wait_all_and_kept_requests_when_the_cycle_starts_then_it_waits_for_them_and_is_not_stuck() -> None:
    """Section 11: what came while it was stopped has its place first, and a crash between the two turns owes both."""
    steps = (
        "  t: {webhook: shop}\n  ask: {post: remote, path: /x}\n"
        "  all: {wait_all: true}\n  tell: {post: remote, path: /y, body: {count: '{{ all.count }}'}}\n"
    )
    story = Story(cycle(steps, rules="{on_error: stop_transaction, while_stopped: collect}"))
    story.hit("t")
    story.hit("t")
    story.answer({}, transaction=min(story.state.transactions))
    story.stop()
    story.hit("t")
    started = decide(story.state, Start("c", story.at), len(story.journal))
    story.journal += started.events
    assert (cycle_of(story.state).gathered, cycle_of(story.state).running) == ({"all": 1}, 0)
    assert not list(broken(Picture(story.state)))
    story.state = story.replayed()
    story.put(Deliver("c", story.at))  # It begins with that, as each start of a process does where requests are kept.
    story.answer({}, transaction=max(story.state.transactions))
    assert [event.count for event in story.journal if isinstance(event, GatheringEnded)] == [2]


def test_given_a_key_that_came_again_after_its_window_then_it_may_name_two_hits() -> None:
    """Section 4: a key is remembered for so long, and then it is a new one."""
    state = lived().state
    first, second = (next(hit for hit in state.hits.values() if hit.delivery == name) for name in ("w0", "w1"))
    second.delivery, second.at = "w0", first.at + 100
    state.file("delivery", ("c", "t", "w0"), second.id)
    assert list(broken(Picture(state), window=lambda *_: 100))
    assert not list(broken(Picture(state), window=lambda *_: 99))


def test_given_an_answer_that_retention_dropped_then_its_caller_counts_as_answered() -> None:
    """A purged request has no answer any more, and had one."""
    state = lived().state
    hit = next(hit for hit in state.hits.values() if hit.reply is not None)
    hit.reply, hit.purged = None, 1
    assert not list(broken(Picture(state)))


def test_given_parts_that_go_on_when_retention_removed_what_was_split_then_their_request_is_not_lost() -> None:
    """Rows may refer to rows that are gone, each by itself."""
    state = lived().state
    running = rows(state, "running")
    hits(state, "running").transaction = 999_999  # The one that was split; a part of it runs.
    assert state.hits[running.hit].transaction == 999_999
    assert not list(broken(Picture(state)))
