"""What a golden journal must give: every row as it was when the journal was written, by the fields there were then.

Rows gain fields, and indexes are added; an old journal says nothing of them. So the fields and the indexes of the day
are recorded too, and only those are compared.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from journal import LOCAL_PARTITION, LocalLog
from protocol.events import SCHEMA
from protocol.memory import MemoryState
from runtime.replay import events_of, fold

FOLDER = Path(__file__).parent
EXPECTED = "expected.json"


class Expectation(Struct, forbid_unknown_fields=True):
    """The record beside a golden journal: rows for who looks for a difference, and a digest of all."""

    schema: int
    events: dict[str, int]
    fields: dict[str, list[str]]
    indexes: list[str]
    rows: dict[str, dict[str, Any]]
    entries: list[Any]
    digest: str


def journals() -> list[str]:
    """The golden journals, by name."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{EXPECTED}"))


def read_expectation(name: str) -> Expectation:
    """The record beside a golden journal."""
    return msgspec.json.decode((FOLDER / name / EXPECTED).read_bytes(), type=Expectation)


def replayed(journal: Path) -> tuple[MemoryState, Counter[str]]:
    """The state that a journal gives, and how many events of each kind it has."""
    reader = LocalLog.open_reader(journal)
    kinds = Counter(type(event).__name__ for frame in reader.read(LOCAL_PARTITION) for _, event in events_of(frame))
    return fold(reader.read(LOCAL_PARTITION)).state, kinds


def expectation(state: MemoryState, kinds: Counter[str], like: Expectation | None = None) -> Expectation:
    """What a state is, with the fields and indexes of another expectation, or with those there are today."""
    tables = (state.cycles, state.definitions, state.transactions, state.hits, state.incidents, state.usages)
    fields = dict[str, list[str]]() if like is None else like.fields
    rows = {
        f"{type(row).__name__} {key}": _plain(row, fields, learn=like is None)
        for table in tables
        for key, row in sorted(table.items(), key=str)
    }
    names = sorted({name for name, _, _ in state.entries()}) if like is None else like.indexes
    entries = sorted([name, list(key), ids] for name, key, ids in state.entries() if name in names)
    total = hashlib.blake2b(msgspec.json.encode([rows, entries], order="deterministic"), digest_size=16)
    schema = SCHEMA if like is None else like.schema
    return Expectation(schema, dict(sorted(kinds.items())), fields, names, rows, entries, total.hexdigest())


def _plain(value: Any, fields: dict[str, list[str]], *, learn: bool) -> Any:
    """A value without what its types gained since."""
    match value:
        case Struct():
            name = type(value).__name__
            known = fields.setdefault(name, list(value.__struct_fields__)) if learn else fields.get(name, [])
            return {one: _plain(getattr(value, one), fields, learn=learn) for one in known}
        case dict():
            return {str(key): _plain(one, fields, learn=learn) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one, fields, learn=learn) for one in value]
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case _:
            return value
