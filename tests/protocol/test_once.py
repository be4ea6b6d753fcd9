"""Run once (section 11): a stopped cycle takes one request to its trigger, runs it, and is stopped again."""

from typing import Any

import pytest

from protocol.events import CycleStopped
from protocol.inputs import Accepted, Parked, Receipt, Refused, Resumed, RunOnce
from protocol.state import CycleRow
from tests.protocol.story import Story

STEPS = """
cycle: once
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction%s}
steps:
  asked: {webhook: shop, fields: {job: integer}}
  work: {post: remote, path: /work}
  back: {webhook: shop, fields: {job: integer}, match: {job: asked.job}}
  tell: {post: remote, path: /tell}
"""
PLAIN, COLLECTING = STEPS % "", STEPS % ", while_stopped: collect"


def run_once(story: Story) -> Any:
    """The order."""
    return story.put(RunOnce(story.cycle, story.at))


def waiting(text: str = PLAIN) -> Story:
    """A stopped cycle that was told to run once."""
    story = Story(text, started=False)
    assert run_once(story) == Receipt("stopped", once="waiting")
    return story


def row(story: Story) -> CycleRow:
    """The cycle."""
    return story.state.cycle(story.cycle)


def ask(story: Story, job: int = 1) -> Any:
    """A request to the trigger."""
    return story.hit("asked", {"job": job})


def test_11_a_cycle_that_runs_once_takes_one_request_and_is_stopped_when_its_pass_holds() -> None:
    """Section 11: accepted like any other; while it runs the cycle finishes, then it is stopped and waits no more."""
    story = waiting()
    assert isinstance(ask(story), Accepted)
    assert (row(story).status, row(story).once) == ("stopping", "running")
    story.answer({})
    assert (row(story).status, row(story).once, story.status()) == ("stopped", "", ["held"])
    assert isinstance(story.journal[-1], CycleStopped)
    assert isinstance(ask(story), Refused)


def test_11_a_cycle_that_runs_once_is_stopped_in_the_turn_in_which_all_is_over() -> None:
    """Section 11: a run without a call, and one that fails, end it as well."""
    story = waiting(PLAIN.replace("  work: {post: remote, path: /work}\n", "").replace("  tell: {post", "  tell: {get"))
    ask(story)
    assert (row(story).status, story.status()) == ("stopped", ["held"])
    story = waiting()
    ask(story)
    story.answer(None, 500)
    assert (row(story).status, story.status()) == ("stopped", ["failed"])


@pytest.mark.parametrize(("text", "told"), [(PLAIN, Refused), (COLLECTING, Parked)])
def test_11_a_second_request_finds_the_cycle_stopped(text: str, told: type) -> None:
    """Sections 4.1 and 11: while the first runs and after it: 409, or collected until the start."""
    story = waiting(text)
    ask(story)
    assert isinstance(ask(story, 2), told)
    story.answer({})
    assert isinstance(ask(story, 3), told)
    assert story.status() == ["held"]


def test_11_requests_that_were_kept_come_first() -> None:
    """Section 11: the oldest one to the trigger runs at once; the others wait on, for the next time or for a start."""
    story = Story(COLLECTING, started=False)
    story.hit("back", {"job": 9})
    kept = [ask(story, 1).hit, ask(story, 2).hit]
    assert run_once(story) == Receipt("stopping", resumed=1, once="running")
    assert (story.only().hit, row(story).parked) == (kept[0], 2)
    story.answer({})
    assert row(story).status == "stopped"
    assert run_once(story) == Receipt("stopping", resumed=1, once="running")
    story.answer({}, transaction=max(story.state.transactions))
    assert run_once(story) == Receipt("stopped", once="waiting")


def test_11_a_callback_that_comes_before_its_hold_is_parked_and_runs() -> None:
    """Sections 6.5 and 11: for the transaction of the one request the cycle behaves as if it ran."""
    story = waiting()
    ask(story)
    assert isinstance(story.hit("back", {"job": 1}), Parked)
    story.answer({})
    assert (story.only().number, row(story).status) == (2, "stopping")
    assert isinstance(story.hit("back", {"job": 1}), Resumed)
    story.answer({})
    story.answer({})
    assert (story.only().number, story.only().status, row(story).status) == (3, "completed", "stopped")
    assert isinstance(story.hit("back", {"job": 1}), Refused)


def test_11_a_callback_for_another_transaction_finds_the_cycle_stopped() -> None:
    """Section 11: what holds since before survives, and does not run."""
    story = Story(PLAIN)
    ask(story)
    story.answer({})
    story.stop()
    run_once(story)
    assert isinstance(story.hit("back", {"job": 1}), Refused), "it waits for its trigger only"
    ask(story, 2)
    assert isinstance(story.hit("back", {"job": 1}), Refused)
    story.answer({}, transaction=max(story.state.transactions))
    assert (story.status(), row(story).status) == (["held", "held"], "stopped")


def test_11_items_of_a_list_and_what_gathers_them_belong_to_the_run() -> None:
    """Sections 9 and 11: it is over when the transaction behind the `wait_all` is."""
    story = waiting(
        """
        cycle: once
        connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
        steps:
          asked: {webhook: shop, fields: {list: list}}
          each: {split: asked.list}
          work: {post: remote, path: /work}
          all: {wait_all: true}
          tell: {post: remote, path: /tell}
        """
    )
    story.hit("asked", {"list": [1, 2]})
    for _ in range(3):
        assert row(story).status == "stopping"
        story.answer({}, transaction=next(iter(story.state.running("once"))))
    assert (row(story).status, [call.step for call in story.calls()]) == ("stopped", ["work", "work", "tell"])


def test_11_a_delay_belongs_to_the_run() -> None:
    """Section 11: a pass that waits is in progress."""
    story = waiting(PLAIN.replace("{post: remote, path: /work}", "{delay: 1 hour}"))
    ask(story)
    assert row(story).status == "stopping"
    story.later(3600)
    assert (row(story).status, story.status()) == ("stopped", ["held"])


@pytest.mark.parametrize("mode", ["stop", "finish"])
def test_11_a_stop_ends_the_waiting(mode: str) -> None:
    """Section 11: the next request is refused."""
    story = waiting()
    assert story.stop(mode) == Receipt("stopped")
    assert (story.names(), row(story).once) == (["CycleStopped"], "")
    assert isinstance(ask(story), Refused)


def test_11_a_stop_ends_the_run() -> None:
    """Section 11: its pass is cut, as that of any cycle."""
    story = waiting()
    ask(story)
    assert story.stop() == Receipt("stopped", cut=1)
    assert (story.status(), row(story).once) == (["stopped"], "")


def test_11_a_start_takes_the_place_of_running_once() -> None:
    """Section 11: whether it waited or ran, the cycle then runs, and is not stopped when that run is over."""
    for asked in (False, True):
        story = waiting()
        if asked:
            ask(story)
        story.start()
        ask(story, 2)
        for transaction in story.state.running("once"):
            story.answer({}, transaction=transaction)
        assert (row(story).status, row(story).once) == ("running", "")


def test_11_only_a_stopped_cycle_runs_once() -> None:
    """Section 11: an order that can not be done says why; told twice while it waits it waits once."""
    story = Story(PLAIN)
    refused = run_once(story)
    assert (refused.status, refused.detail) == (409, "cycle once is running: stop it first")
    story.stop()
    run_once(story)
    assert run_once(story) == Receipt("stopped", once="waiting")
    assert story.names() == []
    ask(story)
    assert run_once(story).detail == "cycle once runs once already: stop it first"


def test_11_waiting_and_running_once_survive_a_restart() -> None:
    """Section 11: both are in the journal."""
    story = waiting()
    story.restart()
    assert isinstance(ask(story), Accepted)
    story.restart()
    assert row(story).once == "running"
    story.answer({})
    assert (row(story).status, story.status()) == ("stopped", ["held"])


def test_11_a_request_that_is_not_accepted_is_not_the_one() -> None:
    """Sections 4 and 11: a repeated delivery is answered as before, and the cycle waits on."""
    story = Story(PLAIN)
    story.hit("asked", {"job": 1}, headers={"idempotency-key": "k"})
    story.stop()
    run_once(story)
    story.hit("asked", {"job": 1}, headers={"idempotency-key": "k"})
    assert (story.names(), row(story).once) == (["HitDuplicated"], "waiting")


def test_11_a_transaction_that_held_before_expires_only_after_the_start() -> None:
    """Sections 6.7 and 11: its cycle is stopped, whoever runs once."""
    story = Story(
        PLAIN.replace("match: {job: asked.job}", "match: {job: asked.job}, hold_for: 1 hour, on_timeout: end")
    )
    ask(story)
    story.answer({})
    story.stop()
    run_once(story)
    ask(story, 2)
    story.later(3601)
    assert story.status() == ["held", "running"]
