"""What a process counts while it runs, for its metrics: labels are names that files of the project give, and few.

Whatever can be read off the state is not counted here, since the state never drifts and survives a restart.
"""

from bisect import bisect_left
from collections import Counter

from protocol.inputs import CallAnswer, CallEnded, CallFailure, Input
from protocol.state import State

LATENCY_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""From a fast disk's sync to one that is in trouble."""


class Histogram:
    """Observations in seconds, by upper bound."""

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # Each by itself; what is past the last bound comes last.
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Note one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


class Counters:
    """Counts since the process began."""

    def __init__(self) -> None:
        self.turns = 0
        self.hits: Counter[tuple[str, str]] = Counter()  # By cycle, "" where none was found, and status of the answer.
        self.calls: Counter[tuple[str, str, str]] = Counter()  # By cycle, connector and class of outcome.
        self.incidents: Counter[tuple[str, str]] = Counter()  # By cycle and level.
        self.broken: Counter[int] = Counter()  # Rows that break an invariant, by its number; each is counted once.

    def turn(self, state: State, given: Input) -> None:
        """An input is about to be decided."""
        self.turns += 1
        if isinstance(given, CallEnded):
            self._call(state, given)

    def _call(self, state: State, given: CallEnded) -> None:
        try:
            call = state.transaction(given.transaction).call
        except KeyError:
            return
        if call is not None and call.link is None and call.step == given.step:
            self.calls[given.cycle, call.request.connector, outcome_class(given.outcome)] += 1


def outcome_class(outcome: object) -> str:
    """How a call ended, as one of few words."""
    match outcome:
        case CallAnswer(status=status):
            return f"{status // 100}xx" if 100 <= status < 600 else "other"
        case CallFailure(phase="connect"):
            return "not_sent"
        case CallFailure():
            return "no_answer"
        case _:
            return "returned"
