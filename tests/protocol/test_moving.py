"""Held transactions and new versions (section 11): who moves at the next pass, who stays, and what finds them."""

from typing import Any

import pytest

from protocol.events import TransactionMoved
from protocol.inputs import Accepted, Deploy, Parked, Resumed
from protocol.matching import FORMS_MAX
from protocol.moving import compare, weigh
from protocol.state import TransactionRow
from protocol.verdicts import first_verdict
from tests.protocol.story import Story

ASKED = "asked: {webhook: shop, fields: {job: integer, name: text}}"
BOOK = "book: {post: remote, path: /book, fields: {id: integer, note: text}}"
BACK = "back: {webhook: shop, fields: {id: {type: integer, required: true}, word: text}, match: {id: book.id}}"
TELL = 'tell: {post: remote, path: /tell, body: "{{ asked.name }} {{ back.word }}"}'


def version(*steps: str) -> str:
    """A version of the cycle."""
    head = 'cycle: moves\nconnectors: {shop: {}, remote: {base_url: "http://remote.example"}}\n'
    return f"{head}settings: {{on_error: stop_transaction}}\nsteps:\n" + "".join(f"  {step}\n" for step in steps)


OLD = version(ASKED, BOOK, BACK, TELL)
MOVES = OLD.replace("path: /tell", "path: /new")


def ask(story: Story, number: Any = 7, name: Any = "ada") -> TransactionRow:
    """A transaction that holds at `back`."""
    verdict = story.hit("asked", {"job": 7, "name": name})
    assert isinstance(verdict, Accepted)
    story.answer({"id": number, "note": "x"}, transaction=verdict.transaction)
    return story.state.transaction(verdict.transaction)


def held(text: str = OLD) -> Story:
    """A transaction that holds at `back`."""
    story = Story(text)
    ask(story)
    return story


def call_back(story: Story, number: Any = 7, **more: Any) -> Any:
    """The request it waits for."""
    return story.hit("back", {"id": number, "word": "done", **more})


def moved(story: Story) -> bool:
    """Whether the only transaction runs the current version."""
    row = story.only()
    return row.definition_hash == story.state.cycle("moves").definition_hash


def reasons(story: Story) -> list[str]:
    """Why the only transaction stays."""
    row = story.only()
    new = story.state.program(story.state.cycle("moves").definition_hash)
    return weigh(story.state, row, new, row.step).reasons


def test_11_a_held_transaction_moves_at_its_next_pass() -> None:
    """Section 11: until then it holds on its own version; what it had is still there, and the new steps run."""
    story = held()
    story.deploy(MOVES)
    assert not moved(story)
    assert isinstance(call_back(story), Resumed)
    assert story.names() == [
        "HitAccepted",
        "HitMatched",
        "PassStarted",
        "TransactionMoved",
        "StepCompleted",
        "CallIntended",
    ]
    assert story.calls()[-1].request.url == "/new"
    assert story.calls()[-1].request.body == b'"ada done"'
    assert (story.only().earlier, moved(story)) == (["hash-moves"], True)


def test_11_a_move_is_a_fact_that_replay_does_not_weigh_again() -> None:
    """Section 11: folding the journal alone gives the version that runs; a restart goes on with it."""
    story = held()
    story.deploy(MOVES)
    call_back(story)
    story.restart()
    assert moved(story)
    story.answer({})
    assert (story.status(), story.only().reached) == (["completed"], {"back": ["7"]})


def test_11_a_pass_in_progress_stays_on_its_version_to_its_end() -> None:
    """Section 11: what was deployed meanwhile runs from the pass after it on, also for a request that waits already."""
    story = held()
    call_back(story)
    call_back(story, word="again")
    story.deploy(MOVES)
    story.answer({})
    urls = [call.request.url for call in story.calls()]
    assert (urls, story.only().number) == (["/book", "/tell", "/new"], 3)


def test_11_a_completed_transaction_moves_as_well() -> None:
    """Sections 6.3 and 11: a further request runs it again, and that is a pass."""
    story = held()
    call_back(story)
    story.answer({})
    story.deploy(MOVES)
    call_back(story)
    assert moved(story)


def test_11_a_hold_that_expires_takes_the_exit_it_held_with() -> None:
    """Section 11: its length and its exit were said by the version that it held on; the next request moves it."""
    exits = OLD.replace("match: {id: book.id}", "match: {id: book.id}, hold_for: 1 hour, on_timeout: tell")
    story = held(exits.replace("{{ back.word }}", "late"))
    story.deploy(MOVES)
    story.later(3601)
    assert (story.calls()[-1].request.url, moved(story)) == ("/tell", False)
    story.answer({})
    call_back(story)
    assert moved(story)


STAYS = [
    (version(ASKED, BOOK, TELL.replace("{{ back.word }}", "")), "back is no webhook that holds in this version"),
    (version(BACK.replace(", match: {id: book.id}", ""), TELL.replace("{{ asked.name }}", "")), "back is no webhook"),
    (
        OLD.replace("match: {id: book.id}", "match: {word: book.note}"),
        "back matches by word in this version, and by id in its own",
    ),
    (
        version(ASKED, BOOK, "more: {get: remote, path: /more}", BACK, TELL.replace("asked.name", "more.status")),
        "tell maps more.status, and its version has no step more",
    ),
    (
        OLD.replace("name: text", "name: text, vip: boolean").replace("asked.name", "asked.vip"),
        "tell maps asked.vip, and its version does not declare asked.vip",
    ),
    (
        OLD.replace("name: text", "name: integer"),
        "tell maps asked.name, and asked.name is text in its version, not integer",
    ),
    (
        version(ASKED, BOOK, "pick: {split: book.body.lines}", BACK, TELL),
        "pick splits or gathers before back in this version only",
    ),
    (
        version(ASKED, BOOK, 'asked_once: {script: "m:f"}', BACK, TELL.replace("asked.name", "asked_once.x")),
        "tell maps asked_once.x, and its version has no step asked_once",
    ),
    (
        version(ASKED, 'book: {script: "m:f"}', BACK, TELL.replace("asked.name", "book.id")),
        "tell maps book.id, and book is of another kind in its version: call",
    ),
    (
        OLD.replace('body: "{{ asked.name }}', 'body: "{{ has(asked.vip) ? asked.vip : asked.name }}').replace(
            "name: text", "name: text, vip: text"
        ),
        "does not declare asked.vip",
    ),
    (OLD.replace("{{ asked.name }}", "{{ book.body.lines[0].sku }}"), "and it has no book.body.lines[0].sku"),
    (
        version(ASKED, BOOK, BACK, "d: {decide: {left: asked.vip, is: exists}}", TELL).replace(
            "name: text", "name: text, vip: text"
        ),
        "d maps asked.vip, and its version does not declare asked.vip",
    ),
    (OLD.replace("match: {id: book.id}", "match: {id: hit.query.id}"), "matches by the request of an earlier pass"),
    (OLD.replace("match: {id: book.id}", "match: {id: asked.name}"), "back has no value to match by in this version"),
]


@pytest.mark.parametrize(("text", "why"), STAYS)
def test_11_a_transaction_that_does_not_have_what_the_new_version_maps_stays(text: str, why: str) -> None:
    """Section 11: on its own version, whose steps go on as ever; and it is said why."""
    story = held()
    story.deploy(text)
    assert why in "; ".join(reasons(story))
    if "back" in story.state.program(story.state.cycle("moves").definition_hash).plans and "match" in text:
        assert isinstance(call_back(story), Resumed)
        assert story.calls()[-1].request.url == "/tell"
        assert not moved(story)


@pytest.mark.parametrize(
    "text",
    [
        OLD.replace("name: text", "name: any"),
        OLD.replace("job: integer, name: text", "name: text"),
        OLD.replace("job: integer", "job: text, more: {type: text, required: true}"),
        version(ASKED, BOOK, BACK, "more: {get: remote, path: /more}", TELL.replace("asked.name", "more.status")),
        version(ASKED, BOOK, "more: {get: remote, path: /more}", BACK, TELL),
        version(ASKED, BOOK, BACK, "d: {decide: \"back.word == 'asked.vip'\"}", TELL),
        version(ASKED, BOOK, BACK, "each: {split: asked.body}", TELL).replace("asked.body", "book.body.lines"),
        version(ASKED, BOOK, BACK, "all: {wait_all: true}", "tell: {post: remote, path: '/{{ all.count }}'}"),
        OLD.replace("asked.name", "hit.headers['x']"),
        OLD.replace("{{ asked.name }}", "{{ vars }}{{ cycle }}{{ transaction.id }}"),
        OLD.replace("path: /book", "path: /other").replace("asked: {webhook", "asked: {check: warn, webhook"),
    ],
)
def test_11_what_the_steps_after_the_webhook_do_not_map_from_before_it_does_not_matter(text: str) -> None:
    """Section 11: what the pass makes by itself, and what nothing maps, may change."""
    story = Story(OLD)
    verdict = story.hit("asked", {"job": 7, "name": "ada"})
    assert isinstance(verdict, Accepted)
    story.answer({"id": 7, "note": "x", "lines": [{"sku": "tea"}]})
    story.deploy(text)
    assert not reasons(story)
    story.hit("back", {"id": 7, "word": "done"}, headers={"x": "y"})
    assert [event.definition_hash for event in story.journal if isinstance(event, TransactionMoved)] == [
        story.state.cycle("moves").definition_hash
    ]


def test_11_a_value_that_this_transaction_does_not_have_keeps_it_while_others_move() -> None:
    """Section 11: a branch that it did not take, a call that failed: what it has is looked up in its own data."""
    steps = [
        ASKED,
        BOOK,
        "choose: {decide: {left: asked.name, is: equals, right: ada}, else: back}",
        "extra: {get: remote, path: /extra, fields: {code: text}}",
        BACK,
    ]
    story = Story(version(*steps, TELL))
    ada, bob = ask(story, 1), ask(story, 2, "bob")
    story.answer({"code": "c"}, transaction=ada.id)
    story.deploy(version(*steps, TELL.replace("asked.name", "extra.code")))
    call_back(story, 1)
    call_back(story, 2)
    assert [
        (call.request.body, len(row.earlier)) for call, row in zip(story.calls()[-2:], (ada, bob), strict=True)
    ] == [
        (b'"c done"', 1),
        (b'"bob done"', 0),
    ]


def test_11_a_comparison_goes_on_without_a_value_so_that_it_keeps_nobody() -> None:
    """Section 11: a new transaction that took the same branch would not have it either."""
    steps = [
        ASKED,
        BOOK,
        "choose: {decide: {left: asked.name, is: equals, right: bob}, else: back}",
        "extra: {get: remote, path: /extra, fields: {code: text}}",
        BACK,
    ]
    story = held(version(*steps, TELL))
    story.deploy(version(*steps, "known: {decide: {left: extra.code, is: exists}}", TELL))
    call_back(story)
    assert (moved(story), story.calls()[-1].step) == (True, "tell")


@pytest.mark.parametrize(("name", "moves"), [("ada", True), (None, False)])
def test_11_null_is_not_there_where_the_new_version_requires_a_value(name: str | None, *, moves: bool) -> None:
    """Section 11: what the new contract requires and a step maps, each transaction must have."""
    story = Story(OLD)
    ask(story, name=name)
    story.deploy(OLD.replace("name: text", "name: {type: text, required: true}"))
    call_back(story)
    assert moved(story) == moves


def test_11_a_hold_that_a_variable_is_matched_by_keeps_the_value_it_held_with() -> None:
    """Sections 6.2 and 11: under the new version the request would match another."""
    matches = OLD.replace("steps:", "variables: {id: 7}\nsteps:").replace(
        "match: {id: book.id}", "match: {id: vars.id}"
    )
    story = held(matches)
    story.deploy(matches.replace("{id: 7}", "{id: 8}"))
    assert isinstance(call_back(story), Resumed)
    assert not moved(story)


TWO_HOLDS = [
    ASKED,
    BOOK,
    "first: {webhook: shop, fields: {job: integer}, match: {job: asked.job}}",
    BACK,
    TELL,
]


def test_11_every_webhook_at_which_it_can_still_be_run_must_find_what_it_maps() -> None:
    """Section 11: a request to the earlier webhook runs it again; there the new version maps what it does not have."""
    story = Story(version(*TWO_HOLDS))
    ask(story)
    story.hit("first", {"job": 7})
    maps = "maps: {post: remote, path: '/{{ asked.vip }}'}"
    story.deploy(version(*TWO_HOLDS[:3], maps, *TWO_HOLDS[3:]).replace("name: text", "name: text, vip: text"))
    assert "maps maps asked.vip" in "; ".join(reasons(story))
    call_back(story)
    assert not moved(story)


def test_11_what_the_earlier_webhook_drops_is_not_there_for_it() -> None:
    """Sections 6.3 and 11: the new version makes it before the earlier webhook, and this transaction has it behind."""
    extra = "extra: {get: remote, path: /extra}"
    story = Story(version(*TWO_HOLDS[:3], extra, *TWO_HOLDS[3:]))
    ask(story)
    story.hit("first", {"job": 7})
    story.answer({})
    maps = "maps: {post: remote, path: '/{{ extra.status }}'}"
    story.deploy(version(*TWO_HOLDS[:2], extra, TWO_HOLDS[2], maps, *TWO_HOLDS[3:]))
    assert reasons(story) == ["maps maps extra.status, and it has no extra.status"]


def test_11_a_webhook_behind_the_one_that_runs_does_not_matter() -> None:
    """Sections 6.3 and 11: its hold is dropped with the pass, and it is reached anew on the version that runs."""
    story = Story(version(*TWO_HOLDS))
    ask(story)
    story.hit("first", {"job": 7})
    story.deploy(version(*TWO_HOLDS[:3], *TWO_HOLDS[4:]).replace("{{ back.word }}", "{{ first.job }}"))
    story.hit("first", {"job": 7})
    assert (moved(story), story.only().reached, story.calls()[-1].request.body) == (
        True,
        {"first": ["7"]},
        b'"ada 7"',
    )


def test_11_a_request_that_breaks_the_new_contract_runs_the_version_that_accepted_it() -> None:
    """Section 11: it waited behind a pass, was accepted with 202, and the new version requires more."""
    story = held()
    call_back(story)
    call_back(story, word="again")
    story.deploy(MOVES.replace("word: text", "word: text, more: {type: text, required: true}"))
    story.answer({})
    assert (story.calls()[-1].request.url, story.only().number, moved(story)) == ("/tell", 3, False)
    story.answer({})
    call_back(story, more="x")
    assert moved(story)


def test_11_a_move_goes_on_from_version_to_version_and_back() -> None:
    """Section 11: also to the version it came from, when that is current again."""
    story = held()
    story.deploy(MOVES)
    call_back(story)
    story.answer({})
    packed = story.state.definitions["hash-moves"].definition
    story.put(Deploy("moves", story.at, packed, "hash-moves", {}))
    call_back(story)
    assert (story.only().definition_hash, len(story.only().earlier)) == ("hash-moves", 2)
    assert story.calls()[-1].request.url == "/tell"


def test_11_items_of_a_list_move_each_by_itself() -> None:
    """Sections 9 and 11: an item that holds is found in the new version as the same item of the same list."""
    steps = [
        "asked: {webhook: shop, fields: {name: text, '[lines].sku': text, '[lines].n': integer}}",
        "line: {split: asked.lines}",
        "back: {webhook: shop, fields: {sku: text, word: text}, match: {sku: line.sku}}",
        'tell: {post: remote, path: /tell, body: "{{ asked.name }} {{ line.sku }}"}',
    ]
    story = Story(version(*steps))
    story.hit("asked", {"name": "ada", "lines": [{"sku": "tea", "n": 1}, {"sku": "jam", "n": 2}]})
    story.deploy(version(*steps).replace('line.sku }}"', 'line.n }}"').replace("/tell", "/new"))
    story.hit("back", {"sku": "jam"})
    assert (story.calls()[-1].request.url, story.calls()[-1].request.body) == ("/new", b'"ada 2"')
    story.deploy(version(steps[0], *steps[2:]).replace("line.sku", "asked.name"))
    story.hit("back", {"sku": "tea"})
    assert story.calls()[-1].request.url == "/tell", "it would not be an item any more"


def test_11_what_inherits_data_remembers_the_versions_that_may_hide_it() -> None:
    """Sections 3, 9, 11 and 13: an item of a list, and what a redrive resumes, have data of before the move."""
    text = version(ASKED, BOOK, BACK, "each: {split: book.body.lines}", TELL)
    story = Story(OLD)
    verdict = story.hit("asked", {"job": 7, "name": "ada"})
    assert isinstance(verdict, Accepted)
    story.answer({"id": 7, "lines": [{"sku": "tea"}]})
    story.deploy(text)
    call_back(story)
    item = max(story.state.transactions.values(), key=lambda one: one.id)
    assert (item.data["asked"]["name"], item.earlier) == ("ada", ["hash-moves"])
    story.answer(None, 500, transaction=item.id)
    story.deploy(text.replace("/tell", "/new"))
    story.redrive("resume", item.id, current=True)
    resumed = max(story.state.transactions.values(), key=lambda one: one.id)
    assert resumed.earlier == ["hash-moves", item.definition_hash]


def test_11_a_transaction_after_a_gathering_stays_one_in_the_new_version() -> None:
    """Sections 9 and 11: a `wait_all` counts what began where; one that moved before it would come to it unseen."""
    gathers = ["asked: {webhook: shop, fields: {job: integer}}", "all: {wait_all: true}"]
    back = "back: {webhook: shop, fields: {id: integer}, match: {id: vars.id}}"
    head = version("X: 1").replace("steps:\n  X: 1\n", "variables: {id: 1}\nsteps:\n")

    def of(*steps: str) -> str:
        return head + "".join(f"  {step}\n" for step in steps)

    story = Story(of(*gathers, back, "end_it: {post: remote, path: /a}"))
    story.hit("asked", {"job": 1})
    row = max(story.state.transactions.values(), key=lambda one: one.id)
    assert (row.phase, row.status) == ("all", "held")
    story.deploy(of(gathers[0], back, gathers[1], "end_it: {post: remote, path: /b}"))
    story.hit("back", {"id": 1})
    assert (story.calls()[-1].request.url, row.earlier) == ("/a", [])


def test_11_versions_are_compared_once() -> None:
    """Section 11: a thousand held transactions cost one comparison."""
    story = Story(OLD)
    for number in range(20):
        ask(story, number)
    story.deploy(MOVES)
    compare.cache_clear()
    for number in range(20):
        call_back(story, number)
    assert compare.cache_info().misses == 1


def test_11_a_repeat_is_answered_as_the_first_was_whatever_version_runs_since() -> None:
    """Sections 4 and 11: the step to which the first delivery came may be gone from the version that runs."""
    story = held()
    trigger = story.only().hit
    story.deploy(MOVES.replace("asked:", "ordered:").replace("{{ asked.name }}", ""))
    first = call_back(story)
    assert moved(story)
    assert first_verdict(story.state.hit(trigger)) == Accepted(trigger, story.only().id)
    assert first_verdict(story.state.hit(first.hit)) == first


# -- requests to versions that match otherwise

DECIMAL = OLD.replace("id: integer, note", "id: text, note").replace("id: {type: integer", "id: {type: decimal")
TEXT = DECIMAL.replace("id: {type: decimal", "id: {type: text").replace("/tell", "/new")


def test_6_2_each_transaction_is_matched_as_its_own_version_says() -> None:
    """Sections 6.2 and 11: 4.20, held as a decimal, is met by 4.2 still, and stays: as texts they are not the same."""
    story = Story(DECIMAL)
    row = ask(story, "4.20")
    assert row.reached == {"back": ["4.2"]}
    story.deploy(TEXT)
    assert isinstance(call_back(story, "4.2"), Resumed)
    assert (story.calls()[-1].request.url, row.reached) == ("/tell", {"back": ["4.2"]})
    story.answer({})
    assert isinstance(call_back(story, "4.20"), Resumed)
    assert (story.calls()[-1].request.url, row.reached) == ("/new", {"back": ["4.20"]})
    story.answer({})
    story.restart()
    assert isinstance(call_back(story, "4.2"), Parked), "it moved, and is matched as the version it runs says"


def test_6_2_what_holds_on_the_current_version_is_not_met_by_the_rules_of_an_older_one() -> None:
    """Sections 6.2 and 11: 4.2 and 4.20 are one decimal and two texts."""
    story = Story(DECIMAL)
    older = ask(story, "4.20")
    story.deploy(TEXT)
    newer = ask(story, "4.2")
    assert call_back(story, "4.20").transaction == older.id
    assert call_back(story, "4.2").transaction == newer.id


def test_6_2_a_hold_that_matches_by_another_location_is_found_by_it() -> None:
    """Sections 6.2 and 11: it stays on its version, and the request that carries both is given to both."""
    story = held()
    older = story.only()
    story.deploy(OLD.replace("match: {id: book.id}", "match: {word: book.note}").replace("/tell", "/new"))
    assert call_back(story, 7, word="y").transaction == older.id
    assert story.calls()[-1].request.url == "/tell"
    newer = ask(story, 8)
    assert call_back(story, 7, word="x").transaction == newer.id
    assert call_back(story, 7, word="x").candidates == (newer.id, older.id)


def test_6_5_a_hit_that_was_parked_by_another_form_meets_its_hold() -> None:
    """Sections 6.5 and 11: it came before the deploy, and the transaction that it is for after it, or the other way."""
    story = Story(DECIMAL)
    assert isinstance(call_back(story, "4.20"), Parked)
    story.deploy(TEXT)
    assert isinstance(call_back(story, "4.2"), Parked)
    row = ask(story, "4.20")
    assert (row.number, story.state.cycle("moves").parked) == (2, 1)
    story = Story(DECIMAL)
    verdict = story.hit("asked", {"job": 1, "name": "ada"})
    assert isinstance(verdict, Accepted)
    story.deploy(TEXT)
    assert isinstance(call_back(story, "4.2"), Parked)
    story.answer({"id": "4.20"})
    assert (story.only().number, story.only().reached, moved(story)) == (2, {"back": ["4.2"]}, False)


def test_6_2_forms_that_nothing_matches_by_any_more_are_kept_up_to_a_bound() -> None:
    """Section 6.2: one version of each form, the latest ones; a form that is current again is none of the older."""
    story = Story(OLD)
    types = ["text", "decimal", "integer", "float", "boolean", "datetime", "any"]
    for kind in [*types, *types, "integer"]:
        story.deploy(OLD.replace("id: {type: integer", f"id: {{type: {kind}"))
    forms = story.state.cycle("moves").forms["back"]
    assert len(forms) == len(types) - 1
    for location in ("word", "a", "b", "c"):
        fields = f"word: text, {location}: text" if location != "word" else "word: text"
        story.deploy(OLD.replace("word: text", fields).replace("match: {id:", f"match: {{{location}:"))
    assert len(story.state.cycle("moves").forms["back"]) == FORMS_MAX
    ask(story)
    assert isinstance(story.hit("back", {"id": 7, "c": "7"}), Resumed)
