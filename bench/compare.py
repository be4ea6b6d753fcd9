"""`PEERS_DIR=… python -m bench.compare [PEER …]`: the same workloads on this project, the floor and other systems.

Runs are interleaved (one of each, three times), so that what else the machine does falls on all; the table has medians
and their ratios. `bench/peers/install.sh` installs the other systems into `PEERS_DIR`, and the `wrk` that drives all.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from bench.table import machine

HERE = Path(__file__).parent / "peers"
RUNS = int(os.environ.get("RUNS", "3"))
SECONDS = int(os.environ.get("RUN_SECONDS", "6"))
CONNECTIONS = os.environ.get("CONNECTIONS", "1,64")
OURS = "cyclewright"
WORKLOADS = ("w1", "w2", "w3", "w4 create", "w4 resume")
PARTS = {"floor": "w1", "bare": "w1"}
SLOW = {"n8n", "dbos-sqlite", "dbos-pg"}  # At most some hundreds a second: one level, so that the whole stays short.
SLOW_CONNECTIONS = "64"
LIMIT_SECONDS = 240  # Of one run of one system; what it has not measured by then is missing in the table.
LONGEST_SECONDS = 12  # Of a level at which a slow system would not answer every connection some times else.
DRAIN_SECONDS = 4  # How long what was accepted may take to finish, before its rate is known well enough.
NEEDS = {
    "nodered": "nodered/node_modules/node-red",
    "restate": "py/restate/bin/hypercorn",
    "n8n": "n8n/node_modules/n8n/bin/n8n",
    "dbos-pg": "py/dbos/bin/uvicorn",
}
DURABILITY = {
    OURS: "each answer after a sync",
    "floor": "nothing is kept",
    "bare": "nothing is kept",
    "nodered": "memory only, a crash loses all",
    "restate": "its default, batched sync",
    "n8n": "SQLite, its default, synced",
    "dbos-sqlite": "SQLite",
    "dbos-pg": "PostgreSQL, sync on",
}


def installed() -> list[str]:
    """This project, the floor, and the systems that are there, the slow ones last."""
    folder = Path(os.environ["PEERS_DIR"])
    there = [peer for peer, path in NEEDS.items() if (folder / path).exists()]
    if os.geteuid():  # PostgreSQL runs as a user of its own, which only root can start.
        there = ["dbos-sqlite" if peer == "dbos-pg" else peer for peer in there]
    return [OURS, "floor", "bare", *there]


def measure(peers: list[str], tag: str) -> None:
    """Run everything once for each peer, and all of that three times; results go to `PEERS_DIR/results`."""
    for run in range(RUNS):
        for peer in peers:
            print(f"run {run + 1} of {RUNS}: {peer}, {time.strftime('%H:%M:%S')}", file=sys.stderr, flush=True)
            _one(peer, tag)


def _one(peer: str, tag: str) -> None:
    """One run of one system; one that fails or takes too long is told, and the others go on."""
    options = {
        "--parts": PARTS.get(peer, "w1,w2,w3,hold"),
        "--conns": SLOW_CONNECTIONS if peer in SLOW else CONNECTIONS,
        "--runs": "1",
        "--tag": tag,
        "--secs": str(SECONDS),
        "--drain": str(DRAIN_SECONDS),
        "--longest": str(LONGEST_SECONDS),
    }
    command = [sys.executable, str(HERE / "bench.py"), peer, "--keep", "--no-extra"]
    process = subprocess.Popen(
        [*command, *(one for pair in options.items() for one in pair)], stdout=subprocess.DEVNULL
    )
    try:
        if code := process.wait(LIMIT_SECONDS):
            print(f"{peer} failed with {code}", file=sys.stderr, flush=True)
    except subprocess.TimeoutExpired:
        print(f"{peer} was stopped after {LIMIT_SECONDS} s", file=sys.stderr, flush=True)
    finally:
        process.terminate()  # It ends the servers that it started.
        process.wait()


def figures(tag: str) -> dict[tuple[str, str, int], dict[str, float]]:
    """Medians by peer, workload and connections: requests a second, p50 and p99 in milliseconds, finished a second.

    Of errors, and of what was accepted and not done, it is the worst run.
    """
    found: dict[tuple[str, str, int], list[dict[str, float]]] = defaultdict(list)
    for path in Path(os.environ["PEERS_DIR"], "results").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            one = json.loads(line)
            if one["tag"] == tag and "rps" in one:
                found[one["peer"], one["part"], one["conns"]].append(one)
    return {
        key: {
            **{name: statistics.median(_all(name, many)) for name in ("rps", "p50_ms", "p99_ms", "finish_rps")},
            **{name: max(_all(name, many)) for name in ("status_err", "sock_err", "missing")},
        }
        for key, many in found.items()
    }


def _all(name: str, many: list[dict[str, float]]) -> list[float]:
    return [one[name] for one in many if name in one] or [0.0]


def table(peers: list[str], tag: str) -> None:
    """Print the table, ratios first."""
    found = figures(tag)
    print(f"{machine()}; medians of {RUNS} runs of {SECONDS} s, interleaved; ratio: {OURS} by the other")
    print(
        f"{'workload':<9} {'peer':<12} {'conns':>5} {'ratio':>7} {'per s':>9} {'p50 ms':>8} {'p99 ms':>8} {'ended':>9}"
    )
    for workload in WORKLOADS:
        for connections in sorted({at for _, part, at in found if part == workload}):
            ours = found.get((OURS, workload, connections), {}).get("rps", 0.0)
            for peer in peers:
                if one := found.get((peer, workload, connections)):
                    _row((workload, peer, connections), ours, one)
    for peer in peers:
        print(f"durability of {peer}: {DURABILITY.get(peer, 'its default')}")


def _row(key: tuple[str, str, int], ours: float, one: dict[str, float]) -> None:
    workload, peer, connections = key
    ratio = f"{ours / one['rps']:.2f}" if one["rps"] else "-"
    ended = f"{one['finish_rps']:,.0f}" if one["finish_rps"] else ""
    errors = one["status_err"] + one["sock_err"]
    notes = f"  {errors:.0f} errors" * bool(errors) + f"  {one['missing']:.0f} not done" * bool(one["missing"])
    times = f"{one['p50_ms']:>8.2f} {one['p99_ms']:>8.2f}"
    print(f"{workload:<9} {peer:<12} {connections:>5} {ratio:>7} {one['rps']:>9,.0f} {times} {ended:>9}{notes}")


def main() -> None:
    """Measure, then print."""
    if not os.environ.get("PEERS_DIR"):
        sys.exit("set PEERS_DIR to the folder into which bench/peers/install.sh installed the other systems")
    peers = sys.argv[1:] or installed()
    tag = f"compare-{os.getpid()}"
    measure(peers, tag)
    table(peers, tag)
    print(f"results are under the tag {tag}")


if __name__ == "__main__":
    main()
