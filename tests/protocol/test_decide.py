"""Decisions (section 9) as stories: which step a pass goes on at, and what a decision that can not be made means."""

from typing import Any

import pytest

from protocol.events import DecisionTaken
from tests.protocol.story import Story

BRANCH = """
cycle: branch
connectors: {shop: {}}
settings: {on_error: %s}
variables: {limit: 10}
steps:
  asked: {webhook: shop, fields: {n: any, way: any, on: any}}
  route:
    %s
  next_one: {respond: {body: next_one}, next: end}
  remark: {note: Whoever comes here goes on with what follows.}
  after_remark: {respond: {body: after_remark}, next: end}
  far: {respond: {body: far}, next: end}
  rest: {decide: "asked.way == 1 || asked.way == 2", then: remark, else: far}
"""


def decided(said: str, *, policy: str = "stop_transaction", **asked: Any) -> Story:
    """A pass through a decision."""
    reachable = BRANCH % (policy, f"{said}\n  also: {{decide: 'true', then: next_one, else: rest}}")
    story = Story(reachable)
    story.hit("asked", asked)
    return story


def went(story: Story) -> list[str]:
    """The targets of the decision, and who answered."""
    taken = [event.target for event in story.journal if isinstance(event, DecisionTaken) and event.step == "route"]
    return [*taken, *(body.decode().strip('"') for _, body in story.replies())]


@pytest.mark.parametrize(
    ("ends", "n", "expected"),
    [
        ("then: far", 11, ["far", "far"]),
        ("then: far", 9, ["also", "next_one"]),
        ("else: far", 11, ["also", "next_one"]),
        ("else: far", 9, ["far", "far"]),
        ("then: remark\n    else: far", 11, ["after_remark", "after_remark"]),
        ("then: far\n    else: end", 9, ["end", ""]),
        ("next: far\n    else: also", 11, ["far", "far"]),
    ],
)
def test_9_then_and_else_lead_on_and_what_is_not_said_is_the_next_step(ends: str, n: int, expected: list[str]) -> None:
    """Section 9: the next step written, or the `next:` of the decision; a note leads to what follows it."""
    story = decided(f"decide: {{left: asked.n, is: greater, right: '{{{{ vars.limit }}}}'}}\n    {ends}", n=n)
    assert went(story) == expected


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("one", "far"),
        (2, "after_remark"),
        ("2", "after_remark"),
        (True, "next_one"),
        (2.0, "after_remark"),
        ("three", "far"),
        (None, "far"),
        ("", "far"),
        ({}, "far"),
        ([2], "far"),
    ],
)
def test_9_a_switch_takes_the_case_of_its_value_or_the_default(way: Any, expected: str) -> None:
    """Section 9: cases are texts, so a number is found by how it is written; nothing has no case."""
    said = """decide: asked.way
    cases: {one: far, "2": remark, "true": next_one}
    default: far"""
    assert went(decided(said, way=way))[-1] == expected


def test_9_a_switch_without_a_default_goes_on_with_the_next_step() -> None:
    """Section 9: and a case may end the pass."""
    said = "decide: asked.way\n    cases: {one: end, two: rest}"
    assert went(decided(said, way="one")) == ["end", ""]
    assert went(decided(said, way="three")) == ["also", "next_one"]


@pytest.mark.parametrize(
    ("condition", "asked", "holds"),
    [
        ("{all: [{left: asked.n, is: greater, right: 5}, 'asked.n < 9']}", {"n": 7}, True),
        ("{all: [{left: asked.n, is: greater, right: 5}, 'asked.n < 9']}", {"n": 9}, False),
        ("{any: [{left: asked.n, is: equals, right: 1}, {all: [{left: asked.way, is: exists}]}]}", {"n": 2}, False),
        ("{any: [{left: asked.n, is: equals, right: 1}, {all: [{left: asked.way, is: exists}]}]}", {"way": 0}, True),
        ("{all: []}", {}, True),
        ("{any: []}", {}, False),
        ("{left: asked.on.what.ever, is: not_exists}", {"on": {}}, True),
        ("{left: asked.n, is: in, right: ['{{ asked.way }}', 7]}", {"n": 3, "way": 3}, True),
        ("asked.on.exists(one, one.n == asked.n)", {"on": [{"n": 1}, {"n": 2}], "n": 2}, True),
        ("transaction['pass'] == 1 && cycle == 'branch'", {}, True),
        ("hit.headers['content-type'] == 'application/json' && hit.body.more == 1", {"more": 1}, True),
        (r"1 == 1 &&\nhit.body.more == 1", {"more": 1}, True),
        (r"1 == 1 &&\ntransaction.pass == 1", {}, True),
    ],
)
def test_9_conditions_combine_and_see_all_that_is_in_scope(
    condition: str, asked: dict[str, Any], *, holds: bool
) -> None:
    """Section 9: `all`, `any`, nested, and CEL; section 3: steps, vars, cycle, transaction and hit."""
    quoted = condition if condition.startswith("{") else f'"{condition}"'
    assert went(decided(f"decide: {quoted}\n    then: far\n    else: end", **asked))[0] == ("far" if holds else "end")


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        ("asked.on.missing == 1", "required_source_empty"),
        ("asked.n + 1", "invalid_expression"),
        ("asked.n > 'text'", "invalid_expression"),
        ("{left: asked.n, is: equals, right: '{{ asked.on.missing }}'}", "required_source_empty"),
        ("{left: asked.way, is: matches, right: '{{ asked.on.pattern }}'}", "invalid_expression"),
    ],
)
def test_9_a_decision_that_can_not_be_made_fails_by_its_policy(condition: str, kind: str) -> None:
    """Sections 3, 9 and 10: it chooses nothing; it stops the transaction, or is ignored and goes to the next step."""
    quoted = condition if condition.startswith("{") else f'"{condition}"'
    said = f"decide: {quoted}\n    then: far\n    else: end"
    asked: dict[str, Any] = {"n": 1, "on": {"pattern": "("}, "way": "text"}
    stopped = decided(said, **asked)
    assert (stopped.status(), stopped.incidents()) == (["failed"], [kind])
    assert [status for status, _ in stopped.replies()] == [500]
    ignored = decided(said, policy="ignore", **asked)
    assert (ignored.status(), ignored.incidents(), went(ignored)) == (["completed"], [kind], ["next_one"])


def test_9_logic_keeps_no_data_and_a_note_never_runs() -> None:
    """Section 9: a decision is recorded as taken; neither it nor a note is in the data of the transaction."""
    story = decided("decide: 'true'\n    then: remark", way=1)
    assert list(story.only().data) == ["asked", "after_remark"]
    assert [event.step for event in story.journal if isinstance(event, DecisionTaken)] == ["route"]
