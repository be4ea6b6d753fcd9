"""Which incidents are told, and together with which others (section 10).

1. A cycle has one alert under way at a time; what comes up meanwhile waits, and costs its passes nothing.
2. An alert is about one incident and all that wait with the same step, kind and level: a storm is one alert, with a
   count. What belongs to an alert is journaled before it leaves, so every attempt tells the same under the same key.
"""

from msgspec import UNSET

from protocol.alert_settings import Alerts
from protocol.definition import Definition
from protocol.events_leaving import AlertEnded, AlertIntended, AlertsSet
from protocol.fold_leaving import ALERT_FAILED
from protocol.inputs import AlertDone, Deploy
from protocol.program import LINK_PREFIX
from protocol.state import CycleRow, IncidentRow, State
from protocol.turn import Turn

# What an alert says: of its first incident, then how many it tells, up to when, and of which transactions.
ALERT_FIELDS = (
    *("incident", "time", "cycle", "step", "kind", "transaction", "message", "detail", "level"),
    *("count", "until", "transactions"),
)
TOGETHER_MAX = 200  # Incidents looked at for one alert, and told by it at most.


def alerts_of(definition: Definition, default: Alerts) -> Alerts | None:
    """Where the incidents of a cycle are told: as it says itself, else as its server does; None is nowhere.

    The cycle that alerts are handed to is never told of its own incidents: each would bring the next one.
    """
    said = default if definition.settings.alerts is UNSET else definition.settings.alerts
    own = said.url.startswith(f"{LINK_PREFIX}{definition.cycle}/")
    return said if said.url and not own else None


def set_alerts(turn: Turn, given: Deploy) -> None:
    """Note the level from which on the incidents of a cycle are told, when a deploy changes it."""
    cycle = turn.state.cycle(given.cycle)
    alerts = alerts_of(turn.state.program(cycle.definition_hash).definition, given.alerts)
    level = "" if alerts is None else alerts.level
    if level != cycle.alerts:
        turn.emit(AlertsSet(given.cycle, turn.at, level))


def tell_next(turn: Turn, cycle: CycleRow) -> None:
    """Begin the next alert of a cycle that has something to tell, if it has none under way."""
    if cycle.alert is not None or not cycle.alerts:
        return
    waiting = turn.state.find("alert", (cycle.name,), TOGETHER_MAX)
    rows = {one: _incident(turn.state, one) for one in waiting}
    first = next((row for row in rows.values() if row is not None), None)
    together = [one for one, row in rows.items() if row is None or (first is not None and _alike(row, first))]
    turn.emit(AlertIntended(cycle.name, turn.at, together))


def _incident(state: State, incident: int) -> IncidentRow | None:
    try:
        return state.incident(incident)
    except KeyError:
        return None  # Its time is over, and nobody can be told any more.


def _alike(row: IncidentRow, first: IncidentRow) -> bool:
    return (row.step, row.kind, row.level) == (first.step, first.kind, first.level)


def alert_done(turn: Turn, given: AlertDone) -> None:
    """An alert has left, or is given up: that is an incident, which no alert tells."""
    alert = turn.state.cycle(turn.cycle).alert
    if alert is None or alert.incidents[0] != given.incident:
        return
    turn.emit(AlertEnded(turn.cycle, turn.at, given.incident, not given.reason))
    if given.reason:
        row = _incident(turn.state, given.incident)
        step, transaction = ("", 0) if row is None else (row.step, row.transaction)
        detail = {"incident": given.incident, "count": len(alert.incidents)}
        turn.incident(transaction, step, ALERT_FAILED, f"an alert was given up: {given.reason}", "warning", detail)
