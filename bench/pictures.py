"""`PEERS_DIR=… python -m bench.pictures TAG`: figures as pictures, in `bench/pictures`.

1. Requests a second and their p99 over connections, for this project and every other system measured under the tag
   that `python -m bench.compare` says.
2. Seconds to replay a journal, over its length.
3. Resident memory, over held transactions.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.compare import figures
from bench.core import decisions
from bench.scale import memory_of_holds
from journal import LOCAL_PARTITION, JournalOptions, LocalLog
from protocol.events import AnyEvent, encode_event
from runtime.replay import fold

FOLDER = Path(__file__).parent / "pictures"
WORKLOADS = {"w1": "webhook, 202", "w2": "synchronous answer", "w3": "linked cycles, synchronous"}
PARTS = 8  # Of the events of one run of `bench.core`, as lengths of a journal.

mpl.rcParams["svg.hashsalt"] = "cyclewright"  # Else each drawing of the same figures is another file.


def _keep(figure: Figure, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
    print(f"{name}.svg")


def connections(tag: str) -> None:
    """Throughput above, p99 below, a column for each workload."""
    found = figures(tag)
    figure = Figure(figsize=(12, 6.5))
    axes = figure.subplots(2, len(WORKLOADS), sharex=True)
    for column, (part, title) in enumerate(WORKLOADS.items()):
        for peer in sorted({peer for peer, one, _ in found if one == part}):
            points = sorted((at, one) for (name, which, at), one in found.items() if (name, which) == (peer, part))
            xs = [at for at, _ in points]
            axes[0][column].plot(xs, [one["rps"] for _, one in points], marker="o", markersize=3, label=peer)
            axes[1][column].plot(xs, [one["p99_ms"] for _, one in points], marker="o", markersize=3, label=peer)
        axes[0][column].set_title(title)
        _scaled(axes[0][column], "requests a second")
        _scaled(axes[1][column], "p99, ms")
        axes[1][column].set_xlabel("connections")
        axes[0][column].legend(fontsize=7)
    _keep(figure, "connections")


def _scaled(axes: Axes, label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.grid(visible=True, which="both", alpha=0.2)


def replay() -> None:
    """Seconds to read, decode and fold a journal, by its events."""
    events = decisions()
    points = [_replayed(events[: len(events) * part // PARTS]) for part in range(1, PARTS + 1)]
    figure = Figure(figsize=(5, 3.5))
    _drawn(figure.subplots(), points, "events", "seconds to replay")
    _keep(figure, "replay")


def _replayed(events: Sequence[AnyEvent]) -> tuple[int, float]:
    """How many of the events, and the seconds that they take."""
    with tempfile.TemporaryDirectory() as name:
        log = LocalLog.open(Path(name) / "journal", JournalOptions(segment_bytes=64 << 20))
        owner = log.own(LOCAL_PARTITION)
        packed = [encode_event(event) for event in events]
        for start in range(0, len(packed), 500):
            owner.append([packed[start : start + 500]], at=1)
        began = time.perf_counter()
        fold(log.read(LOCAL_PARTITION))
        took = time.perf_counter() - began
        owner.close()
        log.close()
    return len(events), took


def memory() -> None:
    """Resident memory of a server that has just started, by held transactions."""
    figure = Figure(figsize=(5, 3.5))
    axes = figure.subplots()
    _drawn(axes, memory_of_holds(), "held transactions", "MiB resident")
    axes.set_ylim(bottom=0)
    _keep(figure, "memory")


def _drawn(axes: Axes, points: Sequence[tuple[int, float]], across: str, up: str) -> None:
    axes.plot([at for at, _ in points], [value for _, value in points], marker="o", markersize=3)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(visible=True, alpha=0.2)


def main() -> None:
    """Draw all of them."""
    if len(sys.argv) != 2 or not os.environ.get("PEERS_DIR"):
        sys.exit("say PEERS_DIR, and the tag that `python -m bench.compare` told")
    connections(sys.argv[1])
    replay()
    memory()


if __name__ == "__main__":
    main()
