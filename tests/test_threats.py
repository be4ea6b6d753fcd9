"""The threat model of ARCHITECTURE.md, line by line: what it promises that no other test holds.

Elsewhere: signatures (tests/protocol/test_verification.py), egress (tests/runtime/test_egress.py), secrets
(tests/runtime/test_secrets.py), masks (tests/runtime/test_masking.py), the lane's parser (tests/runtime/door), bombs in
cycle files and XML (tests/protocol/test_check.py, test_xml.py), answers of remotes (test_outbound_answers.py).
"""

import gzip
import io
import stat
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from protocol.bodies import BodyError, read_body
from protocol.events import CallIntended
from protocol.expression import ExpressionError, compile_expression
from protocol.inputs import CallAnswer, CallFailure
from protocol.loading import Source, load_project
from runtime.config import Settings, admin_token, secret_file
from runtime.deploying import identifiers
from runtime.door import Door, make_app
from runtime.door.openapi import OPERATIONS
from runtime.logs import processors
from tests.runtime.rig import Rig, answer, running

CYCLE = """
cycle: tells
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, identifier: tells-asked, fields: {note: {type: text, required: true}}}
  call: {post: remote, path: /notes, headers: {x-note: "{{ asked.note }}"}, body: {note: "{{ asked.note }}"}}
  told: {respond: {status: 200, headers: {x-note: "{{ asked.note }}"}, body: {ok: true}}}
"""


TOKEN = "token"


class Caller:
    """Anybody who reaches the door."""

    def __init__(self, rig: Rig, token: str = TOKEN) -> None:
        door = Door(Settings(), token, "key")
        door.open(rig.engine)
        self.app = make_app(door)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """One request as it is; the answer."""
        client: Any = self.app.test_client()
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        return await client.open(path, method=method, headers=named, data=body)


@asynccontextmanager
async def served(folder: Path, sent: list[CallIntended] | None = None) -> AsyncGenerator[Rig]:
    """A server of one cycle; its calls are noted."""

    async def remote(call: CallIntended) -> CallAnswer | CallFailure:
        if sent is not None:
            sent.append(call)
        return answer({})

    async with running(folder, CYCLE, remote=remote) as rig:
        yield rig


# -- who may administer


async def test_given_no_token_or_a_wrong_one_then_every_route_of_the_api_refuses(tmp_path: Path) -> None:
    """Each by itself, so that a new one can not be forgotten."""
    async with served(tmp_path) as rig:
        caller = Caller(rig)
        guarded = [one for one in OPERATIONS if one.path.startswith("/api")]
        assert len(guarded) > 15
        for one in guarded:
            path = one.path.replace("{", "").replace("}", "").replace("/hit/", "/1/")
            for header in ("", "Bearer", "Bearer ", "Bearer tokeN", "Basic token", "Bearer \u00e9"):
                refused = await caller.ask(one.method.upper(), path, authorization=header)
                assert refused.status_code == 401, (one.method, path, header)


def test_given_the_defaults_then_only_this_machine_can_reach_the_server() -> None:
    """Beyond it somebody has to say so."""
    assert Settings().host_port[0] == "127.0.0.1"


def test_given_a_token_file_that_a_crash_left_empty_then_a_new_token_is_made(tmp_path: Path) -> None:
    """An empty token would let in whoever sends none."""
    (tmp_path / "admin.token").touch(mode=0o600)
    token = admin_token(tmp_path)
    assert len(token) == 64
    assert admin_token(tmp_path) == token


@pytest.mark.parametrize("token", ["", " "])
async def test_given_a_server_without_a_token_then_nobody_is_let_in(tmp_path: Path, token: str) -> None:
    """Whatever made it empty."""
    async with served(tmp_path) as rig:
        caller = Caller(rig, token)
        for header in ("Bearer", "Bearer ", "bearer  "):
            assert (await caller.ask("GET", "/api/cycles", authorization=header)).status_code == 401


def test_given_secrets_of_the_server_then_they_are_their_owners_alone_and_random(tmp_path: Path) -> None:
    """256 bits, mode 0600, whatever the umask was."""
    first, second = secret_file(tmp_path / "a" / "one.key"), secret_file(tmp_path / "a" / "two.key")
    assert first != second
    assert len(bytes.fromhex(first)) == 32
    for path in (tmp_path / "a").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


async def test_given_a_data_folder_then_every_file_of_it_is_its_owners_alone(tmp_path: Path) -> None:
    """Journal, manifest, lock, spare, store and what SQLite puts beside it."""
    async with served(tmp_path) as rig:
        await rig.ask("tells", "asked", {"note": "x"})
        await rig.engine.checkpointed()
        modes = _modes(tmp_path)
        assert len(modes) >= 5
        assert set(modes.values()) == {0o600}


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


# -- who can send requests


def test_given_a_webhook_then_its_identifier_has_128_random_bits() -> None:
    """Unless it is pinned."""
    (definition,) = load_project([Source("a.cycle.yaml", CYCLE.replace("identifier: tells-asked, ", ""))])[0].values()
    found = {identifiers(definition, {})["asked"] for _ in range(50)}
    assert len(found) == 50
    assert {len(one) for one in found} == {26}


@pytest.mark.parametrize("signature", ["", "0" * 32, "\u00e9" * 32, "%00", "a" * 5000])
async def test_given_a_status_url_with_another_signature_then_it_leads_nowhere(tmp_path: Path, signature: str) -> None:
    """404, and no failure of the server, whatever characters it has."""
    async with served(tmp_path) as rig:
        assert (await Caller(rig).ask("GET", f"/status/1.{signature}")).status_code == 404


async def test_given_a_compressed_body_then_it_is_never_expanded(tmp_path: Path) -> None:
    """No coding of a request is known: a bomb stays as small as it came, and is no JSON."""
    async with served(tmp_path) as rig:
        bomb = gzip.compress(b'{"note": "' + b"x" * 50_000_000 + b'"}')
        began = time.perf_counter()
        refused = await Caller(rig).ask(
            "POST", "/webhook/tells-asked", bomb, content_type="application/json", content_encoding="gzip"
        )
        assert refused.status_code in (400, 415)
        assert time.perf_counter() - began < 5
        assert rig.engine.state.cycle("tells").running == 0


def _nested(levels: int) -> bytes:
    opened = [
        b'--b%d\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n'
        % (level, level + 1)
        for level in range(levels)
    ]
    closed = [b"\r\n--b%d--\r\n" % level for level in reversed(range(levels))]
    return b"".join((*opened, b"--b%d\r\n\r\nx" % levels, *closed))


FORMS = {
    "parts within parts": _nested(5000),
    "many parts": b'--b0\r\nContent-Disposition: form-data; name="a"\r\n\r\n' * 17_000 + b"\r\n--b0--\r\n",
    "many parameters": b'--b0\r\nContent-Disposition: form-data; name="a"'
    + b";x=y" * 250_000
    + b"\r\n\r\nv\r\n--b0--\r\n",
    "many heads": (b'--b0\r\nContent-Disposition: form-data; name="a"' + b";x=y" * 480 + b"\r\n\r\n\r\n") * 500,
    "a folded head": b'--b0\r\nContent-Disposition: form-data; name="a"'
    + b"\r\n ;x=y" * 100_000
    + b"\r\n\r\nv\r\n--b0--",
    "almost a delimiter": (b"\r\n--b0" + b"-" * 7) * 80_000,
}


@pytest.mark.parametrize("form", FORMS)
def test_given_a_form_made_to_cost_more_than_it_is_long_then_it_is_refused_at_once(form: str) -> None:
    """A second for a MiB holds up everybody; one took a minute, and another the stack."""
    began = time.perf_counter()
    with pytest.raises(BodyError):
        read_body(FORMS[form], "multipart/form-data; boundary=b0")
    assert time.perf_counter() - began < 5  # Far more than it takes on a busy machine.


SPLITTING = ["a\r\nset-cookie: x=1", "a\nx: y", "a\rb", "a\0b"]
ODD = ["\x01", "\x7f", "\x0b", "\x1b[2J"]


@pytest.mark.parametrize("note", SPLITTING)
async def test_given_a_line_break_in_what_a_header_is_made_of_then_nothing_is_sent_with_it(
    tmp_path: Path, note: str
) -> None:
    """Neither to a remote nor to a caller: the step fails as *invalid_header*."""
    sent: list[CallIntended] = []
    async with served(tmp_path, sent) as rig:
        told = await Caller(rig).ask("POST", "/webhook/tells-asked", msgspec.json.encode({"note": note}))
        assert told.status_code == 500
        assert "set-cookie" not in told.headers
        assert not sent


@pytest.mark.parametrize("note", ODD)
async def test_given_other_characters_that_no_header_has_then_the_step_fails_and_the_server_does_not(
    tmp_path: Path, note: str
) -> None:
    """RFC 9110 section 5.5: visible characters, spaces and tabs."""
    sent: list[CallIntended] = []
    async with served(tmp_path, sent) as rig:
        told = await Caller(rig).ask(
            "POST", "/webhook/tells-asked", msgspec.json.encode({"note": note}), content_type="application/json"
        )
        assert told.status_code == 500
        assert b"step" in await told.get_data()  # The problem names the step: it is the pass that failed.
        assert not sent


async def test_given_a_name_in_another_script_then_a_header_carries_it_as_utf_8(tmp_path: Path) -> None:
    """No harm in that: to HTTP it is opaque."""
    sent: list[CallIntended] = []
    async with served(tmp_path, sent) as rig:
        body = msgspec.json.encode({"note": "Zo\u00eb \u20ac"})
        told = await Caller(rig).ask("POST", "/webhook/tells-asked", body, content_type="application/json")
        assert told.status_code == 200
        assert sent[0].request.headers["x-note"] == "Zo\u00eb \u20ac"


async def test_given_strangers_then_no_label_of_a_metric_is_theirs(tmp_path: Path) -> None:
    """Labels are names that files of the project give."""
    async with served(tmp_path) as rig:
        caller = Caller(rig)
        await caller.ask("POST", "/webhook/nobody-zq", b"{}")
        await caller.ask("POST", "/webhook/tells-asked", b'{"note": "card-zq"}', webhook_id="key-zq")
        text = await (await caller.ask("GET", "/metrics")).get_data(as_text=True)
        assert "zq" not in text


# -- what reaches a log


@pytest.mark.parametrize("terminal", [True, False])
def test_given_control_characters_of_a_stranger_then_a_log_has_one_line_and_none_of_them(terminal: bool) -> None:
    """He could write lines of his own, or steer the terminal of who reads."""
    out = io.StringIO()
    logger: Any = structlog.wrap_logger(structlog.PrintLogger(out), processors=processors(terminal=terminal))
    logger.warning("incident", message="a\n2026-01-01 [info] all is well\x1b[2J\x9b1m\u2028", kind="x\r")
    said = out.getvalue()
    assert said.count("\n") == 1
    stripped = said.replace("\x1b[0m", "") if terminal else said
    assert "\x1b[2J" not in stripped
    assert not any(character in said for character in "\r\x9b\u2028")


# -- what expressions may cost


def test_given_a_pattern_that_backtracks_elsewhere_then_matching_takes_no_time() -> None:
    """CEL's patterns are RE2's, which are linear."""
    expression = compile_expression('t.s.matches("^(a+)+$")', frozenset({"t"}))
    began = time.perf_counter()
    assert expression.evaluate({"t": {"s": "a" * 100_000 + "b"}}) is False
    assert time.perf_counter() - began < 5


def test_given_loops_within_loops_over_a_long_list_then_a_budget_ends_them() -> None:
    """A stranger makes the list long; the author's expression fails, and the loop goes on."""
    expression = compile_expression("t.l.exists(x, t.l.exists(y, x + y == -1))", frozenset({"t"}))
    with pytest.raises(ExpressionError, match="budget"):
        expression.evaluate({"t": {"l": list(range(3000))}})
