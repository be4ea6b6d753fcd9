"""Sensitive fields (section 3): masked in everything that is read, and nowhere in what steps use."""

from typing import Any

import msgspec
import pytest

from protocol.state import TransactionRow
from runtime.event_view import event_view
from runtime.masking import MASK, Hidden, hidden_of
from tests.protocol.story import Story, cycle

PAY = """
cycle: pay
connectors: {shop: {}, bank: {base_url: "https://bank.example"}}
steps:
  asked:
    webhook: shop
    methods: [POST, GET]
    dedupe: {field: card.number}
    fields:
      order: text
      card.number: {type: text, required: true, sensitive: true}
      "[people].tax": {type: text, sensitive: true}
  charge:
    post: bank
    path: /charges
    query: {card: "{{ asked.card.number }}"}
    headers: {x-card: "card {{ asked.card.number }}"}
    body: {all: "{{ asked }}"}
    fields: {token: {type: text, required: true, sensitive: true}, id: integer}
  settled:
    webhook: shop
    fields: {token: {type: text, required: true, sensitive: true}, state: text}
    match: {token: charge.token}
  answer: {respond: {headers: {x-token: "{{ charge.token }}"}, body: {said: "{{ 'token ' + charge.token }}"}}}
"""
LISTS = """
cycle: lists
connectors: {shop: {}}
steps:
  asked: {webhook: shop, fields: {"[].pin": {type: text, sensitive: true}, "[].name": text}}
  answer: {respond: {body: "{{ asked.items[0].name }}"}}
"""
TEAM = """
cycle: team
connectors: {shop: {}, bank: {base_url: "https://bank.example"}}
steps:
  asked:
    webhook: shop
    fields:
      "[people].name": text
      "[people].tax": {type: text, sensitive: true}
      "[pins]": {type: text, sensitive: true}
  sum_up: {script: "work:sum_up"}
  kind: {decide: "asked.people[0].name", cases: {pins: pin, mixed: mixed}, default: person}
  person: {split: asked.people}
  pay: {post: bank, path: /pay, body: {name: "{{ person.name }}", tax: "{{ person.tax }}"}, next: end}
  pin: {split: asked.pins}
  keep: {post: bank, path: "/keep/{{ pin.item }}", body: {}, next: end}
  mixed: {split: "asked.people.map(one, {'both': one.name + one.tax})"}
  tell: {post: bank, path: /tell, headers: {x-sum: "{{ sum_up.total }}"}, body: "{{ mixed.both }}"}
"""
ANSWERS = """
cycle: answers
connectors: {shop: {}}
steps:
  asked: {webhook: shop, fields: {kind: text, card: {type: text, sensitive: true}}}
  which: {decide: asked.kind, cases: {open: plain}, default: full}
  plain: {respond: {body: {said: "{{ asked.kind }}"}}, next: end}
  full: {respond: {body: {said: "{{ asked.card }}"}}}
"""
ORDER = {"order": "A1", "card": {"number": "secret-card"}, "people": [{"tax": "secret-tax", "name": "Ada"}]}


def paid() -> Story:
    """A payment from its request to its settlement, with a hit that was parked on the way."""
    story = Story(PAY)
    story.hit("settled", {"token": "secret-token", "state": "early"})
    story.hit("asked", ORDER)
    story.answer({"token": "secret-token", "id": 7})
    story.hit("settled", {"token": "secret-token", "state": "done"})
    return story


def hidden(story: Story, cycle: str) -> Hidden:
    """What a cycle of a story hides."""
    return hidden_of(story.state.program(story.state.cycle(cycle).definition_hash))


def views(story: Story) -> list[dict[str, Any]]:
    """Every event of a story as it is read."""
    masks = {name: hidden(story, name) for name in story.state.cycles}
    return [event_view(seq, event, masks[event.cycle]) for seq, event in enumerate(story.journal)]


def data_of(story: Story, row: TransactionRow) -> dict[str, Any]:
    """The data of a transaction's steps as it is read."""
    return hidden(story, row.cycle).steps(row.data)


def test_3_given_a_payment_when_its_events_are_read_then_no_secret_is_in_them() -> None:
    """Wherever it went: raw bodies, data, rendered requests, match keys, delivery keys and answers."""
    story = paid()
    assert "secret" in repr(story.journal)
    shown = msgspec.json.encode(views(story)).decode()
    assert "secret" not in shown
    assert '"order":"A1"' in shown
    assert {view["event"] for view in views(story) if MASK in repr(view)} == {
        "HitAccepted",
        "HitParked",
        "StepCompleted",
        "CallIntended",
        "CallAnswered",
        "TransactionHeld",
        "ReplyBuilt",
    }


def test_13_given_a_payment_that_is_resumed_then_no_secret_is_in_its_events() -> None:
    """What it takes over is masked as it was in the old one: match keys, and the request that waits for a person."""
    ship = '  ship: {post: bank, path: /ship, safe_to_repeat: no, body: "{{ charge.token }}"}\n'
    story = Story(PAY.replace("steps:", "settings: {on_error: stop_transaction}\nsteps:") + ship)
    story.hit("asked", ORDER)
    story.answer({"token": "secret-token", "id": 7})
    story.hit("settled", {"token": "secret-token", "state": "done"})
    story.no_answer()
    story.redrive("resume", story.only().id)
    assert "secret" not in msgspec.json.encode(views(story)).decode()
    masked = {view["event"] for view in views(story) if MASK in repr(view)}
    assert masked >= {"TransactionResumed", "CallWithheld"}


def test_3_given_a_payment_when_its_data_is_read_then_only_what_is_declared_is_masked() -> None:
    """And the data that the steps use is left alone."""
    story = paid()
    shown = data_of(story, story.only())
    assert shown["asked"] == {"order": "A1", "card": {"number": MASK}, "people": [{"tax": MASK}]}
    assert shown["charge"]["id"] == 7
    assert shown["charge"]["body"] == {"token": MASK, "id": 7}
    assert story.only().data["asked"]["card"] == {"number": "secret-card"}
    assert story.calls()[0].request.headers["x-card"] == "card secret-card"


def test_given_a_body_that_is_a_list_when_it_is_read_then_its_items_are_masked() -> None:
    """`[].pin` lies under `items` in the data, and at the root of the body."""
    story = Story(LISTS)
    story.hit("asked", [{"pin": "secret", "name": "Ada"}])
    assert data_of(story, story.only())["asked"] == {"items": [{"pin": MASK, "name": "Ada"}]}
    assert "secret" not in repr(views(story))
    assert b"Ada" in story.replies()[0][1]


def test_given_a_body_that_can_not_be_looked_into_when_it_is_read_then_it_is_masked_whole() -> None:
    """Rule 3: an answer that is text where an object was declared."""
    story = Story(PAY)
    story.hit("asked", ORDER)
    story.answer("secret and more")
    assert "secret" not in repr(views(story))
    assert "secret" not in repr(data_of(story, story.only()))


def test_given_a_field_that_stopped_being_sensitive_when_old_data_is_read_then_it_is_masked() -> None:
    """Data outlives the version that declared it."""
    story = paid()
    both = hidden(story, "pay")
    open_version = Story(PAY.replace(", sensitive: true", ""))
    both.learn(open_version.state.program(open_version.state.cycle("pay").definition_hash).definition)
    assert both.data("asked", ORDER)["card"] == {"number": MASK}


def test_given_a_get_when_it_is_read_then_its_query_is_masked() -> None:
    """GET and DELETE carry their fields in the query; text where an object was declared is masked whole."""
    assert hidden(Story(PAY), "pay").query("asked", {"card": "secret", "order": "A1"}) == {"card": MASK, "order": "A1"}


@pytest.mark.parametrize("kind", ["Ada", "pins", "mixed"])
def test_given_a_list_that_is_split_when_its_items_are_read_then_what_was_sensitive_in_it_still_is(kind: str) -> None:
    """An item has the declarations of the list it came from; and what a script made of the data is masked whole."""
    story = Story(TEAM)
    story.hit("asked", {"people": [{"name": kind, "tax": "secret-tax"}], "pins": ["secret-pin"]})
    story.script({"total": "secret-tax"})
    assert "TransactionSplit" in story.names()
    shown = [*views(story), *(data_of(story, row) for row in story.state.transactions.values())]
    assert "secret" in repr(story.calls()[-1].request)
    assert "secret" not in repr(shown)
    if kind == "Ada":
        assert data_of(story, story.state.transactions[max(story.state.transactions)])["person"] == {
            "name": "Ada",
            "tax": MASK,
        }


def test_given_two_responds_when_answers_are_read_then_only_the_one_that_tells_a_secret_is_masked() -> None:
    """The answer names the step that built it."""
    story = Story(ANSWERS)
    for kind in ("open", "secret-kind"):
        story.hit("asked", {"kind": kind, "card": "secret-card"})
    shown = [view["body"] for view in views(story) if view["event"] == "ReplyBuilt"]
    assert shown == ['{"said":"open"}', MASK]


@pytest.mark.parametrize(
    ("hook", "masked"),
    [
        ("", {"steps": {"a": {"n": "1", "pin": MASK}, "b": {"m": "2"}}}),
        ('before_webhook: "work:look"', {"steps": {"a": MASK, "b": {"m": "2"}}}),
        ('after_webhook: "work:tidy"', {"steps": {"a": MASK, "b": {"m": "2"}}}),
    ],
)
def test_given_a_script_around_a_webhook_then_what_it_may_have_moved_is_masked_whole(hook: str, masked: Any) -> None:
    """What a script returns can hold the secret anywhere; one before a webhook sees only that request."""
    step = f"webhook: shop, {hook}" if hook else "webhook: shop"
    steps = (
        f"  a: {{{step}, fields: {{n: text, pin: {{type: text, sensitive: true}}}}}}\n"
        '  b: {webhook: shop, fields: {m: text}, match: {m: a.n}, before_webhook: "work:look"}\n'
    )
    story = Story(cycle(steps))
    hidden = hidden_of(story.state.program("hash-c"))
    assert {"steps": hidden.steps({"a": {"n": "1", "pin": "2"}, "b": {"m": "2"}})} == masked
    story.hit("a", {"n": "1", "pin": "2468"}, query={"pin": "2468"})
    seen = [event_view(seq, event, hidden) for seq, event in enumerate(story.journal) if seq > 1]
    assert "2468" not in repr(seen)
