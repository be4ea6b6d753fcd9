"""Settings and cycles under which something is likely to be lost, to hang, or to be read by others."""

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from protocol.ages import Retention, ages_of
from protocol.definition import Definition, Verify, WebhookStep
from protocol.duration import parse_duration
from protocol.loading import encode_definition
from runtime.config import CHAIN_KEY_VARIABLE, TOKEN_VARIABLE, Settings
from runtime.doctor.report import Check, found_of

SUPERVISOR_GRACE_NS = 30 * 1_000_000_000  # After which most supervisors kill what still runs.
PROXY_PATIENCE_NS = 60 * 1_000_000_000  # After which most proxies give up on an answer.
SECRET_CHARACTERS_MIN = 16  # 96 bits in base64: less can be guessed over the network, or looked up.

_NAMED = re.compile(rb"\benv\.([A-Za-z_][A-Za-z0-9_]*)")


def settings_check(settings: Settings, environment: Mapping[str, str] = os.environ) -> Check:
    """What the settings of a server make likely."""
    found = [*_network(settings), *_tokens(environment)]
    if settings.grace_ns >= SUPERVISOR_GRACE_NS:
        found.append(f"grace = {settings.grace!r}: most supervisors kill after 30 seconds, before the last checkpoint")
    return found_of("settings", "cyclewright.toml and the environment", found, "warning")


def _network(settings: Settings) -> Iterator[str]:
    host, _ = settings.host_port
    public = urlsplit(settings.public_url)
    proxied = public.scheme == "https"
    if not settings.tls_certificate and not _is_loopback(host) and not proxied:
        yield (
            f"bind = {settings.bind!r} listens beyond this machine without TLS: requests, answers and the admin "
            "token can be read on the way. Set tls_certificate, or public_url to the https:// URL of a proxy"
        )
    if public.scheme == "http" and not _is_loopback(public.hostname or ""):
        yield f"public_url = {settings.public_url!r} is not https: status URLs, which need no account, can be read"


def _tokens(environment: Mapping[str, str]) -> Iterator[str]:
    for name in (TOKEN_VARIABLE, CHAIN_KEY_VARIABLE):
        value = environment.get(name, "")
        if value and len(value) < SECRET_CHARACTERS_MIN:
            yield f"{name} has {len(value)} characters, which can be guessed: use at least {SECRET_CHARACTERS_MIN}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def cycles_checks(
    definitions: Iterable[Definition], settings: Settings, environment: Mapping[str, str] | None
) -> Iterator[Check]:
    """What cycles make likely.

    Args:
        definitions: the current versions.
        settings: of the server.
        environment: of the server; None where it is not known.
    """
    known = list(definitions)
    if environment is None:
        yield Check("secrets", "skipped", "only the server knows its environment")
    else:
        yield found_of(
            "secrets", "variables that cycles and settings name", list(_unset(known, settings, environment)), "warning"
        )
    yield found_of("cycles", f"{len(known)} current versions", list(_notes(known, settings.retention)), "note")


def _unset(known: list[Definition], settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    for definition in known:
        verified = {
            name for _, step in _webhooks(definition) if isinstance(step.verify, Verify) for name in step.verify.names
        }
        for name, step in _webhooks(definition):
            if isinstance(step.verify, Verify) and not any(environment.get(one) for one in step.verify.names):
                yield f"{definition.cycle}/{name} verifies by {', '.join(step.verify.names)}, not set: 401 to all"
        for name in sorted(_names(encode_definition(definition)) - verified):
            if not environment.get(name):
                yield f"{definition.cycle} names env.{name}, which is not set: its calls fail"
    for name in sorted(_names(msgspec.json.encode(settings.alerts))):
        if not environment.get(name):
            yield f"[alerts] names env.{name}, which is not set: incidents are not told"


def _names(packed: bytes) -> set[str]:
    return {name.decode() for name in _NAMED.findall(packed)}


def _notes(known: list[Definition], server: Retention) -> Iterator[str]:
    for definition in known:
        endless = [name for name, step in _webhooks(definition) if step.match and step.hold_for is msgspec.UNSET]
        if endless and not ages_of(definition.settings.retention, server).held:
            yield f"{definition.cycle} holds without end at {', '.join(endless)}: hold_for or retention.held ends it"
        for name, step in _webhooks(definition):
            if step.identifier and not isinstance(step.verify, Verify):
                yield f"{definition.cycle}/{name} pins its identifier and verifies nothing: who guesses it can send"
            if parse_duration(step.answer_within) > PROXY_PATIENCE_NS:
                yield f"{definition.cycle}/{name} answers within {step.answer_within}: proxies give up after 60 s"


def _webhooks(definition: Definition) -> Iterator[tuple[str, WebhookStep]]:
    for name, step in definition.steps.items():
        if isinstance(step, WebhookStep):
            yield name, step
