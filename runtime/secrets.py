"""Secrets of the environment kept out of what is recorded: failures may quote what they were given.

A script may raise with a token in its message, and a library may quote a URL. Only what cycles and settings name as
`env.X` is known to be a secret, so that is what is masked; a value so short that it could stand in any text is not.
"""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from protocol.loading import encode_definition
from runtime.config import CHAIN_KEY_VARIABLE, TOKEN_VARIABLE
from runtime.masking import MASK

if TYPE_CHECKING:
    from runtime.engine import Engine

SECRET_CHARACTERS_MIN = 4
SAID_MAX = 300  # Characters of a failure that are recorded.
OWN_NAMES = frozenset({TOKEN_VARIABLE, CHAIN_KEY_VARIABLE})

_NAMED = re.compile(rb"\benv\.([A-Za-z_][A-Za-z0-9_]*)")


class Secrets:
    """What must not be recorded by one engine."""

    def __init__(self, engine: "Engine", environment: Mapping[str, str] = os.environ) -> None:
        self._engine = engine
        self._environment = environment
        self._names: dict[str, frozenset[str]] = {}  # By the hash of a definition.

    def said(self, failure: str) -> str:
        """What a failure says, as it is recorded: masked first, so that no part of a secret is left at a cut."""
        return self.mask(failure)[:SAID_MAX]

    def mask(self, text: str) -> str:
        """A text without the values of secrets, however they are written in a URL."""
        values = {self._environment.get(name, "").strip() for name in self._known()}
        written = {form for value in values for form in (value, quote(value), quote(value, safe=""))}
        for secret in sorted(written, key=len, reverse=True):
            if len(secret) >= SECRET_CHARACTERS_MIN:
                text = text.replace(secret, MASK)
        return text

    def _known(self) -> frozenset[str]:
        state = self._engine.state
        named = _names(msgspec.json.encode(self._engine.settings.alerts))
        for row in state.cycles():
            if row.definition_hash not in self._names:
                definition = state.program(row.definition_hash).definition
                self._names[row.definition_hash] = _names(encode_definition(definition))
            named |= self._names[row.definition_hash]
        return named | OWN_NAMES


def _names(packed: bytes) -> frozenset[str]:
    return frozenset(name.decode() for name in _NAMED.findall(packed))
