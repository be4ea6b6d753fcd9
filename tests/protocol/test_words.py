"""What the words of a cycle file mean: names, flow, fields, scope and secrets (sections 1 to 4)."""

import msgspec
import pytest

from protocol.check import check_project
from protocol.events import IncidentRaised, PassStarted
from protocol.inputs import Parked
from protocol.loading import Source, load_project
from protocol.program import CallPlan, compile_program
from protocol.state import Reply
from tests.protocol.story import NOON, SECOND, Story, begun, cycle
from tests.protocol.test_check import HEAD, TRIGGER, faults

DAY = 24 * 3600 * SECOND
HOLDING = "  w: {webhook: shop, match: {id: t.id}}\n  c: {post: remote, path: /x, body: '{{ w.n }}'}\n"


def test_1_one_kind_of_connector_is_installed_under_many_names() -> None:
    """Section 1: each installation has its own fields and limits, and a step names the one it means."""
    story = Story(
        "cycle: c\nconnectors:\n"
        "  shop: {webhook: {fields: {id: integer}}}\n  stock: {base_url: 'http://stock.example'}\n"
        "  money: {base_url: 'http://money.example', timeout: 3 seconds}\nsteps:\n"
        "  t: {webhook: shop}\n  a: {post: stock, path: /x}\n  b: {post: money, path: /x}\n"
    )
    story.hit("t", {"id": "7"})
    story.answer({})
    assert [(call.step, call.request.connector, call.request.timeout // SECOND) for call in story.calls()] == [
        ("a", "stock", 30),
        ("b", "money", 3),
    ]


@pytest.mark.parametrize("name", ["Book", "book-it", "1st", "b.c", "ü", "a" * 65])
def test_1_a_step_has_a_name_that_an_expression_can_say(name: str) -> None:
    """Section 1: an identifier of CEL, in lower case."""
    found = faults(TRIGGER + f"  '{name}': {{get: remote, path: /x}}\n")
    assert any("must be named in lower case letters, digits and _" in fault for fault in found), found


def test_1_transactions_keep_their_data_apart() -> None:
    """Section 1: two that run at the same time map from their own steps alone."""
    story = Story(
        cycle("  t: {webhook: shop}\n  a: {post: remote, path: /x}\n  b: {post: remote, path: '/{{ t.id }}'}\n")
    )
    for name in ("one", "two"):
        story.hit("t", {"id": name})
    first, second = sorted(story.state.transactions)
    story.answer({}, transaction=second)
    story.answer({}, transaction=first)
    assert {call.transaction: call.request.url for call in story.calls() if call.step == "b"} == {
        first: "/one",
        second: "/two",
    }


def test_1_each_request_that_resumes_begins_another_pass() -> None:
    """Section 1: the first pass starts at the trigger, the others at the webhook that resumes."""
    story = begun(HOLDING, {"id": 1})
    for number in (2, 3):
        story.hit("w", {"id": 1, "n": number})
        story.answer({})
    passes = [event for event in story.journal if isinstance(event, PassStarted)]
    assert [(event.step, event.number) for event in passes] == [("t", 1), ("w", 2), ("w", 3)]
    assert (story.only().number, [call.request.body for call in story.calls()]) == (3, [b"2", b"3"])


def test_2_steps_flow_as_written_next_leads_elsewhere_and_end_ends() -> None:
    """Section 2: `next` may lead forward over steps that a decision leads to; what follows an end does not run."""
    story = begun(
        "  d: {decide: t.far, then: c}\n  a: {post: remote, path: /a, next: e}\n"
        "  c: {post: remote, path: /c, next: end}\n  e: {post: remote, path: /e}\n",
        {"far": False},
    )
    for _ in range(2):
        story.answer({})
    story.hit("t", {"far": True})
    story.answer({}, transaction=max(story.state.transactions))
    assert [call.step for call in story.calls()] == ["a", "e", "c"]
    assert story.status() == ["completed", "completed"]


def test_2_a_field_may_be_declared_by_its_type_alone() -> None:
    """Section 2: `order.total: decimal` is `order.total: {type: decimal}`."""
    for said in ("decimal", "{type: decimal}"):
        story = Story(
            cycle(f"  t: {{webhook: shop, fields: {{n: {said}}}}}\n  c: {{post: remote, path: '/{{{{ t.n }}}}'}}\n")
        )
        story.hit("t", {"n": 4.2})
        assert story.calls()[0].request.url == "/4.2"
        refused = story.admit("t", {"n": "x"})
        assert isinstance(refused, Reply)
        assert refused.status == 422


def test_3_every_name_in_scope_has_its_value() -> None:
    """Section 3: earlier steps, `vars`, `cycle`, `transaction`, `hit` and `last_success`; of each pass its own."""
    names = ["t.id", "vars.channel", "cycle", "transaction.id", "transaction.started", "transaction.pass"]
    names += ["hit.headers['x-a']", "hit.query.q", "hit.received", "last_success"]
    body = msgspec.json.encode([f"{{{{ {name} }}}}" for name in names]).decode()
    story = Story(
        cycle(
            "  t: {webhook: shop}\n  w: {webhook: shop, match: {id: t.id}}\n"
            f"  c: {{post: remote, path: /x, body: {body}}}\n"
        )
    )
    story.hit("t", {"id": 1})
    story.later(60)
    story.hit("w", {"id": 1}, headers={"x-a": "A"}, query={"q": "Q"})
    said = dict(zip(names, msgspec.json.decode(story.calls()[0].request.body), strict=True))
    assert said == {
        "t.id": 1,
        "vars.channel": "orders",
        "cycle": "c",
        "transaction.id": f"c-{story.only().id}",
        "transaction.started": NOON // 1_000_000,
        "transaction.pass": 2,
        "hit.headers['x-a']": "A",
        "hit.query.q": "Q",
        "hit.received": (NOON + 60 * SECOND) // 1_000_000,
        "last_success": None,
    }


@pytest.mark.parametrize(
    "step",
    [
        "{post: remote, path: '/{{ env.KEY }}'}",
        "{post: remote, url: 'https://{{ env.KEY }}.example'}",
        "{post: remote, path: /x, query: {a: '{{ env.KEY }}'}}",
        "{post: remote, path: /x, headers: {a: '{{ env.KEY }}'}}",
        "{post: remote, path: /x, body: {a: ['{{ env.KEY }}']}}",
        "{respond: {body: '{{ env.KEY }}'}}",
        "{respond: {headers: {a: '{{ env.KEY }}'}}}",
        "{decide: env.KEY}",
        "{decide: {left: t.id, is: equals, right: '{{ env.KEY }}'}}",
        "{wait_until: '{{ env.KEY }}'}",
        "{split: env.KEY}",
        "{webhook: shop, match: {id: env.KEY}}",
    ],
)
def test_3_env_is_for_connectors_alone(step: str) -> None:
    """Section 3: wherever else it stands `check` refuses it, since it would reach the journal."""
    found = faults(TRIGGER + f"  s: {step}\n")
    assert any("env is only for connectors" in fault for fault in found), found


@pytest.mark.parametrize(
    "call", ["url: 'https://env.example/x'", "path: /env.json", "path: /x, body: {a: see env.HOME}"]
)
def test_3_text_that_mentions_env_is_text(call: str) -> None:
    """Section 3: it is a name only where an expression stands."""
    assert faults(TRIGGER + f"  s: {{post: remote, {call}}}\n") == []


def test_3_fields_of_a_connector_are_inherited_by_every_step_of_its_method() -> None:
    """Section 3: a step may add its own, and its own win; other methods do not inherit them."""
    connectors = (
        "connectors:\n  shop: {webhook: {fields: {id: integer, at: datetime}}, post: {fields: {job: integer}}}\n"
        "  remote: {base_url: 'http://x', post: {fields: {job: integer}}}\n"
    )
    story = Story(
        f"cycle: c\n{connectors}"
        "steps:\n  t: {webhook: shop, fields: {n: integer, at: text}}\n"
        "  a: {post: remote, path: /x}\n  b: {put: remote, path: '/{{ a.job }}/{{ t.id }}/{{ t.n }}'}\n"
    )
    refused = story.admit("t", {"id": "x", "n": "x", "at": "soon"})
    assert isinstance(refused, Reply)
    assert [fault["where"] for fault in msgspec.json.decode(refused.body)["faults"]] == ["id", "n"]
    story.hit("t", {"id": "7", "n": 1})
    story.answer({"job": "9"})
    assert story.calls()[-1].request.url == "/9/7/1"
    story.answer({"job": "no number, and nobody asked"})
    assert (story.status(), story.incidents()) == (["completed"], [])


@pytest.mark.parametrize(
    ("path", "field"), [("t.order.id", "order"), ("t.n.x", "x"), ("size(t.lines)", "lines")], ids=str
)
def test_3_a_missing_source_names_step_field_and_expression(path: str, field: str) -> None:
    """Section 3: the incident *Required source is empty*; nothing is sent."""
    story = begun(f"  ask: {{post: remote, path: '/{{{{ {path} }}}}'}}\n", {"n": None})
    (incident,) = [event for event in story.journal if isinstance(event, IncidentRaised)]
    assert (incident.kind, incident.step, story.calls()) == ("required_source_empty", "ask", [])
    assert incident.message.startswith("Required source is empty")
    assert path in incident.message
    assert field in incident.message


@pytest.mark.parametrize(
    ("identifier", "good"), [("shop-42", False), ("shop-421", True), ("shop 4211", False), ("a/b/c/d/e", False)]
)
def test_4_a_pinned_identifier_has_eight_characters_or_more(identifier: str, *, good: bool) -> None:
    """Section 4: and only such as need no escape in a URL."""
    pinned = TRIGGER.replace("webhook: shop", f"webhook: shop, identifier: '{identifier}'")
    found = faults(pinned + "  g: {get: remote, path: /x}\n")
    assert bool(found) is not good, found


def test_4_two_webhooks_never_have_one_pinned_identifier() -> None:
    """Section 4: it names one step."""
    pinned = "webhook: shop, identifier: shop-0001"
    found = faults(TRIGGER.replace("webhook: shop", pinned) + f"  w: {{{pinned}, match: {{id: t.id}}}}\n")
    assert ["is the identifier of c/t too" in fault for fault in found] == [True]


def test_4_undeclared_fields_are_mapped_from_hit_body() -> None:
    """Section 4: the step's own data has the declared ones alone."""
    story = Story(
        cycle(
            "  t: {webhook: shop, fields: {id: text}}\n"
            "  c: {post: remote, path: '/{{ t.id }}', body: '{{ hit.body }}'}\n"
        )
    )
    story.hit("t", {"id": "a", "more": [1]})
    assert story.only().data["t"] == {"id": "a"}
    assert msgspec.json.decode(story.calls()[0].request.body) == {"id": "a", "more": [1]}


def test_4_1_what_is_collected_is_kept_for_a_day() -> None:
    """4.1: for 24 hours from the request on; then it expires with an incident."""
    story = Story(
        cycle("  t: {webhook: shop}\n  c: {post: remote, path: /x}\n", rules="{while_stopped: collect}"), started=False
    )
    parked = story.hit("t", {"n": 1})
    assert isinstance(parked, Parked)
    assert parked.until == NOON + DAY
    story.later(24 * 3600 - 1)
    assert story.incidents() == []
    story.later(1)
    assert story.incidents() == ["hit_expired"]
    story.start()
    assert story.calls() == []


def test_11_what_a_stop_keeps_waits_for_a_day() -> None:
    """Section 11: a hit that waited behind the pass that was cut; after 24 hours it expires, with an incident."""
    for hours, kinds in ((23, []), (24, ["hit_expired"])):
        story = begun(HOLDING, {"id": 1})
        story.hit("w", {"id": 1, "n": 2})
        story.hit("w", {"id": 1, "n": 3})
        story.stop()
        story.later(hours * 3600)
        assert story.incidents() == kinds
        story.start()
        kept = [hit.status for hit in story.state.hits.values() if hit.step == "w"][-1]
        assert kept == ("parked" if not kinds else "expired"), "its transaction was stopped, so it waits for another"


LINKED = """cycle: target
connectors: {shop: {}}
steps:
  into: {webhook: shop, fields: {id: {type: text, required: true}, note: text}}
  out: {respond: {}}
"""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("url: 'cycle:target/into', body: {id: x}", ""),
        ("url: 'cycle:target/into', body: '{{ t }}'", ""),
        (
            "url: 'cycle:targt/into', body: {id: x}",
            "links to no cycle of this project, found targt (did you mean target?)",
        ),
        ("url: 'cycle:target/int', body: {id: x}", "links to no webhook of target, found int (did you mean into?)"),
        ("url: 'cycle:target/out', body: {id: x}", "links to no webhook of target"),
        ("url: 'cycle:target/into', body: {note: x}", "target/into requires id"),
    ],
)
def test_8_a_link_to_what_is_not_there_or_lacks_what_it_requires_is_a_fault(call: str, said: str) -> None:
    """Section 8: said by `check`, at its line; a body that is made as the step runs is checked then."""
    text = HEAD + TRIGGER + f"  g: {{post: shop, {call}}}\n"
    _, found = check_project([Source("c.cycle.yaml", text), Source("d.cycle.yaml", LINKED)])
    assert [said in str(fault) for fault in found] == ([True] if said else [])


def test_5_1_a_caller_waits_for_30_seconds_unless_the_step_says_otherwise() -> None:
    """5.1: the deadline counts from the request on."""
    for said, seconds in (("", 30), ("answer_within: 2 minutes", 120)):
        steps = f"  t: {{webhook: shop, {said}}}\n  c: {{post: remote, path: /x}}\n  r: {{respond: {{}}}}\n"
        story = Story(cycle(steps))
        story.later(5)
        assert story.ask("t", {}) is None
        assert story.state.hit(story.only().hit).answer_by == story.at + seconds * SECOND


@pytest.mark.parametrize(("wait", "seconds"), [("wait=2", 2), ("wait=30", 30), ("wait=31", 30), ("wait=x", 30)])
def test_5_1_prefer_wait_shortens_the_wait_and_never_lengthens_it(wait: str, seconds: int) -> None:
    """5.1: the step's bound is its author's word."""
    story = Story(cycle("  t: {webhook: shop}\n  c: {post: remote, path: /x}\n  r: {respond: {}}\n"))
    assert story.ask("t", {}, headers={"prefer": wait}) is None
    assert story.state.hit(story.only().hit).answer_by == story.at + seconds * SECOND


def test_7_a_call_has_30_seconds_and_a_connector_20_calls_at_once_unless_said() -> None:
    """Section 7: a connector may say otherwise, and of the timeout a step."""
    steps = TRIGGER + "  g: {get: remote, path: /x}\n  h: {get: remote, path: /x, timeout: 5 seconds}\n"
    definitions, _ = load_project([Source("c.cycle.yaml", HEAD + steps)])
    assert definitions["c"].connectors["remote"].concurrency == 20
    plans = compile_program(definitions["c"], "hash").plans
    assert [plan.timeout // SECOND for plan in plans.values() if isinstance(plan, CallPlan)] == [30, 5]
