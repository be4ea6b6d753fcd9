"""Damage to a journal, each of a kind that no crash makes: opening refuses, and says why.

Most of it is to one that was closed in order; some to one whose process died as it sealed a segment.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

from msgspec.msgpack import encode

from journal import LOCAL_PARTITION, JournalDamaged, LocalLog
from journal.frame import HEADER_BYTES, parse_header
from journal.segment import HEADER_SIZE, decode_segment_header
from tests.journal.disk import FOLDER, SECTOR, PowerLossError
from tests.simulation.partner import Breach
from tests.simulation.running import SEGMENT, fold
from tests.simulation.world import SimulatedDisk, World

FILLING_BYTES = 4096  # Of a record that a segment is filled with.
Place = tuple[int, int]
"""Where a frame begins, and where its last byte is."""


class Body:
    """The last segment, and the frames in it."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.name = disk.segments()[-1]
        self.bytes = disk.content(self.name)
        salt = decode_segment_header(bytes(self.bytes[:HEADER_SIZE]), self.name).salt
        self.frames: list[Place] = []
        for at in range(HEADER_SIZE, len(self.bytes), SECTOR):
            header = parse_header(bytes(self.bytes[at : at + SECTOR]), 0, salt)
            if header is not None:
                self.frames.append((at, at + HEADER_BYTES + header.payload_bytes - 1))

    @property
    def data(self) -> list[Place]:
        """Frames that hold records."""
        return [place for place in self.frames if place[1] >= place[0] + HEADER_BYTES]

    def cut_close(self) -> None:
        """Take the confirm frames at the end away, as if the machine had stopped before they were written."""
        end = self.data[-1][1] + 1
        self.bytes[end:] = bytes(len(self.bytes) - end)
        self.frames = [place for place in self.frames if place[0] < end]


def _short(body: Body) -> None:
    del body.bytes[-SECTOR:]


def _behind(body: Body) -> None:
    at = (body.frames[-1][1] // SECTOR + 1) * SECTOR
    body.bytes[at : at + 8] = b"garbage!"


def _in_the_middle(body: Body) -> None:
    body.bytes[body.data[0][1]] ^= 1


def _far(body: Body) -> None:
    body.cut_close()
    body.bytes[-9:-1] = b"garbage!"


def _garbage(body: Body) -> None:
    body.cut_close()
    at = (body.frames[-1][1] // SECTOR + 1) * SECTOR
    body.bytes[at : at + SECTOR] = b"\x99" * SECTOR


def _repeated(body: Body) -> None:
    body.cut_close()
    first, (_, last) = body.data[0], body.frames[-1]
    at = (last // SECTOR + 1) * SECTOR
    body.bytes[at : at + first[1] - first[0] + 1] = body.bytes[first[0] : first[1] + 1]


def _last(body: Body) -> None:
    body.cut_close()
    body.bytes[body.data[-1][0] + HEADER_BYTES] ^= 1


def being_sealed(world: World) -> SimulatedDisk:
    """A world's disk as a crash leaves it between a footer and the manifest that knows of it."""
    disk = world.disk.copy()
    seen, calm, world.calm = world.sometimes, world.calm, True
    world.sometimes = seen.copy()  # This crash is no event of the world's life.
    try:
        with suppress(PowerLossError), LocalLog.open(FOLDER, SEGMENT, storage=disk) as log:
            owner = log.own(LOCAL_PARTITION)
            world.crash_on.add(("disk.truncate", world.ports["disk.truncate"] + 1))
            for _ in range(SEGMENT.segment_bytes // FILLING_BYTES + 1):
                owner.append([[encode(bytes(FILLING_BYTES))]], at=0)  # As late as the one before.
            raise AssertionError("a segment that is full was not sealed")
    finally:
        world.sometimes, world.calm, world.down = seen, calm, False
    left = disk.copy()
    assert isinstance(left, SimulatedDisk), "a disk leaves one of its own make"
    return left


def closed(world: World) -> SimulatedDisk:
    """A world's disk as its last process left it, in order."""
    left = world.disk.copy()
    assert isinstance(left, SimulatedDisk), "a disk leaves one of its own make"
    return left


ROT: dict[str, tuple[Callable[[World], SimulatedDisk], Callable[[Body], None]]] = {
    "the file is shorter": (closed, _short),
    "something follows the close": (closed, _behind),
    "something follows a footer": (being_sealed, _behind),
    "an early frame": (closed, _in_the_middle),
    "something far behind": (closed, _far),
    "garbage at the end": (closed, _garbage),
    "an old frame again": (closed, _repeated),
    "the last frame": (closed, _last),
}


def refusals(world: World) -> Iterator[str]:
    """The rules by which each kind of damage to a world's journal is refused; raises `Breach` if one changes it."""
    with LocalLog.open(FOLDER, SEGMENT, storage=world.disk.copy()) as log:
        _, end = fold(log)
    for name, (found, damage) in ROT.items():
        disk = found(world)
        body = Body(disk)
        if len(body.data) < 3:
            continue
        damage(body)
        try:
            with LocalLog.open(FOLDER, SEGMENT, storage=disk) as log:
                _, reached = fold(log)
        except JournalDamaged as refused:
            yield refused.rule
        else:
            if reached != end:
                raise Breach(f"7: {name} was damaged, and {end - reached} events are gone without a word")
