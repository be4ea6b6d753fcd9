"""A server: the journal opened, the store caught up, cycles deployed, the door opened, and all of it closed again.

Order of a start: lock and epoch, store, tail of the journal, `WriterStarted`, what callers and calls are owed,
overdue timers, and last the door. `/readyz` answers 503 with the progress until then.
"""

import gc
import resource
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import structlog
import trio
from httpx import URL
from msgspec import ValidationError

from journal import LOCAL_PARTITION, JournalOptions, LocalLog, LogReader
from protocol.definition import Definition
from runtime.clock import wall_clock
from runtime.committer import ThreadAppender
from runtime.config import (
    JOURNAL_FOLDER,
    KEY_FILE,
    SEGMENT_BYTES_MIN,
    STORE_FILE,
    ConfigError,
    Settings,
    admin_token,
    chain_key,
    secret_file,
)
from runtime.deploying import deploy, load_scripts, reload, reload_logged
from runtime.doctor.live import Scrub
from runtime.door import Door, Listener
from runtime.egress import own_address
from runtime.engine import Engine
from runtime.project import ProjectError
from runtime.replay import EventsNewer
from runtime.retention import Retention
from runtime.snapshots import check_beginning, restore
from runtime.store import Database, StoredState, StoreError

FLUSH_S = 5.0  # For the last records and the last checkpoint; seconds even on a slow disk.
COLLECT_AT = (50_000, 20, 50)  # New containers between collections: 700 would be one every ten requests, for nothing.
DRAIN_LOOK_S = 0.05  # Between looks at whether the last pass has ended.

Progress = Callable[[str, int, int], None]

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.server")


def open_store(path: Path, journal: LogReader) -> Database:
    """The store's file, or a new one when it is of no use: the journal has all it needs to be built again. Blocks."""
    try:
        database = Database(path)
        try:
            database.check()
            meets = journal.first_seq <= database.meta("applied") + 1 <= journal.next_seq
        except StoreError:
            database.close()
            raise
        if meets:
            return database
        database.close()
        log.warning("store and journal do not meet; it is built again", store=path.name)
    except StoreError as fault:
        log.warning("store is built again", reason=str(fault))
    check_beginning(journal)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    database = Database(path)
    try:
        restore(journal, database)
    except BaseException:
        database.close()
        raise
    return database


def _lift_file_limit() -> None:
    """Take the hard limit of open files: each connection is one, and the soft limit of most shells is 1,024.

    The soft one is there for programs that use `select`, whose sets end at 1,024; Trio does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses a limit without end; then the soft one has to do.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check_file_size(segment_bytes: int) -> None:
    """Take the hard limit of a file's size too, and raise `ConfigError` when a segment does not fit even that.

    One that is met later refuses requests for as long as it is there; a server that can not begin says so at once.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < segment_bytes:
        raise ConfigError(
            f"a file may have at most {hard:,} bytes here (ulimit -f), and a segment of the journal has "
            f"{segment_bytes:,}: raise that limit, or set segment_bytes lower, to {SEGMENT_BYTES_MIN:,} at least"
        )


async def serve(
    settings: Settings,
    definitions: Mapping[str, Definition],
    *,
    salvage: bool = False,
    progress: Progress | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT; started with the URL once the door is open.

    Args:
        settings: all bounds, the address and the data folder.
        definitions: the cycles to deploy.
        salvage: whether to set a damaged tail of the journal apart instead of refusing to start.
        progress: told, in a thread, what a start does: words, how far, of how much.
        task_status: Trio's.

    Raises:
        ConfigError: a file may not have the size of a segment.
        JournalError: the journal is locked by another process, damaged, or failed while running.
    """
    _lift_file_limit()
    _check_file_size(settings.segment_bytes)
    data = Path(settings.data)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240 - Before anything else runs.
    door = Door(settings, admin_token(data), secret_file(data / KEY_FILE), chain_key())
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            stop_http = trio.Event()
            bound = await nursery.start(Listener(settings, door).run, stop_http)
            nursery.start_soon(_at_signals, signals, door, settings, stop_http, nursery.cancel_scope)
            await nursery.start(partial(_work, settings, definitions, door, bound, salvage=salvage, progress=progress))
            gc.freeze()  # What a start has loaded stays.
            gc.set_threshold(*COLLECT_AT)
            task_status.started(bound)
            log.info("ready", url=bound, cycles=len(definitions))
    log.info("stopped")


async def _at_signals(
    signals: AsyncIterator[int], door: Door, settings: Settings, stop_http: trio.Event, running: trio.CancelScope
) -> None:
    """Read the project again at SIGHUP; drain at any other. One that still reads its journal just ends."""
    async for received in signals:
        if received == signal.SIGHUP:
            await reload_logged(door)
            continue
        log.info("stopping", signal=signal.Signals(received).name)
        break
    await _drain(door, settings)
    stop_http.set()
    running.cancel()


async def _work(
    settings: Settings,
    definitions: Mapping[str, Definition],
    door: Door,
    bound: str,
    *,
    salvage: bool,
    progress: Progress | None,
    task_status: trio.TaskStatus[None],
) -> None:
    """Open the journal, catch up, run the engine, and leave everything closed."""
    data = Path(settings.data)
    options = JournalOptions(segment_bytes=settings.segment_bytes)

    def told(words: str, done: int, total: int) -> None:
        trio.from_thread.check_cancelled()
        if progress is not None:
            progress(words, done, total)

    def folded(seq: int) -> None:
        door.progress = seq
        told("events folded", seq, ownership.next_seq)

    open_log = partial(LocalLog.open, data / JOURNAL_FOLDER, options, salvage=salvage)
    with ExitStack() as closing:
        journal = await trio.to_thread.run_sync(partial(open_log, progress=partial(told, "bytes of the journal read")))
        closing.callback(journal.close)
        ownership = journal.own(LOCAL_PARTITION)
        closing.callback(ownership.close)
        appender = ThreadAppender(ownership)
        database = await trio.to_thread.run_sync(open_store, data / STORE_FILE, journal)
        closing.callback(database.close)
        engine = Engine(journal, appender, StoredState(database), settings, wall_clock(), ownership.epoch)
        engine.outbound.listen_at(own_address(bound))
        engine.scripts, faults = await trio.to_thread.run_sync(load_scripts, Path(settings.project), definitions)
        if faults:
            raise ProjectError("; ".join(map(str, faults)))
        engine.public_url = settings.public_url.rstrip("/") or bound
        engine.own_urls = frozenset(str(URL(f"{base}/webhook/")) for base in (engine.public_url, bound))
        engine.chain_key = door.chain_key
        try:
            await trio.to_thread.run_sync(engine.replay_tail, folded)
        except ValidationError as fault:
            raise EventsNewer(door.progress, str(fault)) from None
        appender.start()
        closing.callback(appender.stop)
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            await deploy(engine, definitions)
            door.open(engine)
            door.reload = partial(reload, engine, door, Path(settings.project))
            task_status.started()
            nursery.start_soon(_spares, journal)
            assert door.doctor is not None, "an open door has one"
            nursery.start_soon(Scrub(door.doctor).run)
            nursery.start_soon(Retention(engine, journal, settings.retention).run)


async def _spares(journal: LocalLog) -> None:
    """Keep a zero-filled segment ready, so that rotation does not stall a commit."""
    while True:
        await trio.to_thread.run_sync(journal.prepare_spare)
        await trio.sleep(1)


async def _drain(door: Door, settings: Settings) -> None:
    """Refuse what is new, finish what fits into the grace period, and write the last checkpoint."""
    door.draining = True
    engine = door.engine
    if engine is None:
        return
    with trio.move_on_after(settings.grace_ns / 1e9):
        while not engine.idle:  # noqa: ASYNC110 - Looks at state that many tasks change; once in a life.
            await trio.sleep(DRAIN_LOOK_S)
    with trio.move_on_after(FLUSH_S):  # A full disk may take nothing more; what waits for it was promised to nobody.
        await engine.committer.flushed()
        await engine.checkpointed()
