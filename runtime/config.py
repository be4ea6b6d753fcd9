"""Settings of a server: `cyclewright.toml` beside the cycles, and what the command line overrides.

Every bound of the runtime is here, with its unit and the reason for its default.
"""

import math
import os
import secrets
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from journal import JournalOptions
from protocol.ages import Retention, age_faults
from protocol.alert_settings import Alerts
from protocol.convert import ShapeFault, convert_struct
from protocol.duration import parse_duration
from protocol.loading import CheckFault, Place, line_of
from protocol.toml_lines import toml_lines

CONFIG_FILE = "cyclewright.toml"
TOKEN_VARIABLE = "CYCLEWRIGHT_TOKEN"  # noqa: S105 - The name of a variable, not a secret.
CHAIN_KEY_VARIABLE = "CYCLEWRIGHT_CHAIN_KEY"  # Shared by servers that believe each other's chain headers.
TOKEN_FILE = "admin.token"  # noqa: S105 - The name of a file, not a secret.
KEY_FILE = "status.key"
JOURNAL_FOLDER = "journal"
STORE_FILE = "store.sqlite"
BODY_BYTES_LIMIT = 2 << 20  # A turn holds a body twice, as bytes and as data, and must fit a frame of 16 MiB.
HEADER_BYTES_LIMITS = 1 << 10, 1 << 20  # Below, no real request has room; above, a head holds more than a body should.
SEGMENT_BYTES_MIN = 32 << 20  # A commit takes at most half a segment, and the largest turn is a frame of 16 MiB.


Bound = Annotated[int, Meta(ge=1, le=2**53)]  # Of what may be; 0 would refuse everything.


class ConfigError(Exception):
    """The operator's fault: a setting is unknown, of the wrong type or out of range.

    Attributes:
        faults: what is wrong with which line of the file; none where it is not the file.
    """

    def __init__(self, said: str, faults: Sequence[CheckFault] = ()) -> None:
        super().__init__(said)
        self.faults = tuple(faults)


class Quota(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this server may do; 0 is without end."""

    tasks_per_month: Annotated[int, Meta(ge=0)] = 0


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `cyclewright.toml` may say."""

    bind: str = "127.0.0.1:8080"
    tls_certificate: str = ""  # A PEM file with the chain, in the project. With it the server speaks TLS only.
    tls_key: str = ""  # Its key, a PEM file that others can not read.
    public_url: str = ""  # How callers reach the server, for status URLs; by default http:// and the bind address.
    project: str = "."  # The folder of the cycles; the command line says it, not the file.
    data: str = ".cyclewright"  # The folder of journal and store, relative to the project.
    body_bytes_max: Bound = 1 << 20  # Webhook bodies; payloads of known senders stay below 256 KiB.
    header_bytes_max: Bound = 16 << 10  # As nginx and Node allow by default.
    mailbox_items_max: Bound = 4096  # Requests waiting for their turn: a quarter of a second at 16,000 turns a second.
    mailbox_bytes_max: Bound = 64 << 20  # Their bodies.
    connections_max: Bound = 20_000  # Open at once, at 1 KiB each, over TLS more; past it new ones are told 503.
    lane: bool = True  # Whether webhooks take the short way; without it Hypercorn serves everything.
    running_max: Bound = 20_000  # Transactions with a pass in progress, at about 5 KiB each.
    body_timeout: str = "30 seconds"  # For a whole body; the slowest known senders need 10 seconds.
    idle_timeout: str = "5 seconds"  # For a whole head, and between requests: longer only keeps sockets open.
    answer_timeout: str = "10 seconds"  # For a caller to take more of his answer; with the grace, below 30 seconds.
    grace: str = "20 seconds"  # What a SIGTERM leaves for passes in progress; supervisors kill after 30.
    quota: Quota = Quota()
    retention: Retention = Retention()  # How long what is over is kept, where a cycle does not say it.
    alerts: Alerts = Alerts()  # Where incidents are told, for cycles that say nothing of their own.
    segment_bytes: Bound = 64 << 20  # Of a journal segment; half of one must hold the largest frame, of 16 MiB.

    @property
    def local_url(self) -> str:
        """The URL of the address that is bound; over TLS the public one, since that is the certificate's name."""
        if self.tls_certificate and self.public_url:
            return self.public_url.rstrip("/")
        host, port = self.host_port
        return f"{'https' if self.tls_certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def grace_ns(self) -> int:
        """The grace period in nanoseconds."""
        return parse_duration(self.grace)

    @property
    def body_timeout_s(self) -> float:
        """The time for a body in seconds."""
        return parse_duration(self.body_timeout) / 1e9

    @property
    def idle_timeout_s(self) -> float:
        """The time for a head, and between requests, in seconds."""
        return parse_duration(self.idle_timeout) / 1e9

    @property
    def answer_timeout_s(self) -> float:
        """The time that an answer may lie unread, in seconds."""
        return parse_duration(self.answer_timeout) / 1e9

    @property
    def host_port(self) -> tuple[str, int]:
        """The address to bind; raises `ConfigError` when it is none."""
        host, _, port = self.bind.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise ConfigError(f"bind is HOST:PORT, such as 127.0.0.1:8080, not {self.bind!r}")
        return host.strip("[]"), int(port)


def load_settings(project: Path, *, bind: str | None = None, data: Path | None = None) -> Settings:
    """Read the settings of a project folder; a missing file means the defaults.

    Raises:
        ConfigError: the file is not TOML or holds a setting that is unknown or wrong.
    """
    path, text = project / CONFIG_FILE, ""
    try:
        text = path.read_bytes().decode() if path.exists() else ""
        said = tomllib.loads(text)
        if bind is not None:
            Settings(bind=bind).host_port  # noqa: B018 - Reading it checks it; the file is not to blame.
            said["bind"] = bind
        if "project" in said:
            raise _refused("project", "is the folder of this file, and is not written in it")
        said["project"] = str(project)
        if data is not None:
            said["data"] = str(data)
        elif isinstance(folder := said.get("data", Settings().data), str):  # Anything else is told by its type.
            said["data"] = str(project / folder)
        settings = _settings(said)
        JournalOptions(segment_bytes=settings.segment_bytes)  # Looks at what the journal asks of it.
    except _Faults as found:
        place = Place(path.name, toml_lines(text))
        faults = [place.fault(one.path, one.rule, one.found, one.nearest) for one in found.faults]
        raise ConfigError("; ".join(map(str, faults)), faults) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError, RecursionError) as fault:
        raise ConfigError(
            f"{path.name}: {fault}", [CheckFault(path.name, line_of(fault), "", str(fault), "")]
        ) from None
    return settings


class _Faults(Exception):
    def __init__(self, faults: list[ShapeFault]) -> None:
        super().__init__(len(faults))
        self.faults = faults


def _refused(name: str, rule: str, found: object = "") -> _Faults:
    return _Faults([ShapeFault(tuple(name.split(".")), rule, str(found))])


def _settings(said: dict[str, Any]) -> Settings:
    """The settings, with every fault told by the rules of a cycle file."""
    found, faults = convert_struct(said, Settings, ())
    if faults:
        raise _Faults(faults)
    settings: Settings = found
    for name, rule in age_faults(settings.retention):
        raise _refused(f"retention.{name}", rule)
    for name, least, most in (
        ("segment_bytes", SEGMENT_BYTES_MIN, math.inf),
        ("body_bytes_max", 1, BODY_BYTES_LIMIT),
        ("header_bytes_max", *HEADER_BYTES_LIMITS),
    ):
        value = getattr(settings, name)
        if not least <= value <= most:
            rule = f"lies from {least} to {most}" if most < math.inf else f"is at least {least}"
            raise _refused(name, rule, value)
    try:
        settings.host_port  # noqa: B018 - Reading it checks it.
    except ConfigError as fault:
        raise _refused("bind", str(fault).removeprefix("bind ")) from None
    for name in ("grace", "body_timeout", "idle_timeout", "answer_timeout"):
        try:
            parse_duration(getattr(settings, name))
        except ValueError as fault:
            raise _refused(name, f"is no length of time: {fault}") from None
    return settings


def secret_file(path: Path) -> str:
    """The secret kept in a file of mode 0600, made at the first call: 256 random bits as hexadecimal digits.

    A file that is empty, as a crash may leave a new one, is none: everybody would know what it says.
    """
    found = path.read_text().strip() if path.exists() else ""
    if found:
        return found
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_suffix(".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path.read_text().strip()


def admin_token(data: Path) -> str:
    """The token of the API: from the environment, else from its file beside the journal."""
    return os.environ.get(TOKEN_VARIABLE) or secret_file(data / TOKEN_FILE)


def chain_key() -> str:
    """The key of chain headers that servers of one operator share; "" when this one keeps to itself."""
    return os.environ.get(CHAIN_KEY_VARIABLE, "")
