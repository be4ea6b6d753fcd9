"""The table of keys in the README is that of the types which read cycle files and settings."""

import re
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import Struct

from protocol.ages import Retention
from protocol.alert_settings import Alerts
from protocol.conditions import CONDITIONS
from protocol.definition import (
    KINDS,
    CallStep,
    Condition,
    Connector,
    DecideStep,
    Dedupe,
    Definition,
    FieldSpec,
    FieldType,
    Response,
    ScriptStep,
    Settings,
    StepBase,
    Verify,
    WebhookStep,
)
from runtime.config import Settings as ServerSettings

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def keys(*kinds: type[Struct]) -> set[str]:
    """The keys of sections, as files write them; those of every step, and the kind itself, are said elsewhere."""
    found = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    common = {field.encode_name for field in msgspec.structs.fields(StepBase)} | set(KINDS)
    return found - common if issubclass(kinds[0], StepBase) and kinds[0] is not StepBase else found


EXPECTED = {
    "a file": keys(Definition),
    "a connector": keys(Connector),
    "`fields`": keys(FieldSpec),
    "types": set(get_args(FieldType)),
    "every step": keys(StepBase),
    "`webhook: CONNECTOR`": keys(WebhookStep),
    "`verify`": keys(Verify),
    "`dedupe`": {*keys(Dedupe), "off"},
    "`get`, `post`, `put`, `patch`, `delete`: `CONNECTOR`": keys(CallStep),
    "`respond`": keys(Response),
    "`decide`": keys(DecideStep) | keys(Condition),
    "`is`": set(CONDITIONS),
    "`delay`, `wait_until`, `split`, `wait_all`, `note`": set[str](),
    "`script: MODULE:FUNCTION`": keys(ScriptStep),
    "`settings`": keys(Settings),
    "`retention`": keys(Retention),
    "`alerts`": keys(Alerts),
    "`cyclewright.toml`": keys(ServerSettings) - {"project"},
}


def told() -> dict[str, set[str]]:
    """The keys of each row; what stands in parentheses, or is more than a name, is a value."""
    section = README.partition("### Every key\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)
    return {
        where: set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", said))) for where, said in rows if where != "where"
    }


def test_2_every_key_and_no_other_is_in_the_readme() -> None:
    """Section 2: what may be written is found without reading code; a key that is added is told there."""
    found = told()
    assert found.keys() == EXPECTED.keys()
    for where, expected in EXPECTED.items():
        assert found[where] == expected, where
