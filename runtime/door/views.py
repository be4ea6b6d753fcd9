"""Rows of the live store as the API shows them."""

from typing import Any

from protocol.state import CycleRow, HitRow, IncidentRow, TransactionRow
from runtime import views
from runtime.clock import instant
from runtime.engine import Engine
from runtime.masking import hidden_of
from runtime.store.rows import TABLES

LISTED_MAX = 200  # Passes and incidents shown with one transaction, the latest ones.


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
        "once": row.once or None,
        "hash": row.definition_hash,
        "counts": counts,
        "alerts": _alerts_view(row) if row.alerts else None,
        "webhooks": webhooks,
        "last_success": {step: instant(at) for step, at in row.succeeded.items()},
    }


def _alerts_view(row: CycleRow) -> dict[str, Any]:
    return {"level": row.alerts, "waiting": row.untold, "sending": len(row.alert.incidents) if row.alert else 0}


def transaction_of(engine: Engine, name: str) -> TransactionRow | None:
    """The transaction of that name, as the store has it."""
    cycle, _, number = name.rpartition("-")
    if not number.isascii() or not number.isdecimal() or len(number) > 18:
        return None
    row = engine.state.database.row(TABLES[TransactionRow], int(number))
    return row if isinstance(row, TransactionRow) and row.cycle == cycle else None


def transaction_view(engine: Engine, row: TransactionRow) -> dict[str, Any]:
    """Everything known of a transaction."""
    database = engine.state.database
    latest = "txn = ? ORDER BY id DESC LIMIT ?"
    hits = list(database.rows(TABLES[HitRow], latest, (row.id, LISTED_MAX)))[::-1]
    incidents = list(database.rows(TABLES[IncidentRow], latest, (row.id, LISTED_MAX)))[::-1]
    found = (database.row(TABLES[HitRow], one) for hit in hits for one in hit.redriven)
    later = [one for one in found if one is not None]
    versions = (*row.earlier, row.definition_hash)  # One that it ran before it moved may have hidden more.
    return views.transaction_view(row, hits, incidents, hidden_of(*map(engine.state.program, versions)), later)


def parked_view(engine: Engine, row: HitRow) -> dict[str, Any]:
    """A hit that waits."""
    return views.parked_view(row, hidden_of(engine.state.program(engine.state.cycle(row.cycle).definition_hash)))
