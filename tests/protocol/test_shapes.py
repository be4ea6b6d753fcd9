"""What `check` says of values of the wrong shape (section 2): what may stand there, and all faults at once."""

import pytest

from protocol.check import check_project
from protocol.loading import Source
from tests.protocol.test_check import HEAD, TRIGGER, faults


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            "  w: {webhook: shop, fields: {id: string}, match: {id: t.id}}\n",
            "object, list, any, or a mapping of type, required, default, description, sensitive, found 'string'",
        ),
        (
            "  w: {webhook: shop, check: wran, match: {id: t.id}}\n",
            "check must be one of reject, warn, off, found 'wran' (did you mean warn?)",
        ),
        (
            "  w: {webhook: shop, verify: stripe, match: {id: t.id}}\n",
            "verify must be a mapping of scheme, secret, secrets, header, encoding, algorithm, found 'stripe'",
        ),
        (
            "  g: {get: remote, path: /x, on_error: retry 3}\n",
            "on_error must be one of ignore, retry, stop_transaction, stop_cycle, or a mapping of retry",
        ),
        (
            "  g: {get: remote, path: /x, on_error: {retry: 3}}\n",
            "on_error.retry must be a list, each as e.g. 5 minutes, found 3",
        ),
        ("  r: {respond: 200}\n", "respond must be a mapping of status, headers, body, body_as, found 200"),
        ("  g: {get: remote, path: /x, timeout: 5}\n", "timeout must be written as e.g. 5 minutes, found 5"),
        ("  g: {get: remote, path: 5}\n", "path must be text, found 5"),
        (
            "  w: {webhook: shop, methods: GET, match: {id: t.id}}\n",
            "methods must be a list of GET, POST, PUT, PATCH, DELETE, found 'GET'",
        ),
        (
            "  w: {webhook: shop, methods: [GETS], match: {id: t.id}}\n",
            "methods must be a list of GET, POST, PUT, PATCH, DELETE",
        ),
        ("  d: {decide: {left: t.id, equals: 4}}\n", "decide.equals is written as is: equals, right: …"),
        ("  g: {get: remote, path: /x, retries: 3}\n", "retries is written as on_error: {retry: [1 second, …]}"),
        ("  g: {get: remote, path: /x, if: t.id}\n", "if is written as a step of its own before this one: decide: …"),
    ],
)
def test_2_a_value_of_another_shape_is_told_what_may_stand_there(steps: str, said: str) -> None:
    """Section 2: in words, with every valid one and the nearest; nobody should have to look it up."""
    found = faults(TRIGGER + steps)
    assert any(said in fault for fault in found), found


def test_2_a_fault_of_shape_hides_no_other_of_its_step() -> None:
    """Section 2: all faults at once; a key that was not read is told once, and what would follow from it is not."""
    step = "  g: {post: remot, bdy: 1, timeout: 5 parsecs, body: {a: '{{ u.id }}', b: '{{ env.X }}'}, next: z}\n"
    found = " ".join(faults(TRIGGER + step))
    for said in ("bdy is no key", "did you mean remote", "a number and a unit", "u is not", "env is only", "no step"):
        assert said in found, said
    assert not [
        fault for fault in faults(TRIGGER + "  g: {post: shop, ulr: 'https://x.example/'}\n") if "needs" in fault
    ]
    switch = "  d: {decide: t.id, cases: [g], default: g}\n  g: {get: remote, path: /x}\n"
    assert len(faults(TRIGGER + switch)) == 1
    ordered = "  w: {webhook: shop, fields: {at: datum, id: text}, match: {id: t.id}, newer_than: at}\n"
    assert len(faults(TRIGGER + ordered)) == 1


def test_2_each_fault_of_a_body_is_told_at_its_own_line() -> None:
    """Section 2: a body of forty fields has forty places for a mistake."""
    body = "      a: '{{ u.id }}'\n      b: {c: ['{{ t.id }}', '{{ v.id }}']}\n      d: '{{ size( }}'\n"
    step = f"  g:\n    post: remote\n    path: /x\n    body:\n{body}"
    found = check_project([Source("c.cycle.yaml", HEAD + TRIGGER + step)])[1]
    assert [fault.line for fault in found] == [9, 10, 11]
    assert [fault.rule.split()[0] for fault in found] == ["body.a", "body.b.c.1", "body.d"]


def test_2_a_fault_of_shape_hides_no_other_of_the_settings_or_a_connector() -> None:
    """Section 2: wherever it stands; and a base URL that was not read is not missed by the steps."""
    head = HEAD.replace("{base_url: 'http://x'}", "{base_url: 5, timeout: 5 parsecs}")
    text = head.replace("steps:", "settings: {on_error: stop, retention: {completed: 30 parsecs}}\nsteps:")
    found = [
        str(fault) for fault in check_project([Source("c.cycle.yaml", text + TRIGGER + "  g: {get: remote}\n")])[1]
    ]
    assert len(found) == 4, found


def test_2_a_word_of_other_tools_is_told_what_is_ours() -> None:
    """Section 2: what a connector calls a header, others call auth; the nearest key by letters would mislead."""
    text = HEAD.replace("base_url: 'http://x'", "base_url: 'http://x', auth: {bearer: env.TOKEN}")
    (fault,) = check_project([Source("c.cycle.yaml", text + TRIGGER + "  g: {get: remote, path: /x}\n")])[1]
    assert 'auth is written as headers: {authorization: "Bearer {{ env.TOKEN }}"}, found auth' in str(fault)


@pytest.mark.parametrize("steps", ["  - t: {webhook: shop}\n", "  t: {webhook: shop, methods: GET}\n", "  t: 5\n"])
def test_2_a_cycle_of_which_no_step_could_be_read_is_told_so(steps: str) -> None:
    """Section 2: its faults are listed like those of any other."""
    assert faults(steps)


@pytest.mark.parametrize("body", ["{{ t.id }}", "{text: {{ t.id }}}", "\n      {{ t.id }}", "[{{ t.id }}]"])
def test_2_a_merge_field_without_quotes_is_a_fault(body: str) -> None:
    """Section 2: YAML reads its braces as a map within a map; said at its line, with what to do."""
    (fault,) = faults(TRIGGER + f"  g:\n    post: remote\n    path: /x\n    body: {body}\n")
    assert "a merge field stands in quotes" in fault
    assert "c.cycle.yaml:8:" in fault or "c.cycle.yaml:9:" in fault
