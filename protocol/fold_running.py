"""How events about running a cycle (section 11) make the state; `protocol.evolve` is their front door."""

from protocol import events as e
from protocol.fold_hits import touch
from protocol.state import State


def cycle_once(state: State, event: e.CycleOnce, _seq: int) -> None:
    """Its trigger takes one request, though it is stopped."""
    row = state.cycle(event.cycle)
    row.once = "waiting"
    state.save(row)


def once_taken(state: State, event: e.CycleOnceTaken, seq: int) -> None:
    """From here on it is a cycle that finishes."""
    row = state.cycle(event.cycle)
    row.status, row.once, row.once_since = "stopping", "running", seq
    state.save(row)


def transaction_moved(state: State, event: e.TransactionMoved, seq: int) -> None:
    """The transaction runs another version from now on, and is found by what that one matches."""
    row = touch(state, event, seq, event.transaction)
    row.earlier = [*(one for one in row.earlier if one != row.definition_hash), row.definition_hash]
    row.definition_hash = event.definition_hash
    for step, key in event.keys.items():
        state.unfile("reached", (row.cycle, step, *row.reached[step]), row.id)
        row.reached[step] = list(key)
        state.file("reached", (row.cycle, step, *key), row.id)
    state.save(row)
