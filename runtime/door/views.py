"""Rows as people read them: the shapes of the API, with sensitive fields masked."""

from datetime import UTC, datetime
from typing import Any

from protocol.state import CycleRow, HitRow, IncidentRow, TransactionRow, transaction_name
from runtime.engine import Engine
from runtime.masking import hidden_of
from runtime.store.rows import TABLES

LISTED_MAX = 200  # Passes and incidents shown with one transaction, the latest ones.


def instant(at: int) -> str | None:
    """Nanoseconds since 1970 as RFC 3339 text in UTC; None for 0, which means never."""
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds") if at else None


def cycle_view(engine: Engine, row: CycleRow) -> dict[str, Any]:
    """A cycle: its version, status, counts and webhook URLs."""
    counts = {name: getattr(row, name) for name in ("running", "held", "completed", "failed", "stopped", "parked")}
    plans = engine.state.program(row.definition_hash).plans
    webhooks = {
        step: f"{engine.public_url}/webhook/{identifier}"
        for step, identifier in row.identifiers.items()
        if step in plans
    }
    return {
        "cycle": row.name,
        "status": row.status,
        "hash": row.definition_hash,
        "counts": counts,
        "webhooks": webhooks,
    }


def status_view(row: TransactionRow) -> dict[str, Any]:
    """Where a transaction is."""
    return {
        "transaction": transaction_name(row.cycle, row.id),
        "cycle": row.cycle,
        "status": row.status,
        "pass": row.number,
        "held_at": row.step if row.status == "held" else None,
        "started": instant(row.created),
        "updated": instant(row.updated),
        "reason": row.reason or None,
    }


def transaction_view(engine: Engine, row: TransactionRow) -> dict[str, Any]:
    """Everything known of a transaction."""
    database = engine.state.database
    latest = "txn = ? ORDER BY id DESC LIMIT ?"
    hits = list(database.rows(TABLES[HitRow], latest, (row.id, LISTED_MAX)))[::-1]
    incidents = list(database.rows(TABLES[IncidentRow], latest, (row.id, LISTED_MAX)))[::-1]
    ranges = [[first, last] for first, last in zip(row.events[::2], row.events[1::2], strict=True)]
    parent = row.parent
    return {
        **status_view(row),
        "hash": row.definition_hash,
        "hold_until": instant(row.until),
        "steps": hidden_of(engine.state.program(row.definition_hash)).steps(row.data),
        "passes": [_pass_view(hit) for hit in hits],
        "queue": row.queue,
        "call": None if row.call is None else {"step": row.call.step, "unknown": row.call.unknown},
        "parent": None if parent is None else transaction_name(parent.cycle, parent.transaction),
        "children": row.children,
        "incidents": [_incident_view(one) for one in incidents],
        "events": ranges,
    }


def _pass_view(hit: HitRow) -> dict[str, Any]:
    return {
        "pass": hit.number,
        "hit": hit.id,
        "step": hit.step,
        "status": hit.status,
        "received": instant(hit.at),
        "ambiguous": [transaction_name(hit.cycle, one) for one in hit.candidates],
        "reply": None if hit.reply is None else hit.reply.status,
        "fate": hit.fate,
    }


def _incident_view(row: IncidentRow) -> dict[str, Any]:
    return {
        "time": instant(row.at),
        "step": row.step,
        "kind": row.kind,
        "message": row.message,
        "level": row.level,
    }


def parked_view(engine: Engine, row: HitRow) -> dict[str, Any]:
    """A hit that waits."""
    hidden = hidden_of(engine.state.program(engine.state.cycle(row.cycle).definition_hash))
    return {
        "hit": row.id,
        "cycle": row.cycle,
        "step": row.step,
        "key": hidden.key(row.step, row.key),
        "reason": "early" if row.status == "parked" else "stopped",
        "received": instant(row.at),
        "until": instant(row.until),
    }
