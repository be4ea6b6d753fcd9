"""How incidents, alerts and announced calls make the state; `protocol.evolve` is their front door.

1. An incident that is to be told waits in the index `alert` of its cycle until an alert takes it, and then belongs to
   that alert until it has ended. So none is lost, whatever happens to the process, and none is told by two.
2. That an alert failed is never told by an alert.
"""

from typing import Any

from protocol.events_leaving import AlertEnded, AlertIntended, AlertsSet, CallLeft, IncidentRaised
from protocol.fold_hits import count_task, touch
from protocol.fold_retention import is_gone
from protocol.incidents import Kind
from protocol.program import RespondPlan
from protocol.state import CycleRow, IncidentRow, OpenAlert, State

LOOPED_MAX = 64  # Chains of one cycle whose loop was told.
LEVELS = ("info", "warning", "error")
ALERT_FAILED: Kind = "alert_failed"


def incident_raised(state: State, event: IncidentRaised, seq: int) -> None:
    """Keep the incident; one that is to be told waits for its alert."""
    about = (event.transaction, event.step, event.kind, event.message, event.level, event.detail)
    state.save(IncidentRow(seq, event.cycle, event.at, *about))
    cycle = state.cycle(event.cycle)
    if event.kind == "loop_detected":
        cycle.looped = [*cycle.looped, str(event.detail.get("chain", ""))][-LOOPED_MAX:]
        state.save(cycle)
    if _is_told(cycle, event):
        cycle.untold += 1
        state.save(cycle)
        state.file("alert", (event.cycle,), seq)
    if _is_response(state, event):
        count_task(state, event, event.step)


def _is_told(cycle: CycleRow, event: IncidentRaised) -> bool:
    if not cycle.alerts or event.kind == ALERT_FAILED:
        return False
    return LEVELS.index(event.level) >= LEVELS.index(cycle.alerts)


def _is_response(state: State, event: IncidentRaised) -> bool:
    """Whether an incident is a response that came to nothing; it is metered as one all the same."""
    if not event.transaction or is_gone(state, event.cycle, transaction=event.transaction):
        return False
    plans = state.program(state.transaction(event.transaction).definition_hash).plans
    return isinstance(plans.get(event.step), RespondPlan)


def alerts_set(state: State, event: AlertsSet, _seq: int) -> None:
    """Incidents of this level, or above it, are told from now on; with "" those that wait go on waiting."""
    cycle = state.cycle(event.cycle)
    cycle.alerts = event.level
    state.save(cycle)


def alert_intended(state: State, event: AlertIntended, _seq: int) -> None:
    """The incidents belong to this alert."""
    cycle = state.cycle(event.cycle)
    cycle.alert = OpenAlert(event.incidents)
    cycle.untold -= len(event.incidents)
    for incident in event.incidents:
        state.unfile("alert", (event.cycle,), incident)
    state.save(cycle)


def alert_ended(state: State, event: AlertEnded, _seq: int) -> None:
    """The alert was delivered, or given up."""
    cycle = state.cycle(event.cycle)
    cycle.alert = None
    state.save(cycle)


def call_left(state: State, event: CallLeft, seq: int) -> None:
    """From here on the attempt may have had an effect."""
    row = touch(state, event, seq, event.transaction)
    if row.call is not None:
        row.call.left = True
    state.save(row)


LEAVING_HANDLERS: dict[type, Any] = {
    IncidentRaised: incident_raised,
    CallLeft: call_left,
    AlertsSet: alerts_set,
    AlertIntended: alert_intended,
    AlertEnded: alert_ended,
}
