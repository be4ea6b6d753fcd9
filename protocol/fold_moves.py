"""How a transaction comes to a status, and the counts of its cycle with it; `protocol.evolve` is the front door."""

from protocol.state import CycleRow, State, TransactionRow, TransactionStatus


def move(state: State, row: TransactionRow, status: TransactionStatus) -> None:
    """Change the status of a transaction and the counts of its cycle, then save both."""
    if row.status != status:
        cycle = state.cycle(row.cycle)
        if row.phase:
            count_phase(cycle, row.phase, (status == "running") - (row.status == "running"))
        setattr(cycle, row.status, getattr(cycle, row.status) - 1)
        setattr(cycle, status, getattr(cycle, status) + 1)
        row.status = status
        state.save(cycle)
    state.save(row)


def count_phase(cycle: CycleRow, phase: str, change: int) -> None:
    """Count a transaction on its way to, or from, a `wait_all`."""
    cycle.phases = {**cycle.phases, phase: cycle.phases.get(phase, 0) + change}


def begin(state: State, row: TransactionRow) -> None:
    """Count and keep a transaction that is new and running."""
    cycle = state.cycle(row.cycle)
    cycle.running += 1
    if row.phase:
        count_phase(cycle, row.phase, 1)
    state.save(cycle)
    state.save(row)
