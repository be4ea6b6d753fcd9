"""What retention took away, kept by the test: a request that has gone must have come out right, too.

Rows are copied just before an event drops them or what they carry. Such an event may be lost with the power, so a row
that is whole in the state goes before its copy.
"""

from copy import deepcopy

from protocol.events import AnyEvent
from protocol.events_retention import BodiesPurged, RetentionApplied
from protocol.memory import MemoryState
from protocol.state import HitRow, IncidentRow, TransactionRow


class Past:
    """Rows as they were before retention came by."""

    def __init__(self) -> None:
        self.transactions: dict[int, TransactionRow] = {}
        self.hits: dict[int, HitRow] = {}
        self.incidents: dict[int, IncidentRow] = {}

    def note(self, state: MemoryState, event: AnyEvent) -> None:
        """An event is about to be folded."""
        if not isinstance(event, BodiesPurged | RetentionApplied):
            return
        for one in event.transactions:
            row = state.transactions.get(one)
            if row is not None and not row.purged:
                self.transactions[one] = deepcopy(row)
        for one in event.hits:
            hit = state.hits.get(one)
            if hit is not None and not hit.purged:
                self.hits[one] = deepcopy(hit)
        if isinstance(event, RetentionApplied):
            self.incidents |= {one: state.incidents[one] for one in event.incidents if one in state.incidents}

    def with_all(self, state: MemoryState) -> MemoryState:
        """A state with everything that ever was."""
        whole = deepcopy(state)
        for one, row in self.transactions.items():
            if one not in whole.transactions or whole.transactions[one].purged:
                whole.transactions[one] = row
        for one, hit in self.hits.items():
            if one not in whole.hits or whole.hits[one].purged:
                whole.hits[one] = hit
                if hit.delivery:
                    whole.file("delivery", (hit.cycle, hit.step, hit.delivery), one)
        for one, incident in self.incidents.items():
            whole.incidents.setdefault(one, incident)
        return whole
