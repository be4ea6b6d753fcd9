"""Checkpoints of the fold, written behind the journal: at most `CHECKPOINT_S` old while something changes.

1. A checkpoint is taken at one instant, and written only when the journal is durable up to it.
2. One that finds no room is tried again, the same one; the door refuses what is new meanwhile.
3. While nothing changes, nothing wakes.
"""

from collections.abc import Callable

import structlog
import trio

from runtime.blocking import Blocking, in_thread
from runtime.committer import Committer
from runtime.store import StoredState, StoreFull

CHECKPOINT_S = 0.05  # At most this old is the store, and so what lists show; long enough to merge repeated writes.
STORE_RETRY_S = 1.0  # Between tries to write a checkpoint that found no room; rows stay in memory meanwhile.

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.checkpoints")


class Checkpoints:
    """Brings the store's file up to the live state.

    Args:
        state: what is written.
        committer: tells when the journal is durable.
        decided: the sequence number of the latest event folded in.

    Attributes:
        applied: the sequence number that the file reaches.
        full: the file could not be written; requests are refused until it can.
        blocking: where the file is written.
    """

    def __init__(self, state: StoredState, committer: Committer, decided: Callable[[], int]) -> None:
        self.applied = -1
        self.full = False
        self.blocking: Blocking = in_thread
        self._state = state
        self._committer = committer
        self._decided = decided
        self._changed = trio.Event()

    def note_change(self) -> None:
        """Something may have been decided."""
        self._changed.set()

    def now(self) -> None:
        """Write one before anything runs. Blocks."""
        taken = self._state.checkpoint(self._decided())
        taken.write(self._state.database)
        self._state.written(taken)
        self.applied = taken.applied

    async def reached(self) -> None:
        """Wait until the file has everything decided so far."""
        target = self._decided()
        while self.applied < target:  # noqa: ASYNC110 - A checkpoint is always at most CHECKPOINT_S away.
            await trio.sleep(CHECKPOINT_S / 5)

    async def run(self) -> None:
        """Write them until cancelled."""
        while True:
            await self._changed.wait()
            await trio.sleep(CHECKPOINT_S)
            self._changed = trio.Event()
            if self.applied < self._decided():
                await self._write()

    async def _write(self) -> None:
        taken = self._state.checkpoint(self._decided())
        await self._committer.flushed()
        while True:
            try:
                await self.blocking(taken.write, self._state.database)
            except StoreFull as fault:
                if not self.full:
                    log.warning("the store can not be written; requests are refused until it can", fault=str(fault))
                self.full = True
                await trio.sleep(STORE_RETRY_S)
            else:
                break
        self.full = False
        self._state.written(taken)
        self.applied = taken.applied
