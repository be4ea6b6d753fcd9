"""How what webhooks and other steps bring makes the state; `protocol.evolve` is the front door."""

from collections.abc import Callable
from typing import Any

from protocol.events_webhooks import PartingStarted, RequestArrived, StepSucceeded
from protocol.fold_hits import touch
from protocol.state import Parting, State


def request_arrived(state: State, event: RequestArrived, seq: int) -> None:
    """The data is there, and what the step makes of it is to come."""
    row = touch(state, event, seq, event.transaction)
    row.data[event.step] = event.data
    row.step, row.arrived = event.step, True
    state.save(row)


def step_succeeded(state: State, event: StepSucceeded, seq: int) -> None:
    """The latest attempt that did its work counts, whichever transaction made it."""
    state.save(touch(state, event, seq, event.transaction))
    cycle = state.cycle(event.cycle)
    latest = max(event.began, cycle.succeeded.get(event.step, 0))  # An older attempt may have taken longer.
    cycle.succeeded = {**cycle.succeeded, event.step: latest}
    state.save(cycle)


def parting_started(state: State, event: PartingStarted, seq: int) -> None:
    """The pass goes on with the items, one after the other."""
    row = touch(state, event, seq, event.transaction)
    row.parting = Parting(event.step, event.path, event.without, event.target)
    state.save(row)


WEBHOOK_HANDLERS: dict[type, Callable[[State, Any, int], None]] = {
    RequestArrived: request_arrived,
    StepSucceeded: step_succeeded,
    PartingStarted: parting_started,
}
