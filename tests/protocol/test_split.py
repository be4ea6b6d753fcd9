"""Lists (section 9): each item as a transaction of its own, and one that goes on when all of them have come."""

from typing import Any

import msgspec
import pytest

from protocol.check import check_project
from protocol.events import GatheringEnded, ReplyBuilt
from protocol.inputs import Accepted, Resumed
from protocol.loading import Source
from protocol.state import TransactionRow, transaction_name
from runtime.store.digest import digest
from tests.protocol.story import Story, begun

ITEMS = """
cycle: items
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  ordered: {webhook: shop, fields: {id: text, "[lines].sku": text, "[lines].back": boolean}}
  line: {split: ordered.lines}
  held_back: {decide: {left: line.back, is: equals, right: true}, then: back, else: pick}
  back: {webhook: shop, fields: {sku: text}, match: {sku: line.sku}, next: end}
  pick: {post: remote, path: /pick, body: {order: "{{ ordered.id }}", sku: "{{ line.sku }}"}}
  all_picked: {wait_all: true}
  tell: {post: remote, path: /tell, body: {picked: "{{ all_picked.count }}"}}
"""


def order(story: Story, *skus: str, **more: Any) -> TransactionRow:
    """An order of these; its transaction."""
    lines = [{"sku": sku, "back": sku.endswith("!")} for sku in skus]
    verdict = story.hit("ordered", {"id": "A1", "lines": lines, **more})
    assert isinstance(verdict, Accepted)
    return story.state.transaction(verdict.transaction)


def children(story: Story, parent: TransactionRow) -> list[TransactionRow]:
    """The transactions of its items, in order."""
    return [row for row in story.state.transactions.values() if row.parent and row.parent.transaction == parent.id]


def test_9_a_split_runs_each_item_as_a_transaction_of_its_own() -> None:
    """Section 9: with a parent, the data of the steps before it, and the item under the step's id."""
    story = Story(ITEMS)
    parent = order(story, "tea", "jam")
    tea, jam = children(story, parent)
    assert (parent.status, parent.data["line"]) == ("completed", {"count": 2})
    assert parent.children == [transaction_name("items", row.id) for row in (tea, jam)]
    assert [row.data["line"]["sku"] for row in (tea, jam)] == ["tea", "jam"]
    assert [call.request.body for call in story.calls()] == [
        b'{"order":"A1","sku":"tea"}',
        b'{"order":"A1","sku":"jam"}',
    ]
    assert len({call.idempotency_key for call in story.calls()}) == 2


def test_9_the_parts_of_a_hit_share_its_body_until_the_last_of_them_has_ended() -> None:
    """Sections 3 and 9: each may map from `hit`, in whatever order they end, and then nobody keeps it."""
    story = Story(ITEMS)
    parent = order(story, "tea", "jam", "rice")
    hit = story.state.hit(parent.hit)
    for row in reversed(children(story, parent)):
        assert (hit.status, bool(hit.body)) == ("running", True)
        story.answer({}, transaction=row.id)
    assert (hit.status, hit.body, hit.headers) == ("done", b"", {})


@pytest.mark.parametrize(("value", "data"), [(7, {"item": 7}), ("a", {"item": "a"}), ({"x": 1}, {"x": 1})])
def test_9_an_item_that_is_no_object_is_found_as_item(value: Any, data: dict[str, Any]) -> None:
    """Section 9: `step.item`."""
    story = Story(
        """
        cycle: plain
        connectors: {shop: {}}
        steps:
          asked: {webhook: shop, fields: {list: any}}
          each: {split: asked.list}
          look: {decide: "true"}
        """
    )
    story.hit("asked", {"list": [value]})
    assert list(story.state.transactions.values())[-1].data["each"] == data


@pytest.mark.parametrize("value", [None, "text", {"a": 1}, 5, [0] * 10_001])
def test_9_what_is_no_list_can_not_be_split(value: Any) -> None:
    """Section 9: the incident `Step data cannot be split`."""
    story = Story(ITEMS.replace('"[lines].sku": text, "[lines].back": boolean', "lines: any"))
    story.hit("ordered", {"id": "A1", "lines": value})
    (incident,) = story.state.incidents.values()
    assert (incident.kind, incident.message[:26]) == ("can_not_be_split", "Step data cannot be split:")


def test_9_a_long_list_is_split_over_many_turns_and_survives_a_crash_between_them() -> None:
    """Section 9: each item runs once, whatever one turn can hold."""
    story = Story(ITEMS)
    parent = order(story, *(f"s{number}" for number in range(500)))
    assert len(children(story, parent)) == 500
    story.restart()
    assert {row.data["line"]["sku"] for row in children(story, parent)} == {f"s{number}" for number in range(500)}
    assert len({call.idempotency_key for call in story.calls()}) == 500


def test_9_wait_all_goes_on_once_when_nothing_is_on_its_way() -> None:
    """Section 9: one new transaction runs the steps after it, and knows how many came."""
    story = Story(ITEMS)
    parent = order(story, "tea", "jam", "rice")
    for row in children(story, parent):
        assert not [event for event in story.journal if isinstance(event, GatheringEnded)]
        story.answer({}, transaction=row.id)
    ((last,), told) = ([e for e in story.journal if isinstance(e, GatheringEnded)], story.calls()[-1])
    assert (last.count, told.step, told.request.body) == (3, "tell", b'{"picked":3}')
    assert [row.status for row in children(story, parent)] == ["completed"] * 3
    story.answer({}, transaction=told.transaction)
    assert story.state.cycle("items").running == 0


def test_9_wait_all_does_not_wait_for_what_holds_failed_or_was_stopped() -> None:
    """Section 9: held ones do not count, and the ones that will never come do not either."""
    story = Story(ITEMS)
    parent = order(story, "tea", "jam!", "rice")
    tea, jam, rice = children(story, parent)
    assert jam.status == "held"
    story.answer(None, 500, transaction=rice.id)
    story.answer({}, transaction=tea.id)
    assert story.calls()[-1].request.body == b'{"picked":1}'


def test_9_a_retry_on_its_way_to_wait_all_is_waited_for() -> None:
    """Section 9: a pass that waits is in progress."""
    story = Story(ITEMS.replace("  pick: {post: remote,", "  pick: {post: remote, on_error: {retry: [1 minute]},"))
    tea, jam = children(story, order(story, "tea", "jam"))
    story.answer(None, 500, transaction=tea.id)
    story.answer({}, transaction=jam.id)
    assert story.calls()[-1].step == "pick"
    story.later(60)
    story.answer({}, transaction=tea.id)
    assert story.calls()[-1].request.body == b'{"picked":2}'


def test_9_two_gatherings_follow_each_other() -> None:
    """Section 9: the second waits for the transaction that the first began."""
    story = Story(
        ITEMS + '  all_told: {wait_all: true}\n  bye: {post: remote, path: /bye, body: "{{ all_told.count }}"}\n'
    )
    first, second = order(story, "tea"), order(story, "jam")
    for parent in (first, second):
        (row,) = children(story, parent)
        story.answer({}, transaction=row.id)
    told = story.calls()[-1]
    assert (told.step, told.request.body) == ("tell", b'{"picked":2}')
    story.answer({}, transaction=told.transaction)
    assert (story.calls()[-1].step, story.calls()[-1].request.body) == ("bye", b"1")


def test_9_nothing_is_mapped_from_before_a_wait_all() -> None:
    """Section 9: `check` says so."""
    text = ITEMS.replace("{{ all_picked.count }}", "{{ ordered.id }}")
    _, faults = check_project([Source("items.cycle.yaml", text)])
    assert ["ordered is not in scope" in str(fault) for fault in faults] == [True]


ASKED = """
cycle: asked
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {list: list}}
  each: {split: asked.list}
  work: {post: remote, path: /work}
  answers: {decide: {left: each.item, is: equals, right: answers}, then: answer, else: end}
  answer: {respond: {status: 201}}
"""


def told(story: Story) -> list[tuple[int, Any]]:
    """The answers of a story: status, and the step that a problem names."""
    replies = [event for event in story.journal if isinstance(event, ReplyBuilt)]
    return [(event.status, msgspec.json.decode(event.body or b"{}").get("step")) for event in replies]


@pytest.mark.parametrize(
    ("items", "good", "answer"),
    [
        (["x", "answers", "y"], [True, True, True], (201, None)),
        (["x", "y"], [True, True], (204, None)),
        (["x", "y"], [False, True], (500, "work")),
        (["x", "y"], [True, False], (500, "work")),
        (["x", "answers"], [False, True], (201, None)),
        ([], [], (204, None)),
    ],
)
def test_5_3_a_caller_whose_request_is_split_gets_one_answer(items: list[str], good: list[bool], answer: Any) -> None:
    """5.2, 5.3: the first part to respond answers; else the last to end does, and never 2xx when one has failed."""
    story = Story(ASKED)
    verdict = story.hit("asked", {"list": items})
    assert isinstance(verdict, Accepted)
    parts = children(story, story.state.transaction(verdict.transaction))
    for row, well in zip(parts, good, strict=True):
        story.answer({}, 200 if well else 500, transaction=row.id)
    assert told(story) == [answer]
    assert story.state.hit(verdict.hit).status == "done"


def test_5_3_a_second_part_that_responds_is_recorded() -> None:
    """5.3: `already answered`."""
    story = Story(ASKED)
    verdict = story.hit("asked", {"list": ["answers", "answers"]})
    assert isinstance(verdict, Accepted)
    for row in children(story, story.state.transaction(verdict.transaction)):
        story.answer({}, transaction=row.id)
    assert (told(story), story.incidents()) == ([(201, None)], ["already_answered"])


def test_11_a_stop_ends_every_part_and_answers_once() -> None:
    """Section 11: 409, when the last of them has ended."""
    story = Story(ASKED)
    story.hit("asked", {"list": ["x", "y", "z"]})
    story.stop()
    assert [status for status, _ in told(story)] == [409]
    assert story.status() == ["completed", "stopped", "stopped", "stopped"]


def test_11_a_finish_goes_on_after_a_wait_all_though_a_request_lost_its_place() -> None:
    """Sections 6.5, 9 and 11: what it finishes comes first, and who waits behind is told that his request is kept."""
    story = begun(
        """
  turn: {webhook: shop, fields: {id: text, go: boolean}, match: {id: t.id}}
  goes: {decide: {left: turn.go, is: equals, right: true}, else: end}
  changed: {webhook: shop, fields: {id: text}, match: {id: t.id}}
  told: {respond: {body: {ok: true}}}
  work: {post: remote, path: /work}
  all_done: {wait_all: true}
  tell: {post: remote, path: /tell, body: {done: "{{ all_done.count }}"}}
""",
        {"id": "A"},
    )
    row = story.only()
    story.hit("turn", {"id": "A", "go": True})
    story.hit("changed", {"id": "A"})
    story.hit("turn", {"id": "A", "go": False})
    waits = story.hit("changed", {"id": "A"})
    assert isinstance(waits, Resumed)
    story.stop("finish")
    story.answer({}, transaction=row.id)
    assert (story.calls()[-1].request.body, story.state.cycle("c").status) == (b'{"done":1}', "stopping")
    assert [reply.status for reply in story.answers(waits.hit)] == [202]
    story.answer({}, transaction=max(story.state.transactions))
    assert (story.state.cycle("c").status, story.state.cycle("c").parked) == ("stopped", 1)
    assert digest(story.replayed()) == digest(story.state)


def test_9_a_gathering_that_the_current_version_does_not_know_is_left_alone() -> None:
    """Sections 9 and 11: those in flight keep their version and come to it; nothing in the new one follows it."""
    story = Story(ITEMS)
    tea, jam = children(story, order(story, "tea", "jam"))
    story.answer({}, transaction=tea.id)
    story.deploy("{cycle: items, connectors: {shop: {}}, steps: {ordered: {webhook: shop}, bye: {respond: {}}}}")
    story.answer({}, transaction=jam.id)
    assert (tea.status, jam.status) == ("completed", "completed")
    assert not [event for event in story.journal if isinstance(event, GatheringEnded)]


def test_9_what_goes_on_after_a_gathering_may_split_and_has_no_caller() -> None:
    """Section 9: no request began it, so there is none to answer, to count parts of, or to keep the body of."""
    story = Story(
        """
        cycle: tours
        connectors: {shop: {}}
        variables: {cities: [Rome, Oslo]}
        steps:
          asked: {webhook: shop}
          ready: {wait_all: true}
          each: {split: vars.cities}
          tell: {respond: {body: "{{ each.item }}"}}
        """
    )
    story.hit("asked", {})
    first, gathered, *parts = story.state.transactions.values()
    assert (gathered.hit, gathered.status, gathered.data["each"]) == (0, "completed", {"count": 2})
    assert [(row.data["each"]["item"], row.status, row.hit) for row in parts] == [
        ("Rome", "completed", 0),
        ("Oslo", "completed", 0),
    ]
    assert (first.status, story.incidents()) == ("completed", ["already_answered"] * 2)


def test_5_a_part_whose_hold_expired_is_no_part_of_the_answer_any_more() -> None:
    """Section 5.3: it gave up its share at the hold; what runs from there must not end the request that others run."""
    story = begun(
        """\
  parts: {split: t.items}
  waits: {decide: parts.item == 1, then: back, else: work}
  back: {webhook: shop, fields: {k: text}, match: {k: t.k}, hold_for: 1 minute, on_timeout: late}
  late: {respond: {body: {late: true}}, next: end}
  work: {post: remote, path: /x}
  told: {respond: {body: {sent: "{{ hit.body.k }}"}}}
""",
        {"k": "a", "items": [1, 2]},
    )
    story.later(61)
    (hit,) = story.state.hits.values()
    assert (hit.status, story.replies()) == ("running", [])
    assert story.incidents() == ["already_answered"]
    story.answer({}, transaction=max(story.state.transactions))
    assert story.replies() == [(200, b'{"sent":"a"}')]
    assert (hit.status, hit.body) == ("done", b"")
