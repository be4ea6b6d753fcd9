"""`PEERS_DIR=… python -m bench.compare [PEER …]`: the same workloads on this project, the floor and other systems.

Runs are interleaved (one of each, three times), so that what else the machine does falls on all; the table has medians
and their ratios. `bench/peers/install.sh` installs the other systems into `PEERS_DIR`, and the `wrk` that drives all.
"""

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from bench.table import machine

HERE = Path(__file__).parent / "peers"
RUNS = 3
SECONDS = int(os.environ.get("RUN_SECONDS", "6"))
CONNECTIONS = os.environ.get("CONNECTIONS", "1,64")
OURS = "cyclewright"
DEFAULT = (OURS, "floor", "bare", "nodered", "restate")
PARTS = {"floor": "w1", "bare": "w1"}
DURABILITY = {
    OURS: "each answer after a sync",
    "floor": "nothing is kept",
    "bare": "nothing is kept",
    "nodered": "memory only",
    "restate": "its default, batched sync",
    "n8n": "SQLite, its default",
    "dbos-sqlite": "SQLite",
    "dbos-pg": "PostgreSQL, sync on",
}


def measure(peers: list[str], tag: str) -> None:
    """Run everything once for each peer, and all of that three times; results go to `PEERS_DIR/results`."""
    for run in range(RUNS):
        for peer in peers:
            parts = PARTS.get(peer, "w1,w2,w3")
            command = [sys.executable, str(HERE / "bench.py"), peer, "--parts", parts, "--runs", "1", "--tag", tag]
            options = ["--secs", str(SECONDS), "--conns", CONNECTIONS]
            print(f"run {run + 1} of {RUNS}: {peer}", file=sys.stderr, flush=True)
            subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)


def figures(tag: str) -> dict[tuple[str, str, int], dict[str, float]]:
    """Medians by peer, workload and connections: requests a second, p50 and p99 in milliseconds, finished a second."""
    found: dict[tuple[str, str, int], list[dict[str, float]]] = defaultdict(list)
    for path in Path(os.environ["PEERS_DIR"], "results").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            one = json.loads(line)
            if one["tag"] == tag and "rps" in one:
                found[one["peer"], one["part"], one["conns"]].append(one)
    names = ("rps", "p50_ms", "p99_ms", "finish_rps", "status_err", "sock_err")
    return {
        key: {name: statistics.median([one[name] for one in many if name in one] or [0]) for name in names}
        for key, many in found.items()
    }


def table(peers: list[str], tag: str) -> None:
    """Print the table, ratios first."""
    found = figures(tag)
    print(f"{machine()}; medians of {RUNS} runs of {SECONDS} s, interleaved; ratio: {OURS} by the other")
    print(
        f"{'workload':<9} {'peer':<12} {'conns':>5} {'ratio':>7} {'per s':>9} {'p50 ms':>8} {'p99 ms':>8} {'ended':>9}"
    )
    for part in ("w1", "w2", "w3"):
        for connections in map(int, CONNECTIONS.split(",")):
            ours = found.get((OURS, part, connections), {}).get("rps", 0.0)
            for peer in peers:
                one = found.get((peer, part, connections))
                if one is None:
                    continue
                ratio = f"{ours / one['rps']:.2f}" if one["rps"] else "-"
                ended = f"{one['finish_rps']:,.0f}" if one["finish_rps"] else ""
                errors = f"  {one['status_err'] + one['sock_err']:.0f} errors" * bool(
                    one["status_err"] + one["sock_err"]
                )
                times = f"{one['p50_ms']:>8.2f} {one['p99_ms']:>8.2f}"
                print(
                    f"{part:<9} {peer:<12} {connections:>5} {ratio:>7} {one['rps']:>9,.0f} {times} {ended:>9}{errors}"
                )
    print("durability: " + "; ".join(f"{peer}: {DURABILITY.get(peer, 'its default')}" for peer in peers))


def main() -> None:
    """Measure, then print."""
    if not os.environ.get("PEERS_DIR"):
        sys.exit("set PEERS_DIR to the folder into which bench/peers/install.sh installed the other systems")
    peers = sys.argv[1:] or list(DEFAULT)
    tag = f"compare-{os.getpid()}"
    measure(peers, tag)
    table(peers, tag)
    print(f"results are under the tag {tag}")


if __name__ == "__main__":
    main()
