"""The world around a process: a disk, a store's file, a clock and chance, whose every call can be its last.

1. Each call of a port has a number. At the numbers of `crash_at` the machine stops: `kill` leaves what the system had
   cached, `power` leaves each sector and each name that was not durable to chance.
2. After that no port does anything until `restart`; whatever still runs is stopped by the first one it calls.
3. Reads have no number: stopping before one is stopping before the next change.
"""

import errno
import hashlib
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import trio

from journal import Ownership
from journal.examine import UNWRITTEN_MIN
from journal.frame import HEADER_BYTES
from protocol.events import SCHEMA
from protocol.state import Row
from runtime.committer import Group, InlineAppender
from runtime.store import Database, Look, StoreFull
from runtime.store.database import SCHEMA_VERSION
from runtime.store.look import Entry
from tests.journal.disk import SECTOR, Disk, PowerLossError
from tests.simulation.past import Past

NOON_NS = 1_767_268_800 * 1_000_000_000
IMAGES_MAX = 6  # Checkpoints of the store that a power loss may go back to.
WRITES = ("write", "write_durable")
Death = Literal["kill", "power"]


class World:
    """What one run has of machine, time and chance.

    Attributes:
        chance: decides every fault; clients have generators of their own.
        calm: no more faults, so that what is owed can be done.
        ports: how often each port was called.
        crash_at: numbers of calls at which the machine stops.
        crash_on: the same by the name of a port and the number of its call.
        faults: how often each fault was injected.
        sometimes: what happened at all, and how often.
        past: what retention took away.
        saving: a snapshot is being written.
    """

    def __init__(self, seed: int, *, crash_at: Sequence[int] = (), faulty: bool = False) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.faulty = faulty
        self.calm = False
        self.down = False
        self.ports: Counter[str] = Counter()
        self.calls = 0
        self.crash_at = set(crash_at)
        self.crash_on: set[tuple[str, int]] = set()
        self.death: Death = "power"
        self.faults: Counter[str] = Counter()
        self.sometimes: Counter[str] = Counter()
        self.trace = hashlib.blake2b(digest_size=16)
        self.disk = SimulatedDisk(self)
        self.images: list[bytes] = []
        self.past = Past()
        self.saving = False
        self.skew_ns = 0
        self.clock_set_at = 0.0

    def clock(self) -> int:
        """Wall time."""
        return NOON_NS + int(trio.current_time() * 1e9) + self.skew_ns

    def entropy(self, size: int) -> bytes:
        """Random bytes."""
        return self.chance.randbytes(size)

    def note(self, *words: object) -> None:
        """Add to the trace by which two runs of a seed are compared."""
        self.trace.update(repr(words).encode())

    def saw(self, what: str) -> None:
        """Something that must happen now and then did."""
        self.sometimes[what] += 1

    def fault(self, name: str, probability: float) -> bool:
        """Whether a fault strikes now."""
        if not self.faulty or self.calm or self.chance.random() >= probability:
            return False
        self.faults[name] += 1
        self.note("fault", name)
        return True

    def port(self, name: str) -> None:
        """One call of a port; stops the machine if it is the one to stop at."""
        if self.stops_at(name):
            self.stop()

    def stops_at(self, name: str) -> bool:
        """Count a call; whether the machine stops at it."""
        if self.down:
            raise PowerLossError
        self.calls += 1
        self.ports[name] += 1
        self.note(name, self.calls)
        if self.calls not in self.crash_at and (name, self.ports[name]) not in self.crash_on:
            return False
        self.crash_at.discard(self.calls)
        self.death = self.chance.choice(("kill", "power", "power"))
        self.saw(f"crash at {name} by {self.death}")
        if self.saving:
            self.saw("crash amid a snapshot")
        return True

    def stop(self) -> None:
        """The machine stops here."""
        self.down = self.disk.down = True
        raise PowerLossError

    def restart(self, death: Death) -> None:
        """What is found when the machine, or only the process, comes back."""
        keep = self.chance.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        disk = self.disk.copy() if death == "kill" else self.disk.power_loss(lambda: self.chance.random() < keep)
        assert isinstance(disk, SimulatedDisk), "a disk leaves one of its own make"
        self.disk = disk
        if death == "power" and self.images:
            del self.images[self.chance.randrange(len(self.images) + 1) :]
            self.saw("store lost" if not self.images else "store older than the journal")
        self.down = False
        before = self.skew_ns
        if self.fault("clock set back", 0.2):
            self.skew_ns -= 2_000_000_000
        if self.fault("clock set forward", 0.2):
            self.skew_ns += 5_000_000_000
        if self.skew_ns != before:
            self.clock_set_at = trio.current_time()


class SimulatedDisk(Disk):
    """The journal's disk: its operations are ports, and in a faulty world they fail."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def _fresh(self) -> "Disk":
        return SimulatedDisk(self.world)

    def _short(self, data: bytes) -> int:
        """Anywhere, also within a sector; of a few bytes that are missing, the journal can not say that they are."""
        cut, end = self.world.chance.randint(1, max(1, len(data) - 1)), len(data.rstrip(b"\0"))
        few = end - UNWRITTEN_MIN < cut < end or HEADER_BYTES - UNWRITTEN_MIN < cut % SECTOR < HEADER_BYTES
        return max(1, cut - UNWRITTEN_MIN) if few else cut

    def _operation(self, name: str) -> str:
        planned = super()._operation(name)
        world = self.world
        if name == "read" or planned:
            return planned
        if world.stops_at(f"disk.{name}"):
            world.down = self.down = True
            if world.death == "kill" or name not in WRITES:
                raise PowerLossError
            return "power"  # Torn: what was written so far is left to chance, sector by sector.
        if name in WRITES and world.fault("short write", 0.02):
            return "short"
        if name in ("write_durable", "sync", "write") and world.fault(f"EIO on {name}", 0.001):
            raise OSError(errno.EIO, "the disk broke")
        if name == "allocate" and world.fault("ENOSPC", 0.15):
            raise OSError(errno.ENOSPC, "the disk is full")
        return ""


class SimulatedStore(Database):
    """A store in memory, whose file is the image of its latest write; a power loss goes back to an earlier one."""

    def __init__(self, world: World) -> None:
        self.path = Path("store.sqlite")
        self.world = world
        self._writer = self._reader = sqlite3.connect(":memory:", isolation_level=None)
        if world.images:
            self._writer.deserialize(world.images[-1])
        else:
            self._writer.executescript(files("runtime.store").joinpath("schema.sql").read_text())
            self._set_meta({"version": SCHEMA_VERSION, "events": SCHEMA, "applied": -1, "journal": 0})

    def write(
        self,
        rows: dict[type[Row], list[tuple[Any, ...]]],
        filed: list[tuple[str, bytes, int]],
        unfiled: list[tuple[str, bytes, int]],
        applied: int,
        dropped: Iterable[tuple[type[Row], str | int]] = (),
    ) -> None:
        self.world.port("store.write")
        if self.world.fault("store full", 0.01):
            raise StoreFull("the store's disk is full")
        super().write(rows, filed, unfiled, applied, dropped)
        self._keep()

    def fill(self, contents: Iterable[Row | Entry], applied: int, check: Callable[[Look], None]) -> None:
        self.world.port("store.write")
        super().fill(contents, applied, check)
        self._keep()

    def _keep(self) -> None:
        self.world.images = [*self.world.images, self._writer.serialize()][-IMAGES_MAX:]
        self.world.port("store.written")

    @contextmanager
    def aside(self) -> Generator[Look]:
        """Who looks does so on the spot, so nothing is written meanwhile."""
        yield Look(self.path, self._writer)


class SimulatedAppender(InlineAppender):
    """Commits on the spot, after the time that a disk takes: what comes meanwhile is the next batch."""

    def __init__(self, ownership: Ownership, world: World) -> None:
        super().__init__(ownership)
        self._world = world

    async def append(self, groups: Sequence[Group], at: int, *, drain: bool = False) -> None:
        stall = 1.5 if self._world.fault("disk stall", 0.01) else self._world.chance.choice((0.0, 0.0001, 0.004, 0.12))
        with trio.CancelScope(shield=True):
            await trio.sleep(stall)
        await super().append(groups, at, drain=drain)
