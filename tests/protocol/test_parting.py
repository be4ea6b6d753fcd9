"""`settings.split` (section 9): data that is a list runs on as one transaction for each of its items."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.lists import NotSplittable, find_list, put_at, value_at
from protocol.turn import TURN_PASSES
from runtime.event_view import event_view
from runtime.masking import MASK, hidden_of
from runtime.store.digest import digest
from tests.protocol.story import Story, cycle

TRIGGER = """
  placed: {webhook: shop%s}
  told: {post: remote, path: /x, body: "{{ placed }}", next: end}
"""
CALLS = """
  placed: {webhook: shop}
  found: {get: remote, path: /x%s}
  told: {post: remote, path: /y, body: "{{ found }}"}
"""


def parted(steps: str, body: Any, split: str = "trigger", policy: str = "ignore") -> Story:
    """A cycle whose trigger was hit once."""
    story = Story(cycle(steps, rules=f"{{split: {split}, on_error: {policy}}}"))
    story.hit("placed", body)
    return story


def data(story: Story, step: str = "placed") -> list[Any]:
    """The step's data in every transaction but the first."""
    return [row.data[step] for row in list(story.state.transactions.values())[1:]]


@pytest.mark.parametrize(
    ("fields", "body", "parts"),
    [
        (', fields: {"[].n": text}', [{"n": "a"}, {"n": "b"}], [{"items": {"n": "a"}}, {"items": {"n": "b"}}]),
        ("", [{"sku": "a"}, 2], [{"body": {"sku": "a"}}, {"body": 2}]),
        ("", {"page": 1, "lines": ["a", "b"]}, [{"page": 1, "lines": "a"}, {"page": 1, "lines": "b"}]),
        ("", {"a": {"b": [{"c": [1, 2]}]}, "d": {}}, [{"a": {"b": {"c": [1, 2]}}, "d": {}}]),
        (', fields: {"[lines].sku": text}', {"lines": [{"sku": 1}], "tags": [1]}, [{"lines": {"sku": "1"}}]),
        ("", {"lines": []}, []),
        ("", [], []),
    ],
    ids=["root", "undeclared", "named", "deep", "declared", "empty", "none"],
)  # fmt: skip
def test_9_each_item_of_a_triggers_list_runs_in_the_place_of_the_list(fields: str, body: Any, parts: list[Any]) -> None:
    """Section 9: the least deep list is split, and the rest of the data goes along; the whole is then completed."""
    story = parted(TRIGGER % fields, body)
    assert story.status() == ["completed"] + ["running"] * len(parts)
    assert data(story) == parts
    assert [row.parent.transaction for row in list(story.state.transactions.values())[1:] if row.parent] == [
        min(story.state.transactions)
    ] * len(parts)
    assert len(story.calls()) == len(parts)
    assert digest(story.replayed()) == digest(story.state)


@pytest.mark.parametrize(("split", "body"), [("none", {"lines": [1]}), ("trigger", {"n": 1}), ("all", {"n": {}})])
def test_9_what_has_no_list_or_is_not_to_be_split_runs_whole(split: str, body: Any) -> None:
    """Section 9: `none` is the default."""
    story = parted(TRIGGER % "", body, split)
    assert (story.status(), story.only().data["placed"]) == (["running"], body)


@pytest.mark.parametrize(
    ("policy", "status"), [("ignore", "running"), ("stop_transaction", "failed"), ("stop_cycle", "failed")]
)
def test_9_several_lists_at_one_depth_are_an_incident(policy: str, status: str) -> None:
    """Section 9: *Step data cannot be split*, by the policy; the data is there to be seen."""
    body = {"a": {"deeper": [1]}, "b": [1], "c": []}
    story = parted(TRIGGER % "", body, policy=policy)
    (incident,) = story.state.incidents.values()
    assert (incident.kind, incident.level, incident.step) == ("can_not_be_split", "error", "placed")
    assert incident.message == "Step data cannot be split: there are several lists at one depth: b, c"
    assert (story.status(), story.only().data["placed"]) == ([status], body)


def test_9_a_list_that_is_too_long_is_an_incident(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound, as for a `split` step."""
    monkeypatch.setattr("protocol.parting.SPLIT_MAX", 2)
    story = parted(TRIGGER % "", [1, 2, 3], policy="stop_transaction")
    assert (story.status(), story.incidents()) == (["failed"], ["can_not_be_split"])


@pytest.mark.parametrize(
    ("fields", "body", "parts"),
    [
        (', fields: {"[o].id": integer}', {"o": [{"id": 1}, {"id": 2}]}, [{"o": {"id": 1}}, {"o": {"id": 2}}]),
        ("", [1, 2], [{"body": 1}, {"body": 2}]),
        ("", {"orders": [1, 2]}, [{"body": {"orders": 1}}, {"body": {"orders": 2}}]),
    ],
)  # fmt: skip
def test_9_all_splits_the_answers_of_calls_too(fields: str, body: Any, parts: list[Any]) -> None:
    """Section 9: a part does not carry the whole body along, from which what is declared was read."""
    story = parted(CALLS % fields, {}, "all")
    story.answer(body)
    assert story.status() == ["completed", "running", "running"]
    headers = {"content-type": "application/json"}
    assert data(story, "found") == [{"status": 200, "headers": headers, **part} for part in parts]
    assert digest(story.replayed()) == digest(story.state)
    whole = parted(CALLS % fields, {}, "trigger")
    whole.answer(body)
    assert whole.status() == ["running"]


def test_9_all_splits_what_a_script_and_a_mid_cycle_webhook_bring() -> None:
    """Section 9: any step; a webhook that is reached again splits again."""
    steps = (
        "  placed: {webhook: shop}\n"
        '  work: {script: "w:f"}\n'
        "  back: {webhook: shop, match: {id: placed.id}}\n"
        "  d: {delay: 1 minute}\n"
    )
    story = parted(steps, {"id": "A"}, "all")
    story.script({"results": [1, 2]})
    assert story.status() == ["completed", "held", "held"]
    story.hit("back", {"id": "A", "lines": [5, 6]})
    story.hit("back", {"id": "A", "lines": [7]})
    assert story.status() == ["completed", "held", "completed", "running", "running", "running"]
    rows = list(story.state.transactions.values())
    assert [row.data["back"]["lines"] for row in rows[3:]] == [5, 6, 7]
    assert rows[2].data["back"]["lines"] == [7]


def test_9_a_list_is_split_after_its_after_webhook() -> None:
    """Section 9: a script may choose what the parts are."""
    story = parted(TRIGGER % ', after_webhook: "w:f"', {"lines": [1, 2], "tags": []})
    story.script({"data": {"lines": [3]}})
    assert (data(story), story.incidents()) == ([{"lines": 3}], [])


def test_9_a_list_that_one_turn_can_not_hold_goes_on_in_the_next_and_after_a_crash() -> None:
    """A turn is one frame of the journal; every item runs once, and `stop` ends what has not begun."""
    count = TURN_PASSES * 2
    story = parted(TRIGGER % "", list(range(count)))
    assert [row["body"] for row in data(story)] == list(range(count))
    assert len(story.turns) > 4
    half = Story(cycle(TRIGGER % "", rules="{split: trigger}"))
    hit = half.admit("placed", list(range(count)))
    decision = len(half.journal)
    half.put(hit)  # type: ignore[arg-type]  # A hit, since anything is taken.
    cut = next(at for at in range(decision, len(half.journal)) if type(half.journal[at]).__name__ == "TransactionSplit")
    half.journal = half.journal[: cut + 3]
    half.state = half.replayed()
    assert half.status()[0] == "running"
    half.restart()
    assert half.status()[0] == "completed"
    assert sorted(row["body"] for row in data(half)) == list(range(count))


def test_5_3_the_parts_of_a_list_share_the_caller() -> None:
    """5.3 and 9: the first to respond answers, what the others say is recorded as already answered."""
    steps = "  placed: {webhook: shop}\n  answer: {respond: {body: {n: '{{ placed.lines }}'}}}\n"
    story = parted(steps, {"lines": [1, 2]})
    assert story.replies() == [(200, b'{"n":1}')]
    assert story.incidents() == ["already_answered"]
    assert parted(steps, {"lines": []}).replies() == [(204, b"")]


def test_9_parts_gather_again() -> None:
    """Section 9: `wait_all` goes on when the last part has come."""
    steps = (
        "  placed: {webhook: shop}\n  gathered: {wait_all: true}\n"
        "  told: {post: remote, path: /x, body: '{{ gathered.count }}'}\n"
    )
    story = parted(steps, [1, 2, 3])
    (call,) = story.calls()
    assert call.request.body == b"3"


def test_3_what_is_sensitive_in_a_list_is_masked_in_its_parts() -> None:
    """Section 3: in the events and in the data of each part."""
    story = parted(TRIGGER % ', fields: {"[].pin": {type: text, sensitive: true}}', [{"pin": "2468"}])
    hidden = hidden_of(story.state.program("hash-c"))
    assert "2468" not in repr([event_view(seq, event, hidden) for seq, event in enumerate(story.journal) if seq > 1])
    assert hidden.steps({"placed": data(story)[0]}) == {"placed": {"items": {"pin": MASK}}}


VALUES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner) | st.lists(inner), max_leaves=9
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES))
def test_9_the_list_found_is_a_list_and_the_only_one_there(found: dict[str, Any]) -> None:
    """Section 9: nothing lies less deep, nothing beside it; an item takes its place, and the rest stays."""
    try:
        path = find_list(found)
    except NotSplittable as several:
        assert "several lists at one depth" in str(several)  # noqa: PT017 - One of three outcomes.
        return
    if path is None:
        assert "[" not in repr(found)
        return
    assert isinstance(value_at(found, path), list)
    changed = put_at(found, path, "item")
    assert value_at(changed, path) == "item"
    assert put_at(changed, path, value_at(found, path)) == found
