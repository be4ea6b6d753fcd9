"""Section 10 of the contract, secrets: what a failure quotes is masked before it is recorded."""

import sys
from pathlib import Path

import pytest
import trio

from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from protocol.state import IncidentRow
from runtime.engine import Engine
from runtime.masking import MASK
from runtime.scripts import Scripts
from runtime.secrets import Secrets
from runtime.store.rows import TABLES
from tests.runtime.rig import running

CYCLE = """
cycle: orders
connectors:
  shop: {}
  bank: {base_url: "https://{{ env.BANK_HOST }}/api", headers: {authorization: "Bearer {{ env.BANK_TOKEN }}"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, verify: {scheme: bearer, secret: env.HOOK_SECRET}}
  work: {%s}
"""
SECRETS = {"BANK_HOST": "bank.hidden", "BANK_TOKEN": "hidden/word+1", "HOOK_SECRET": "hidden-hook", "SHORT": "abc"}
RAISING = """
def leaks(data):
    raise ValueError("x" * 280 + " Authorization: Bearer hidden/word+1 at https://bank.hidden/?t=hidden%2Fword%2B1")
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that the cycle names, and one that it does not."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTHER", "plain-word")


async def test_10_a_script_that_raises_with_a_secret_is_recorded_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a function that quotes a token, then neither journal nor incident has it, nor a part cut off its end."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    tmp_path.joinpath("leaking_functions.py").write_text(RAISING)

    def scripted(engine: Engine) -> None:
        engine.scripts = Scripts(tmp_path)

    async with running(tmp_path, CYCLE % 'script: "leaking_functions:leaks"', prepare=scripted) as rig:
        await rig.hit("orders", "asked", {}).decided()
        message = await failure(rig.engine)
    assert "ValueError: xxx" in message
    assert len(message) <= 300
    assert "hidden" not in message
    assert b"hidden" not in recorded(tmp_path)


async def test_10_what_the_network_says_is_recorded_without_secrets(tmp_path: Path) -> None:
    """Given a library that quotes a URL, then its secret parts are masked, and what is no secret stays."""

    async def refuses(call: CallIntended) -> CallAnswer | CallFailure:
        del call
        return CallFailure("connect", "no route to bank.hidden as hidden/word+1: plain-word abc")

    async with running(tmp_path, CYCLE % "post: bank, path: /x", remote=refuses) as rig:
        await rig.hit("orders", "asked", {}).decided()
        assert await failure(rig.engine) == f"no route to {MASK} as {MASK}: plain-word abc"
    assert b"bank.hidden" not in recorded(tmp_path)


async def test_10_secrets_are_those_that_cycles_and_settings_name(tmp_path: Path) -> None:
    """Those of connectors, of signatures and of alerts; a short one could stand in any text, and is left."""
    async with running(tmp_path, CYCLE % "post: bank, path: /x") as rig:
        secrets = Secrets(rig.engine, {**SECRETS, "CYCLEWRIGHT_TOKEN": "admins-own"})
        assert secrets.mask("hidden-hook admins-own abc") == f"{MASK} {MASK} abc"
        assert secrets.mask("hidden-hooked") == f"{MASK}ed"
        assert Secrets(rig.engine, {}).mask("anything") == "anything"


async def failure(engine: Engine) -> str:
    """The message of the one incident, once it is durable."""
    while True:
        await engine.checkpointed()
        found = [row.message for row in engine.state.database.rows(TABLES[IncidentRow])]
        if found:
            return str(found[0])
        await trio.lowlevel.checkpoint()  # What is durable already is not waited for, and the script needs its turn.


def recorded(folder: Path) -> bytes:
    """All that the journal holds."""
    return b"".join(path.read_bytes() for path in (folder / "journal").glob("*"))
