"""HTTP steps: what is sent, what an outcome means, and what a crash leaves (section 7)."""

from typing import Any

import pytest

from protocol.calls import RENDERED_BYTES_MAX, TEXT_CHARACTERS_MAX
from protocol.inputs import CallAnswer, Receipt, Refused, Settle
from tests.protocol.story import SECOND, Story, begun, cycle

ASK = "  ask: {post: remote, path: /x}\n  then: {post: remote, path: /then}\n"
STOP = "{on_error: stop_transaction}"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_7_every_method_is_sent_to_its_connector(method: str) -> None:
    """Section 7: the kind of the step is the method; the timeout is the connector's unless the step has one."""
    story = begun(f"  ask: {{{method}: remote, path: '/orders/{{{{ t.id }}}}'}}\n", {"id": 7})
    (call,) = story.calls()
    assert (call.step, call.request.connector, call.request.method) == ("ask", "remote", method.upper())
    assert (call.request.url, call.request.timeout) == ("/orders/7", 9 * SECOND)
    story.answer({"ok": True})
    assert story.status() == ["completed"]
    assert story.only().data["ask"] == {
        "status": 200,
        "headers": {"content-type": "application/json"},
        "body": {"ok": True},
    }


def test_7_a_request_carries_query_headers_and_its_own_timeout() -> None:
    """Section 7: query values are escaped, null ones left out, lists repeat the name; headers are in lower case."""
    story = begun(
        "  ask:\n    get: other\n    url: 'https://a.example/x?a=1'\n"
        "    query: {q: '{{ t.q }}', gone: '{{ t.gone }}', tag: ['a', 'b'], paid: '{{ t.paid }}'}\n"
        "    headers: {X-Channel: '{{ vars.channel }}', X-Paid: '{{ t.paid }}', X-None: '{{ t.gone }}'}\n"
        "    timeout: 2 seconds\n",
        {"q": "ä b&c", "gone": None, "paid": True},
    )
    request = story.calls()[0].request
    assert request.url == "https://a.example/x?a=1&q=%C3%A4%20b%26c&tag=a&tag=b&paid=true"
    assert request.headers == {"x-channel": "orders", "x-paid": "true", "x-none": ""}
    assert request.timeout == 2 * SECOND


BODIES: list[tuple[str, str, bytes, str]] = [
    ("{a: '{{ t.n }}', b: [1, 'x']}", "json", b'{"a":4,"b":[1,"x"]}', "application/json"),
    ("'{{ t.none }}'", "json", b"", ""),
    ("{a: '{{ t.n }}', b: [1, 2]}", "form", b"a=4&b=1&b=2", "application/x-www-form-urlencoded"),
    ("{a: '{{ t.yes }}', b: '{{ t.none }}'}", "form", b"a=true&b=", "application/x-www-form-urlencoded"),
    ("{a: '{{ t.map }}'}", "form", b"a=%7B%22k%22%3A1%7D", "application/x-www-form-urlencoded"),
    ("'n is {{ t.n }}'", "text", b"n is 4", "text/plain; charset=utf-8"),
    ("'{{ t.yes }}'", "text", b"true", "text/plain; charset=utf-8"),
    ("'{{ t.map }}'", "text", b'{"k":1}', "text/plain; charset=utf-8"),
    ("{a: 1}", "none", b"", ""),
]


@pytest.mark.parametrize(("body", "kind", "sent", "content_type"), BODIES)
def test_7_a_body_is_sent_as_its_kind(body: str, kind: str, sent: bytes, content_type: str) -> None:
    """Sections 3 and 7: values in texts are written as JSON writes them, null as nothing."""
    story = begun(
        f"  ask: {{post: remote, path: /x, body: {body}, body_as: {kind}}}\n",
        {"n": 4, "none": None, "yes": True, "map": {"k": 1}},
    )
    request = story.calls()[0].request
    assert (request.body, request.content_type) == (sent, content_type)


def test_7_a_content_type_of_the_step_wins() -> None:
    """A remote may want a type of its own for JSON."""
    story = begun("  ask: {post: remote, path: /x, body: {a: 1}, headers: {Content-Type: application/vnd.a+json}}\n")
    request = story.calls()[0].request
    assert (request.content_type, request.headers) == ("application/vnd.a+json", {})


UNSENDABLE: list[tuple[str, Any, str]] = [
    ("path: /x, body: {a: '{{ t.gone }}'}", {}, "required_source_empty"),
    ("path: /x, body: {a: '{{ t.n + 1 }}'}", {"n": "text"}, "invalid_expression"),
    ("path: /x, headers: {x-a: '{{ t.n }}'}", {"n": "a\r\nx-evil: 1"}, "invalid_header"),
    ("path: /x, headers: {x-a: '{{ t.n }}'}", {"n": "a" * (TEXT_CHARACTERS_MAX + 1)}, "invalid_header"),
    ("path: '/{{ t.n }}'", {"n": "a" * TEXT_CHARACTERS_MAX}, "invalid_request"),
    ("path: /x, body: '{{ t.n }}', body_as: form", {"n": [1]}, "invalid_request"),
    ("path: /x, body: '{{ t.n }}{{ t.n }}', body_as: text", {"n": "a" * (RENDERED_BYTES_MAX // 2 + 1)}, "too_large"),
]


@pytest.mark.parametrize(("step", "body", "kind"), UNSENDABLE)
def test_7_what_can_not_be_sent_is_an_incident_and_no_call(step: str, body: Any, kind: str) -> None:
    """Sections 3 and 10: `stop_transaction` fails there, `ignore` goes on after it."""
    story = begun(f"  ask: {{post: remote, {step}}}\n", body, rules=STOP)
    assert (story.status(), story.incidents(), story.calls()) == (["failed"], [kind], [])
    assert story.only().step == "ask"
    ignoring = begun(f"  ask: {{post: remote, {step}}}\n", body)
    assert (ignoring.status(), ignoring.incidents(), ignoring.calls()) == (["completed"], [kind], [])


def test_7_a_body_of_the_largest_size_is_sent() -> None:
    """The bound is what a frame of the journal takes, and it is inclusive."""
    story = begun(
        "  ask: {post: remote, path: /x, body: '{{ t.n }}', body_as: text}\n", {"n": "a" * RENDERED_BYTES_MAX}
    )
    assert len(story.calls()[0].request.body) == RENDERED_BYTES_MAX


@pytest.mark.parametrize(("status", "incidents"), [(200, []), (299, []), (199, 1), (300, 1), (404, 1), (500, 1)])
def test_7_success_is_2xx(status: int, incidents: Any) -> None:
    """Section 7: anything else is an incident; the answer stays readable for the steps after it."""
    story = begun(ASK)
    story.answer({"why": "so"}, status)
    assert story.incidents() == ["remote_error"] * (incidents or 0)
    assert [call.step for call in story.calls()] == ["ask", "then"]
    assert story.only().data["ask"]["status"] == status
    assert story.only().data["ask"]["body"] == {"why": "so"}


@pytest.mark.parametrize(
    ("rules", "own", "status"),
    [
        ("{}", "", "running"),
        (STOP, "", "failed"),
        (STOP, ", on_error: ignore", "running"),
        ("{}", ", on_error: stop_transaction", "failed"),
    ],
)
def test_10_on_error_of_the_step_goes_before_that_of_the_cycle(rules: str, own: str, status: str) -> None:
    """Section 10: `ignore` is the default."""
    story = begun(f"  ask: {{post: remote, path: /x{own}}}\n  then: {{post: remote, path: /then}}\n", rules=rules)
    story.no_answer()
    assert (story.status(), story.incidents()) == ([status], ["no_answer"])


CONTRACT = "  ask: {post: remote, path: /x, fields: {job_id: {type: integer, required: true}, note: text}}\n"


def test_7_declared_fields_of_an_answer_are_read_by_their_types() -> None:
    """Section 7: declared fields, plus status, headers and body, under the step's id."""
    story = begun(CONTRACT)
    story.answer({"job_id": "42", "more": 1}, 201)
    data = story.only().data["ask"]
    assert (data["job_id"], data["note"], data["status"], data["body"]) == (42, None, 201, {"job_id": "42", "more": 1})


@pytest.mark.parametrize("body", [{}, {"job_id": "x"}, [], None])
def test_7_an_answer_that_breaks_its_contract_is_an_incident(body: Any) -> None:
    """Section 7: it is named with the place and the value found."""
    story = begun(CONTRACT, rules=STOP)
    story.answer(body)
    assert (story.status(), story.incidents()) == (["failed"], ["invalid_answer"])


def test_7_the_idempotency_key_is_one_over_attempts_and_new_with_each_pass() -> None:
    """Section 7: transaction, step and pass, whatever crashes between."""
    story = Story(
        cycle(
            "  t: {webhook: shop, fields: {id: text}}\n"
            "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}}\n  ask: {post: remote, path: /x}\n"
        )
    )
    story.hit("t", {"id": "a"})
    for number in (2, 3):
        story.hit("w", {"id": "a"})
        for _ in range(3):
            story.restart()
        attempts = [call for call in story.calls() if call.idempotency_key == f"c-{story.only().id}.ask.{number}"]
        assert [call.attempt for call in attempts] == [1, 2, 3, 4]
        assert len({call.request.body for call in attempts}) == 1
        story.answer()
    assert len(story.calls()) == 8


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize(
    ("own", "repeats"), [("", True), (", safe_to_repeat: yes", True), (", safe_to_repeat: no", False)]
)
def test_7_safe_to_repeat_decides_about_a_call_of_unknown_outcome(method: str, own: str, repeats: bool) -> None:
    """Section 7: every method repeats by default, POST and PATCH with the key; `no` leaves it to a person."""
    story = begun(f"  ask: {{{method}: remote, path: /x{own}}}\n")
    story.restart()
    assert len(story.calls()) == (2 if repeats else 1)
    assert story.status() == ["running" if repeats else "held"]
    assert story.incidents() == ([] if repeats else ["unknown_outcome"])


def unknown() -> Story:
    story = begun(
        "  ask: {post: remote, path: /x, safe_to_repeat: no}\n  then: {post: remote, path: /then}\n", rules=STOP
    )
    story.restart()
    return story


def test_7_a_person_resends_a_call_under_its_key() -> None:
    """Section 7: resend."""
    story = unknown()
    assert story.put(Settle("c", story.at, story.only().id, "resend")) == Receipt("running")
    first, second = story.calls()
    assert (second.attempt, second.idempotency_key) == (2, first.idempotency_key)
    story.answer()
    assert story.calls()[-1].step == "then"


def test_7_a_person_treats_a_call_as_done() -> None:
    """Section 7: the pass goes on after it."""
    story = unknown()
    assert story.put(Settle("c", story.at, story.only().id, "done")) == Receipt("running")
    assert [call.step for call in story.calls()] == ["ask", "then"]


def test_7_a_person_lets_a_call_fail() -> None:
    """Section 7: the transaction fails, whatever the policy of the step."""
    story = unknown()
    assert story.put(Settle("c", story.at, story.only().id, "fail")) == Receipt("failed")
    assert story.only().reason.startswith("unknown_outcome")


def test_7_only_a_call_of_unknown_outcome_is_settled_and_only_in_a_running_cycle() -> None:
    """Anything else is refused with 409, and changes nothing."""
    story = unknown()
    story.stop()
    recorded = len(story.journal)
    refused = story.put(Settle("c", story.at, story.only().id, "resend"))
    assert isinstance(refused, Refused)
    assert (refused.status, len(story.journal)) == (409, recorded)
    open_call = begun(ASK)
    refused = open_call.put(Settle("c", open_call.at, open_call.only().id, "resend"))
    assert isinstance(refused, Refused)
    assert refused.status == 409


def test_7_hits_wait_behind_a_call_that_waits_for_a_person() -> None:
    """6.4: the pass is still in progress, though nothing runs."""
    story = Story(
        cycle(
            "  t: {webhook: shop, fields: {id: text}}\n"
            "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}}\n"
            "  ask: {post: remote, path: /x, safe_to_repeat: no}\n"
        )
    )
    story.hit("t", {"id": "a"})
    story.hit("w", {"id": "a"})
    story.restart()
    story.hit("w", {"id": "a"})
    assert (story.only().number, len(story.only().queue)) == (2, 1)
    story.put(Settle("c", story.at, story.only().id, "done"))
    assert (story.only().number, story.only().queue) == (3, [])


def test_7_a_pass_that_calls_again_in_vain_does_not_see_the_answer_of_the_pass_before() -> None:
    """6.3 and 7: what a step gave in an earlier pass is no data of this one."""
    story = Story(
        cycle(
            "  t: {webhook: shop, fields: {id: text}}\n"
            "  ask: {post: remote, path: /x, fields: {n: integer}}\n"
            "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}, next: ask}\n"
        )
    )
    story.hit("t", {"id": "a"})
    story.answer({"n": 1})
    assert story.only().data["ask"]["n"] == 1
    story.hit("w", {"id": "a"})
    story.no_answer()
    assert story.status() == ["held"]
    assert story.only().data["ask"] == {}


def test_7_an_answer_that_is_not_what_it_says_is_data_all_the_same() -> None:
    """A remote's page of text is readable as text, whatever its content type."""
    story = begun("  ask: {get: remote, path: /x}\n")
    row = story.only()
    answers = {"image/png": b"\x89PNG", "application/json": b"oops"}
    for content_type, raw in answers.items():
        story = begun("  ask: {get: remote, path: /x}\n")
        story.end_call(CallAnswer(200, {"content-type": content_type}, raw), row.id)
        assert story.only().data["ask"]["body"] == raw.decode("utf-8", "replace")


def test_2_a_note_never_runs() -> None:
    """Section 2: what leads to a note leads past it, also by name."""
    story = begun(
        "  n: {note: 'why', next: b}\n  a: {post: remote, path: /a}\n  b: {decide: 't.go', then: m, else: a}\n"
        "  m: {note: 'to the end'}\n  c: {post: remote, path: /c}\n",
        {"go": True},
    )
    assert [call.step for call in story.calls()] == ["c"]
