"""Remotes that ask for patience (section 7): the other calls of that connector wait meanwhile, in the journal."""

import msgspec
import pytest

from protocol.events import CallAnswered, CallIntended, WaitStarted
from protocol.inputs import Accepted
from protocol.state import TransactionRow
from tests.protocol.story import SECOND, Story

SHOP = """
cycle: orders
connectors: {shop: {}, bank: {base_url: "http://bank.example"}, post: {base_url: "http://post.example"}}
steps:
  asked: {webhook: shop, answer_within: 30 seconds, fields: {n: integer, to: text}}
  pay: {post: bank, path: "/pay/{{ asked.n }}"}
  tell: {post: post, path: /tell}
  answer: {respond: {body: {n: "{{ asked.n }}"}}}
"""
ABROAD = SHOP.replace('post: bank, path: "/pay/{{ asked.n }}"', 'post: bank, url: "{{ asked.to }}"')


def ask(story: Story, n: int, **more: object) -> TransactionRow:
    """An order; its transaction."""
    verdict = story.hit("asked", {"n": n, **more})
    assert isinstance(verdict, Accepted)
    return story.state.transaction(verdict.transaction)


def refused(story: Story, row: TransactionRow, **headers: str) -> float:
    """The remote puts the call of a transaction off; returns for how many seconds it waits."""
    story.answer(None, 429, transaction=row.id, headers={name.replace("_", "-"): one for name, one in headers.items()})
    return (row.until - story.at) / SECOND


def waits(story: Story) -> list[tuple[int, str]]:
    """Every wait that began, by the transaction's place among all, and why."""
    numbers = {transaction: at for at, transaction in enumerate(story.state.transactions)}
    return [(numbers[one.transaction], one.reason) for one in story.journal if isinstance(one, WaitStarted)]


def test_7_the_other_calls_of_a_connector_wait_with_the_one_that_was_put_off() -> None:
    """Section 7: nothing is sent to it, nothing is metered for it, and the wait is a row without an open call."""
    story = Story(SHOP)
    first = ask(story, 1)
    assert refused(story, first, retry_after="90") == 90
    story.at += 10 * SECOND
    second = ask(story, 2)
    assert (second.status, second.step, second.call, second.until) == ("running", "pay", None, first.until)
    assert [call.request.url for call in story.calls()] == ["/pay/1"]
    story.later(79)
    assert len(story.calls()) == 1
    story.later(1)
    assert [call.request.url for call in story.calls()] == ["/pay/1", "/pay/1", "/pay/2"]
    assert [call.attempt for call in story.calls()] == [1, 2, 1]
    assert story.calls()[2].idempotency_key.endswith(".pay.1")
    assert waits(story) == [(0, "limited"), (1, "remote")]


def test_7_calls_of_other_connectors_do_not_wait() -> None:
    """Section 7: it is the calls of that connector that wait; a step further on another remote goes on."""
    story = Story(SHOP)
    first, second = ask(story, 1), ask(story, 2)
    refused(story, first, retry_after="90")
    story.answer({}, transaction=second.id)
    assert story.calls()[-1].request.connector == "post"


def test_7_a_host_that_a_step_names_by_itself_is_a_remote_of_its_own() -> None:
    """Section 7: a 429 of one host holds up no call to another, though one connector carries both."""
    story = Story(ABROAD)
    refused(story, ask(story, 1, to="https://one.example/x?y=1"), retry_after="90")
    assert ask(story, 2, to="https://two.example/x").call is not None
    assert ask(story, 3, to="https://user@ONE.example/other").call is None


def test_7_refusals_of_calls_that_were_on_their_way_together_are_one_time() -> None:
    """Section 7: the wait grows on repetition; twenty calls in flight that are all refused repeat nothing."""
    story = Story(SHOP)
    rows = [ask(story, n) for n in range(3)]
    assert [refused(story, row) for row in rows] == [60, 60, 60]
    story.later(60)
    assert refused(story, rows[1]) == 120
    story.later(120)
    assert refused(story, rows[0]) == 300
    story.answer({}, transaction=rows[2].id)  # It was on its way since before the refusal, so it says nothing.
    story.later(300)
    story.answer({}, transaction=rows[0].id)
    assert not story.state.cycle("orders").remotes, "any other answer ends it"
    assert refused(story, rows[1]) == 60


def test_7_a_longer_wait_that_another_call_was_told_holds_for_all() -> None:
    """Section 7: one was told 60 seconds and another five minutes: both wait for the longer one."""
    story = Story(SHOP)
    first, second = ask(story, 1), ask(story, 2)
    refused(story, first, retry_after="60")
    refused(story, second, retry_after="300")
    story.later(60)
    assert len(story.calls()) == 2
    assert (first.until - story.at) / SECOND == 240
    story.later(240)
    assert [call.attempt for call in story.calls()] == [1, 1, 2, 2]
    assert waits(story) == [(0, "limited"), (1, "limited"), (0, "remote")]


def test_7_a_shorter_wait_than_another_call_was_told_is_as_long_as_that() -> None:
    """Section 7: one was told five minutes, then another 60 seconds: it waits for five minutes, and not twice."""
    story = Story(SHOP)
    first, second = ask(story, 1), ask(story, 2)
    refused(story, first, retry_after="300")
    refused(story, second, retry_after="60")
    assert (second.until - story.at) / SECOND == 300
    assert waits(story) == [(0, "limited"), (1, "limited")]


def test_7_a_retry_that_is_due_earlier_waits_too() -> None:
    """Sections 7 and 10: the gap of the policy is the least, the remote's word goes over it, and costs no attempt."""
    story = Story(SHOP.replace("steps:", "settings: {on_error: {retry: [10 seconds, 10 seconds]}}\nsteps:"))
    first, second = ask(story, 1), ask(story, 2)
    story.answer(None, 500, transaction=first.id)
    refused(story, second, retry_after="60")
    story.later(10)
    assert first.until == second.until
    story.later(50)
    assert first.call is not None
    assert (first.call.attempt, first.call.failures) == (2, 1)


def test_5_5_a_caller_whose_deadline_comes_before_the_remote_may_be_called_is_told_502_now() -> None:
    """5.5: he is told at once, and the run goes on."""
    story = Story(SHOP)
    refused(story, ask(story, 1), retry_after="20")
    assert not story.replies(), "it comes within his deadline"
    refused_again = ask(story, 2)
    story.later(20)
    assert refused_again.call is not None
    story.answer(None, 429, transaction=refused_again.id, headers={"retry-after": "600"})
    ask(story, 3)
    told = [(status, msgspec.json.decode(body)["step"]) for status, body in story.replies()]
    assert told == [(502, "pay"), (502, "pay")]


def test_7_patience_survives_a_restart() -> None:
    """Section 7: who waits is in the journal, and so is for how long calls made after the restart wait."""
    story = Story(SHOP)
    first, second = ask(story, 1), ask(story, 2)
    refused(story, first, retry_after="600")
    story.answer({}, transaction=second.id)
    third = ask(story, 3)
    story.restart()
    fourth = ask(story, 4)
    assert fourth.until == story.state.transaction(third.id).until == story.at + 600 * SECOND
    story.later(600)
    assert [call.request.url for call in story.calls() if call.request.connector == "bank"] == [
        *("/pay/1", "/pay/2", "/pay/1", "/pay/3", "/pay/4")
    ]


def test_11_a_stop_ends_calls_that_wait_for_a_remote() -> None:
    """Section 11: they are in progress; their timers then find nothing to do."""
    story = Story(SHOP)
    refused(story, ask(story, 1), retry_after="60")
    ask(story, 2)
    story.stop()
    assert story.status() == ["stopped", "stopped"]
    story.start()
    story.later(60)
    assert len(story.calls()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_8_a_linked_cycle_that_asks_for_patience_holds_up_links_to_it_alone(status: int) -> None:
    """Sections 7 and 8: same answers as over HTTP; calls of the same connector over the network go on."""
    parent = SHOP.replace('post: bank, path: "/pay/{{ asked.n }}"', 'post: post, url: "cycle:child/t"')
    child = (
        "cycle: child\nconnectors: {shop: {}}\nsteps:\n  t: {webhook: shop}\n"
        f"  r: {{respond: {{status: {status}, headers: {{retry-after: '30'}}}}}}\n"
    )
    story = Story(parent, child)
    first, second = ask(story, 1), ask(story, 2)
    story.answer(None, status, transaction=first.id, headers={"retry-after": "30"})
    assert ask(story, 3).call is None
    story.answer({}, transaction=second.id)
    assert story.calls()[-1].request.url == "/tell"


def test_7_what_is_remembered_of_remotes_is_bounded() -> None:
    """Section 7: urls can come from data; the oldest of too many hosts is forgotten."""
    story = Story(ABROAD)
    for n in range(130):
        refused(story, ask(story, n, to=f"https://host{n}.example/"), retry_after="9000")
    assert len(story.state.cycle("orders").remotes) == 100
    answered = [one for one in story.journal if isinstance(one, CallAnswered | CallIntended)]
    assert len(answered) == 260
