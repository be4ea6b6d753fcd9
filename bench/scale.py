"""What much of it costs: held and finished transactions by the million, callers who wait, many cycles, a long run.

Transactions are made by the core itself, and journaled and stored as a server does; over HTTP a million would take
minutes. What is measured then is a real server over those files.
"""

import itertools
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import trio

from bench.core import BODY
from bench.http import HOLD, PORT, load, request, resident_mib, send, start
from bench.table import percentiles, row
from journal import LOCAL_PARTITION, JournalOptions, LocalLog
from protocol.admission import Incoming, admit
from protocol.cycle import decide
from protocol.inputs import Deploy, Hit, Start
from protocol.loading import encode_definition, version_name
from runtime.config import JOURNAL_FOLDER, STORE_FILE
from runtime.deploying import identifiers
from runtime.project import read_project
from runtime.server import open_store
from runtime.store import StoredState

CHECKPOINT_TURNS = 4000
SEGMENT_BYTES = 64 << 20
DELAY_S = 40  # Long enough for all callers to come.
CALLERS = f"""
cycle: callers
connectors: {{shop: {{}}}}
steps:
  asked:
    webhook: shop
    identifier: bench-waiting
    answer_within: 5 minutes
  pause: {{delay: {DELAY_S} seconds}}
  answer: {{respond: {{body: {{done: true}}}}}}
"""
ENDS = """
cycle: ends%(number)s
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: bench-ends%(number)s
    fields: {order: {type: text, required: true}, amount: {type: integer, required: true}}
  large: {decide: "asked.amount > 100", else: end}
"""
ARGUMENTS = ("-m", "runtime.cli", "serve")


def make(project: Path, bodies: Iterator[tuple[str, str, bytes]]) -> None:
    """Write the journal and the store of a server that had these requests: cycle, step and body of each."""
    data = project / ".cyclewright"
    data.mkdir(mode=0o700, exist_ok=True)
    definitions, faults = read_project(project)
    assert not faults, faults
    log = LocalLog.open(data / JOURNAL_FOLDER, JournalOptions(segment_bytes=SEGMENT_BYTES))
    owner = log.own(LOCAL_PARTITION)
    database = open_store(data / STORE_FILE, log)
    state = StoredState(database)
    now = time.time_ns()
    seq = log.next_seq
    groups: list[list[bytes]] = []

    def save() -> None:
        owner.append(groups, at=now)
        groups.clear()
        taken = state.checkpoint(seq - 1)
        taken.write(database)
        state.written(taken)

    for name, definition in definitions.items():
        packed = encode_definition(definition)
        for given in (
            Deploy(name, now, packed, version_name(packed), identifiers(definition, {})),
            Start(name, now),
        ):
            decided = decide(state, given, seq)
            seq += len(decided.events)
            groups.append(list(decided.records))
    headers = {"content-type": "application/json"}
    for number, (cycle, step, body) in enumerate(bodies, 1):
        program = state.program(state.cycle(cycle).definition_hash)
        incoming = Incoming(method="POST", headers=headers, query={}, body=body, at=now + number)
        hit = admit(program, step, incoming)
        assert isinstance(hit, Hit), hit
        decided = decide(state, hit, seq)
        seq += len(decided.events)
        groups.append(list(decided.records))
        if number % CHECKPOINT_TURNS == 0:
            save()
    save()
    owner.close()
    log.close()
    database.close()


def _serve(name: str) -> tuple[subprocess.Popen[bytes], float]:
    return start([*ARGUMENTS, name, "--bind", f"127.0.0.1:{PORT}"], "/readyz")


def _end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(how)
    process.wait()


def held(count: int = 1_000_000) -> None:
    """So many held transactions: memory, restart after kill -9, and resuming any of them."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        (project / "hold.cycle.yaml").write_text(HOLD)
        began = time.perf_counter()
        make(project, (("hold", "asked", b'{"job": %d}' % job) for job in range(count)))
        row(f"{count:,} held: made by the core", f"{count / (time.perf_counter() - began):,.0f}/s")
        process, took = _serve(name)
        row("start to ready", f"{took:.2f} s", note=f"{resident_mib(process):.0f} MiB resident")
        new = (b'{"job": %d}' % job for job in range(count, count + 20_000))
        times, statuses = load("bench-hold", new, 64, seconds=60)
        row(
            "holds made, 64 connections",
            f"{len(times) / sum(times) * 64:,.0f}/s",
            *percentiles(times),
            note=str(statuses),
        )
        _end(process, signal.SIGKILL)
        process, took = _serve(name)
        row("kill -9 to ready again", f"{took:.2f} s", note=f"{resident_mib(process):.0f} MiB resident")
        jobs = random.sample(range(count), min(count, 20_000))
        times, statuses = load("bench-back", (b'{"job": %d}' % job for job in jobs), 64, seconds=120)
        row(
            "any resumed, 64 connections",
            f"{len(times) / sum(times) * 64:,.0f}/s",
            *percentiles(times),
            note=str(statuses),
        )
        row("memory after that", f"{resident_mib(process):.0f} MiB")
        _end(process)


def finished(count: int = 3_000_000) -> None:
    """So many finished transactions: pages of lists, from the newest to the oldest."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        (project / "ends.cycle.yaml").write_text(ENDS % {"number": ""})
        began = time.perf_counter()
        make(project, (("ends", "asked", BODY) for _ in range(count)))
        row(f"{count:,} finished: made by the core", f"{count / (time.perf_counter() - began):,.0f}/s")
        process, took = _serve(name)
        row("start to ready", f"{took:.2f} s", note=f"{resident_mib(process):.0f} MiB resident")
        token = (project / ".cyclewright" / "admin.token").read_text().strip()
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", headers={"authorization": f"Bearer {token}"}) as client:
            for question in ("", "&cycle=ends", "&status=completed", "&status=failed"):
                row(f"a page of 100{question}", "", *percentiles(_pages(client, question)))
        _end(process)


def _pages(client: httpx.Client, question: str, pages: int = 200) -> list[float]:
    """The times of successive pages, and of as many somewhere in the middle."""
    times: list[float] = []
    after = ""
    for _ in range(pages):
        began = time.perf_counter()
        response = client.get(f"/api/transactions?limit=100{question}{after}")
        times.append(time.perf_counter() - began)
        response.raise_for_status()
        following = response.json().get("next")
        if not following:
            break
        after = f"&after={following}"
    return times


def callers(count: int = 10_000) -> None:
    """So many callers who wait for their answers at once: what they cost, and how long the last one waits too long."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "callers.cycle.yaml").write_text(CALLERS)
        process, _ = _serve(name)
        before = resident_mib(process)
        late: list[float] = []
        statuses: Counter[bytes] = Counter()

        async def caller() -> None:
            async with await trio.open_tcp_stream("127.0.0.1", PORT) as stream:
                await stream.send_all(request("bench-waiting", b"{}"))
                due = trio.current_time() + DELAY_S
                statuses[(await stream.receive_some(65_536))[9:12]] += 1
                late.append(trio.current_time() - due)

        async def main() -> None:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(caller)
                    await trio.sleep(0.001)
                await trio.sleep_until(began + DELAY_S - 5)
                now = resident_mib(process)
                each = (now - before) * 1024 / count
                row(f"{count:,} callers who wait", f"{now:.0f} MiB", note=f"{each:.1f} KiB each")

        trio.run(main)
        said = {status.decode(): times for status, times in statuses.items()}
        row("how late their answers are", f"{len(late):,}", *percentiles(late), note=str(said))
        _end(process)


def cycles(count: int = 100) -> None:
    """Requests to one cycle, and in turn to so many."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            (Path(name) / f"ends{number}.cycle.yaml").write_text(ENDS % {"number": number})
        process, took = _serve(name)
        row(f"start to ready, {count} cycles", f"{took:.2f} s", note=f"{resident_mib(process):.0f} MiB resident")
        times, statuses = load("bench-ends0", BODY, 64)
        row(
            "requests to one of them", f"{len(times) / sum(times) * 64:,.0f}/s", *percentiles(times), note=str(statuses)
        )
        each = itertools.cycle([request(f"bench-ends{number}", BODY) for number in range(count)])
        times, statuses = send(each, 64)
        row(
            "requests to each in turn",
            f"{len(times) / sum(times) * 64:,.0f}/s",
            *percentiles(times),
            note=str(statuses),
        )
        _end(process)


def soak(minutes: float = 10) -> None:
    """Memory over a long run of requests that end: the least and the most of its second half."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "ends.cycle.yaml").write_text(ENDS % {"number": ""})
        process, _ = _serve(name)
        sizes: list[float] = []
        sent = 0
        for _ in range(max(2, round(minutes * 4))):
            times, _ = load("bench-ends", BODY, 64, seconds=15)
            sent += len(times)
            sizes.append(resident_mib(process))
        half = sizes[len(sizes) // 2 :]
        journal = sum(path.stat().st_size for path in (Path(name) / ".cyclewright").rglob("*")) >> 20
        note = f"{sent:,} requests; from {half[0]:.0f} to {half[-1]:.0f} MiB; {journal:,} MiB of files"
        row(f"soak of {minutes:g} minutes", f"{min(half):.0f}-{max(half):.0f} MiB", note=note)
        _end(process)


def memory_of_holds(counts: tuple[int, ...] = (0, 10_000, 100_000, 300_000, 1_000_000)) -> list[tuple[int, float]]:
    """Resident memory by number of held transactions."""
    found: list[tuple[int, float]] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            project = Path(name)
            (project / "hold.cycle.yaml").write_text(HOLD)
            make(project, (("hold", "asked", b'{"job": %d}' % job) for job in range(count)))
            process, _ = _serve(name)
            found.append((count, resident_mib(process)))
            _end(process)
    return found


def run() -> None:
    """Every question of this file but the long run."""
    held()
    finished()
    callers()
    cycles()
