"""Rows as people read them: the shapes of the API, with sensitive fields masked."""

from datetime import UTC, datetime
from typing import Any

from protocol.definition import CallStep, FieldSpec, WebhookStep
from protocol.state import CycleRow, HitRow, IncidentRow, TransactionRow, transaction_name
from runtime.engine import Engine
from runtime.store.rows import TABLES

MASK = "••••"
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
        "steps": masked_steps(engine, row),
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


def parked_view(row: HitRow) -> dict[str, Any]:
    """A hit that waits."""
    return {
        "hit": row.id,
        "cycle": row.cycle,
        "step": row.step,
        "key": row.key,
        "reason": "early" if row.status == "parked" else "stopped",
        "received": instant(row.at),
        "until": instant(row.until),
    }


def masked_steps(engine: Engine, row: TransactionRow) -> dict[str, Any]:
    """The data of each step; fields declared `sensitive` are masked, in what is read, never in what is run."""
    definition = engine.state.program(row.definition_hash).definition
    shown: dict[str, Any] = {}
    for name, data in row.data.items():
        step = definition.steps.get(name)
        hidden = _sensitive(step) if isinstance(step, WebhookStep | CallStep) else []
        shown[name] = mask(data, hidden) if hidden else data
        if hidden and isinstance(shown[name], dict) and "body" in shown[name] and isinstance(step, CallStep):
            shown[name] = {**shown[name], "body": mask(shown[name]["body"], hidden)}
    return shown


def _sensitive(step: WebhookStep | CallStep) -> list[list[str]]:
    return [
        location.replace("[", "").replace("]", "").split(".")
        for location, spec in step.fields.items()
        if isinstance(spec, FieldSpec) and spec.sensitive
    ]


def mask(data: Any, hidden: list[list[str]]) -> Any:
    """A copy of a value with what lies at the hidden locations replaced; lists are walked on the way."""
    if isinstance(data, list):
        return [mask(item, hidden) for item in data]
    if not isinstance(data, dict):
        return data
    copy = dict(data)
    for head in {path[0] for path in hidden if path}:
        if head not in copy:
            continue
        deeper = [path[1:] for path in hidden if path and path[0] == head]
        copy[head] = MASK if [] in deeper else mask(copy[head], deeper)
    return copy
