"""What a turn, a queue and a cycle hold at most: past a bound a request is refused, and work goes on in another turn.

However the work is cut into turns, and wherever the process dies between two of them, the outcome is the same.
"""

from typing import Any

import pytest

from protocol import fold_hits, routing, turn
from protocol.cycle import decide
from protocol.events import IncidentRaised, PassStarted, TransactionSplit
from protocol.inputs import Deliver, Input, Parked, Receipt, Recover, Refused, Resumed, Verdict
from runtime.store.digest import digest
from tests.protocol.story import Story

BUSY = """
cycle: busy
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction, while_stopped: collect}
steps:
  asked: {webhook: shop, fields: {job: integer, items: list}}
  back: {webhook: shop, fields: {job: {type: integer, required: true}, n: integer}, match: {job: asked.job}}
  finish: {post: remote, path: "/finish/{{ back.n }}"}
  each: {split: asked.items}
  done: {post: remote, path: "/done/{{ each.item }}"}
"""


def refused(story: Story, verdict: Verdict, recorded: int) -> bool:
    """Whether a request was refused for now, and left no trace."""
    return isinstance(verdict, Refused) and verdict.status == 503 and len(story.journal) == recorded


def call_back(story: Story, job: int = 1, n: int = 0) -> Verdict:
    """A callback."""
    return story.hit("back", {"job": job, "n": n})


def ask(story: Story, job: int = 1, *items: int) -> Verdict:
    """A new transaction."""
    return story.hit("asked", {"job": job, "items": items})


def test_a_queue_behind_one_pass_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """4.1: 503 and no record; another transaction's callback is taken."""
    monkeypatch.setattr(routing, "QUEUE_MAX", 2)
    story = Story(BUSY)
    ask(story, 1)
    ask(story, 2)
    for _ in range(3):
        assert isinstance(call_back(story, 1), Resumed)
    recorded = len(story.journal)
    assert refused(story, call_back(story, 1), recorded)
    assert isinstance(call_back(story, 2), Resumed)


def test_what_is_parked_is_bounded_for_a_value_and_for_a_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """6.5: a hold takes all that is parked for it at once, and a stranger must not fill the disk."""
    monkeypatch.setattr(routing, "QUEUE_MAX", 2)
    monkeypatch.setattr(routing, "PARKED_MAX", 4)
    story = Story(BUSY)
    assert all(isinstance(call_back(story, 1), Parked) for _ in range(2))
    recorded = len(story.journal)
    assert refused(story, call_back(story, 1), recorded)
    assert all(isinstance(call_back(story, 2), Parked) for _ in range(2))
    recorded = len(story.journal)
    assert refused(story, call_back(story, 3), recorded)


def test_4_1_what_is_kept_for_a_stopped_cycle_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """4.1: `while_stopped: collect` is bounded, and what was kept runs on start."""
    monkeypatch.setattr(routing, "COLLECTED_MAX", 2)
    story = Story(BUSY, started=False)
    kept = [ask(story, job) for job in (1, 2)]
    assert all(isinstance(verdict, Parked) and verdict.until == story.at + 86_400 * 10**9 for verdict in kept)
    recorded = len(story.journal)
    assert refused(story, ask(story, 3), recorded)
    assert story.start() == Receipt("running", resumed=2)
    assert story.status() == ["held", "held"]


def test_6_6_of_many_candidates_the_most_recent_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """6.6: the record of an ambiguous match is bounded, and the one that wins is always in it."""
    monkeypatch.setattr(routing, "CANDIDATES_MAX", 3)
    story = Story(BUSY)
    for _ in range(5):
        ask(story)
    verdict = call_back(story)
    assert isinstance(verdict, Resumed)
    assert verdict.candidates == tuple(sorted(story.state.transactions, reverse=True)[:3])


class Dying(Story):
    """A story whose process dies after every turn that leaves something over, and recovers as the engine does."""

    deaths = 0

    def put(self, given: Input) -> Verdict:
        decision = self.decision = decide(self.state, given, len(self.journal))
        self.journal += decision.events
        self.deaths += bool(decision.rest)
        if decision.rest:
            before = digest(self.state)
            self.state = self.replayed()
            assert digest(self.state) == before
            self.put(Deliver(self.cycle, self.at))
            waiting = tuple(hit.id for hit in self.state.hits.values() if hit.fate == "waiting")
            self.put(Recover(self.cycle, self.at, waiting, ()))
            for row in list(self.state.transactions.values()):
                if row.status == "running" or row.call or row.queue:
                    self.put(Recover(self.cycle, self.at, (), (row.id,)))
        return decision.verdict


def busy_day(story: Story) -> dict[str, Any]:
    """Much at once: parked, queued, split, failed with a queue behind, and kept over a stop; the outcome."""
    for n in range(5):
        call_back(story, 1, n)
    for job in (1, 1, 2):
        ask(story, job, *range(job * 3))
    for n in range(5, 9):
        call_back(story, n % 2 + 1, n)
    answer_all(story, failing=["/finish/6"])
    story.stop("finish")
    for n in range(9, 13):
        call_back(story, 2, n)
    ask(story, 3)
    story.start()
    answer_all(story)
    rows, hits = story.state.transactions.values(), story.state.hits.values()
    return {
        "transactions": sorted((row.status, row.number, row.data.get("back", {}).get("n", -1)) for row in rows),
        "hits": [(hit.step, hit.status, hit.number) for hit in hits],
        "calls": sorted({call.request.url for call in story.calls()}),
        "keys": len({call.idempotency_key for call in story.calls()}),
        "parked": story.state.cycle("busy").parked,
    }


def answer_all(story: Story, failing: list[str] | None = None) -> None:
    """The remote answers every open call, until none is open."""
    while opened := [row for row in story.state.transactions.values() if row.call is not None]:
        row = opened[0]
        assert row.call is not None
        story.answer({}, 500 if row.call.request.url in (failing or []) else 200, transaction=row.id)


@pytest.mark.parametrize(("passes", "size"), [(1, 2 << 20), (3, 2 << 20), (64, 1), (64, 600)])
def test_how_the_work_is_cut_into_turns_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, passes: int, size: int
) -> None:
    """Rule 4 of the core: also when the process dies after every turn that left something over."""
    whole = busy_day(Story(BUSY))
    assert {status for status, _, _ in whole["transactions"]} == {"completed", "failed", "held"}
    monkeypatch.setattr(turn, "TURN_PASSES", passes)
    monkeypatch.setattr(routing, "TURN_PASSES", passes)
    monkeypatch.setattr(turn, "TURN_BYTES", size)
    cut = Story(BUSY)
    assert busy_day(cut) == whole
    assert digest(cut.replayed()) == digest(cut.state)
    begun = [sum(isinstance(event, PassStarted | TransactionSplit) for event in one.events) for one in cut.turns]
    assert max(begun) <= passes + 1, "a pass that must begin may be one too many"
    if size == 1:
        assert max(begun) == 1
    dying = Dying(BUSY)
    assert busy_day(dying) == whole
    assert dying.deaths, "no turn left anything over: the bounds above cut nothing"


def ranges(story: Story, transaction: int) -> list[int]:
    """The sequence numbers of the events about a transaction, as first and last of each range."""
    about = [
        seq
        for seq, event in enumerate(story.journal)
        if seq == transaction
        or (getattr(event, "transaction", 0) == transaction and not isinstance(event, IncidentRaised))
    ]
    found: list[int] = []
    for seq in about:
        if found and found[-1] == seq - 1:
            found[-1] = seq
        else:
            found += (seq, seq)
    return found


def test_14_a_transaction_knows_which_events_are_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 14: every range, as the journal has them; past a bound the first turn and the latest ones."""
    whole = Story(BUSY)
    busy_day(whole)
    rows = whole.state.transactions.values()
    assert {row.id: row.events for row in rows} == {row.id: ranges(whole, row.id) for row in rows}
    longest = max(rows, key=lambda row: len(row.events))
    monkeypatch.setattr(fold_hits, "EVENT_RANGES_MAX", 6)
    few = whole.replayed().transaction(longest.id).events
    assert few == longest.events[:2] + longest.events[-4:]


def test_kept_hits_wait_when_their_cycle_does_not_run() -> None:
    """Section 11: an order to deliver them that comes late finds the cycle stopped, and leaves them where they are."""
    story = Story(BUSY, started=False)
    ask(story)
    story.put(Deliver("busy", story.at))
    assert (story.names(), story.state.cycle("busy").parked) == ([], 1)


def test_a_kept_hit_that_the_current_version_can_not_read_goes_by_the_values_it_came_with() -> None:
    """Section 11: it was accepted, so it is not lost; the hold of its transaction takes it."""
    story = Story(BUSY)
    ask(story, 7)
    story.stop()
    kept = call_back(story, 7, 5)
    assert isinstance(kept, Parked)
    story.deploy(BUSY.replace("job: {type: integer, required: true}", "other: integer, job: boolean"))
    story.start()
    assert [row.hit for row in story.state.transactions.values()] == [kept.hit]


def test_11_a_stop_that_one_turn_can_not_hold_goes_on_and_gives_one_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 11: every pass is cut and every hit behind it kept; meanwhile nothing new is taken as running."""
    monkeypatch.setattr(turn, "TURN_BYTES", 1)
    story = Story(BUSY)
    for job in (1, 2, 3):
        ask(story, job)
        call_back(story, job)
        call_back(story, job)
    turns = len(story.turns)
    assert story.stop() == Receipt("stopped", cut=3, kept=3, held=0)
    assert len(story.turns) - turns > 1
    assert [type(event).__name__ for event in story.turns[turns].events][-1] == "CycleStopping"
    assert (story.status(), story.state.cycle("busy").parked) == (["stopped"] * 3, 3)
