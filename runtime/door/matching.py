"""Finding transactions by a value that a request would match by, as a person writes it."""

from typing import get_args

from protocol.canonical import canonical
from protocol.definition import FieldType
from protocol.state import State, TransactionRow


def canonical_texts(value: str) -> frozenset[str]:
    """Every text that a match key may hold for a value: `4.20` is `4.2` where the field is a decimal."""
    found = {canonical(value, kind) for kind in get_args(FieldType)}
    return frozenset(text for text in found if text is not None)


def matches_by(state: State, row: TransactionRow, *, value: str) -> bool:
    """Whether a transaction reached a webhook that matches by this value, compared by the type declared there.

    One that failed or was stopped is found by what it had reached until then.
    """
    plans = state.program(row.definition_hash).plans
    reached = row.reached if row.remains is None else row.remains.reached
    for step, key in reached.items():
        pairs = getattr(plans.get(step), "match", ())
        kinds: list[FieldType] = [pair.type for pair in pairs] or ["text"] * len(key)
        if any(canonical(value, kind) == one for kind, one in zip(kinds, key, strict=True)):
            return True
    return False
