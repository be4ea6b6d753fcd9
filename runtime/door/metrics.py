"""Metrics in the Prometheus text format: what the state says, and what this process counted. No secret is in a label.

Labels are names of cycles and connectors, statuses and classes, so there are as many series as a project's files make.
"""

from collections.abc import Iterable, Iterator

from quart import Response
from quart_trio import QuartTrio

from protocol.state import usage_name
from runtime.counters import Histogram
from runtime.doctor.report import RULES
from runtime.door.door import Door
from runtime.engine import Engine
from runtime.metering import ROWS_MAX, month

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATUSES = ("running", "held", "completed", "failed", "stopped")

Sample = tuple[dict[str, str], float]


def add_metrics(app: QuartTrio, door: Door) -> None:
    """Add the route to an application. It is open, as scrapers expect, and tells nothing that a caller sent."""

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response("\n".join([*_lines(door), ""]), 200, content_type=CONTENT_TYPE)


def _lines(door: Door) -> Iterator[str]:
    engine = door.engine
    yield from _family(
        "ready", "gauge", "Whether requests are taken.", [({}, engine is not None and not door.draining)]
    )
    hits = [({"cycle": cycle, "answer": answer}, count) for (cycle, answer), count in door.hits.items()]
    yield from _family("hits_total", "counter", "Requests at webhooks, by the status of their answer.", hits)
    unverified = [({"cycle": one.cycle, "step": one.step}, count) for one, count in door.unverified.items()]
    yield from _family("unverified_total", "counter", "Requests whose signature did not hold.", unverified)
    if engine is not None:
        yield from _of_state(engine)
        yield from _of_process(engine)


def _of_state(engine: Engine) -> Iterator[str]:
    """Facts of the state: the same after a restart."""
    cycles = engine.state.cycles()
    found = [({"cycle": row.name, "status": one}, getattr(row, one)) for row in cycles for one in STATUSES]
    yield from _family("transactions", "gauge", "Transactions by status; held ones wait for a request.", found)
    running = [({"cycle": row.name}, row.status == "running") for row in cycles]
    yield from _family("cycle_running", "gauge", "Whether a cycle takes requests.", running)
    parked = [({"cycle": row.name}, row.parked) for row in cycles]
    yield from _family("parked_hits", "gauge", "Requests that wait for a transaction or for a start.", parked)
    tasks = dict.fromkeys((row.name for row in cycles), 0)
    for row in engine.state.usages(usage_name(month(engine.clock())[0], "", ""), ROWS_MAX):
        tasks[row.cycle] = tasks.get(row.cycle, 0) + row.tasks
    metered = [({"cycle": name}, count) for name, count in tasks.items()]
    yield from _family("tasks_this_month", "gauge", "Metered tasks since the month (UTC) began.", metered)
    stats = engine.journal.stats()
    yield from _family("journal_bytes", "gauge", "Bytes that the journal's segments use.", [({}, stats.bytes_used)])
    yield from _family("journal_events_total", "counter", "Events ever journaled.", [({}, engine.next_seq)])


def _of_process(engine: Engine) -> Iterator[str]:
    """What was counted since the process began, and what waits now."""
    counters = engine.counters
    yield from _family("turns_total", "counter", "Inputs that were decided.", [({}, counters.turns)])
    calls = [
        ({"cycle": cycle, "connector": connector, "outcome": outcome}, count)
        for (cycle, connector, outcome), count in counters.calls.items()
    ]
    yield from _family("calls_total", "counter", "Attempts at calls, by class of outcome.", calls)
    incidents = [({"cycle": cycle, "level": level}, count) for (cycle, level), count in counters.incidents.items()]
    yield from _family("incidents_total", "counter", "Incidents, by level.", incidents)
    broken = [({"rule": str(rule)}, counters.broken[rule]) for rule in RULES]
    yield from _family("invariants_broken", "counter", "Rows found to break an invariant; stays 0.", broken)
    yield from _family("passes_in_progress", "gauge", "Passes in memory.", [({}, engine.state.running_count)])
    yield from _family(
        "commits_waiting", "gauge", "Turns that are not in a commit yet.", [({}, engine.committer.backlog)]
    )
    yield from _family("disk_full", "gauge", "Whether requests are refused for it.", [({}, engine.committer.full)])
    yield from _histogram("commit_seconds", "Time from a batch to its durability.", engine.committer.latency)


def _family(name: str, kind: str, words: str, samples: Iterable[Sample]) -> Iterator[str]:
    name = f"cyclewright_{name}"
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{_labels(labels)} {float(value):.17g}"


def _histogram(name: str, words: str, histogram: Histogram) -> Iterator[str]:
    name, total = f"cyclewright_{name}", 0
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} histogram"
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        total += count
        yield f"{name}_bucket{_labels({'le': '+Inf' if bound is None else f'{bound:g}'})} {total}"
    yield f"{name}_sum {histogram.sum:.17g}"
    yield f"{name}_count {total}"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
