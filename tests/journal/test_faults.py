"""A failing disk and a failing power supply, at every operation of a journal's life.

The oracle is the list of what was acknowledged. Afterwards all of it must be there, in order, followed at most by
whole groups of the one append whose outcome was unknown.
"""

import errno
import random
from collections.abc import Callable

import pytest

from journal import (
    LOCAL_PARTITION,
    JournalDamaged,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalUnreadable,
    LocalLog,
    verify,
)
from tests.journal.disk import FOLDER, Disk, PowerLossError
from tests.journal.stories import SMALL, group, held, open_on

SEED = 20_260_101


class Life:
    """A journal's life: opened twice, rotating, confirming, saving snapshots, trimming."""

    def __init__(self) -> None:
        self.acked: list[object] = []
        self.unknown: list[list[object]] = []

    def live(self, disk: Disk) -> None:
        for start in (0, 40):
            with open_on(disk) as log:
                self._write(log, start)

    def _write(self, log: LocalLog, start: int) -> None:
        owner = log.own(LOCAL_PARTITION)
        for number in range(start, start + 24):
            groups: list[list[object]] = [[number, "x" * (number % 7 * 130)], ["y" * (number % 3 * 300)]]
            self.unknown = groups
            owner.append([group(*one) for one in groups], at=number)
            self.acked.extend(value for one in groups for value in one)
            self.unknown = []
            if number % 3 == 0:
                owner.confirm()
            if number % 9 == 0:
                log.prepare_spare(lambda: None)
        log.save_snapshot(LOCAL_PARTITION, log.next_seq - 30, b"state", schema="v1")
        log.trim(LOCAL_PARTITION, log.next_seq)
        owner.append([group(*one) for one in self._last(start)], at=start + 30)
        self.acked.extend(value for one in self._last(start) for value in one)
        self.unknown = []

    def _last(self, start: int) -> list[list[object]]:
        self.unknown = [["last", start]]
        return self.unknown

    def check(self, disk: Disk) -> None:
        """Open what is left and compare it with what was promised."""
        with open_on(disk) as log:
            first, next_seq = log.first_seq, log.next_seq
            values = held(log, first - 1)
        allowed = [list(self.acked)]
        for one in self.unknown:
            allowed.append([*allowed[-1], *one])
        assert next_seq in {len(one) for one in allowed}
        assert values == next(one for one in allowed if len(one) == next_seq)[first:]
        state = disk.state()
        report = verify(FOLDER, storage=disk)
        assert report.faults == ()
        with open_on(disk.copy()) as again:
            assert again.next_seq == next_seq
            assert held(again, first - 1) == values
            assert again.recovery.torn_bytes == 0
        assert disk.state() == state


def operations() -> list[str]:
    """What a life without faults does to the disk."""
    disk = Disk()
    life = Life()
    life.live(disk)
    life.check(disk.copy())
    return disk.log


OPERATIONS = operations()
CHANGES = [number for number, name in enumerate(OPERATIONS) if name != "read"]


def choices(number: int) -> list[Callable[[], bool]]:
    """Nothing survives, everything does, and some in between."""
    source = random.Random(SEED + number)
    return [lambda: False, lambda: True, *[lambda: source.random() < 0.5] * 3]


def test_given_a_life_when_counted_then_it_does_everything() -> None:
    assert set(OPERATIONS) == {
        "allocate", "create", "read", "rename", "sync", "sync_folder", "truncate", "unlink", "write", "write_durable"
    }  # fmt: skip


@pytest.mark.parametrize("part", range(8))
def test_given_a_power_loss_at_any_operation_when_opened_then_what_was_acknowledged_is_there(part: int) -> None:
    for number in CHANGES[part::8]:
        disk, life = Disk(), Life()
        disk.plan[number] = "power"
        with pytest.raises(PowerLossError):
            life.live(disk)
        for choose in choices(number):
            life.check(disk.power_loss(choose))


def test_given_a_power_loss_during_recovery_when_opened_again_then_what_was_acknowledged_is_there() -> None:
    """Every operation of the recovery after a torn commit, a torn footer, and a rotation cut short."""
    interesting = [
        number
        for number in CHANGES
        if OPERATIONS[number] in {"write_durable", "rename", "truncate"} and number > len(OPERATIONS) // 3
    ][::3]
    for number in interesting:
        disk, life = Disk(), Life()
        disk.plan[number] = "power"
        with pytest.raises(PowerLossError):
            life.live(disk)
        source = random.Random(SEED + number)
        state = disk.power_loss(lambda source=source: source.random() < 0.5)
        step = 0
        while True:
            again = state.copy()
            again.plan[step] = "power"
            try:
                open_on(again)
            except PowerLossError:
                if again.log[-1] != "read":
                    life.check(again.power_loss(lambda source=source: source.random() < 0.5))
                step += 1
            else:
                break
        assert step > 3


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EFBIG])
def test_given_an_error_at_any_operation_when_met_then_acknowledged_records_survive(code: int) -> None:
    """Whatever the journal says, it says it as a `JournalError`, and a later open finds every promise kept."""
    for number in CHANGES:
        disk, life = Disk(), Life()
        disk.plan[number] = code
        try:
            life.live(disk)
        except JournalFull:
            assert code != errno.EIO
            life.unknown = []  # Nothing was written.
        except JournalError as error:
            assert isinstance(error, JournalFailed | JournalUnreadable)  # noqa: PT017 - which error depends on the place.
        disk.plan.clear()
        life.check(disk.copy())
        life.check(disk.power_loss(lambda: False))


def test_given_short_writes_when_they_happen_then_the_rest_is_written() -> None:
    for number in CHANGES:
        if not OPERATIONS[number].startswith("write"):
            continue
        disk, life = Disk(), Life()
        disk.plan[number] = "short"
        life.live(disk)
        life.check(disk.power_loss(lambda: False))


def test_given_a_failed_sync_when_the_disk_heals_then_the_journal_stays_failed() -> None:
    """A second sync would succeed over pages the first one dropped, so it is never tried."""
    disk = Disk()
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    owner.append([group("a")], at=1)
    disk.every["write_durable"] = errno.EIO
    with pytest.raises(JournalFailed, match="a commit failed.*outcome is unknown"):
        owner.append([group("b")], at=2)
    disk.every.clear()
    before = len(disk.log)
    for use in (
        lambda: owner.append([group("c")], at=3),
        owner.confirm,
        lambda: log.own(LOCAL_PARTITION),
        log.prepare_spare,
        lambda: log.trim(LOCAL_PARTITION, 0),
        lambda: log.save_snapshot(LOCAL_PARTITION, 0, b"", schema=""),
    ):
        with pytest.raises(JournalFailed, match="failed before"):
            use()
    assert log.stats().failed
    assert held(log) == ["a"]
    owner.close()
    log.close()
    assert set(disk.log[before:]) == {"read"}


def test_given_an_interrupted_write_when_used_again_then_it_counts_as_failed() -> None:
    """A signal's exception may come at any moment; then nobody knows what was written."""

    class Interrupted(Disk):
        armed = False

        def _operation(self, name: str) -> str:
            if self.armed and name == "write_durable":
                raise KeyboardInterrupt
            return super()._operation(name)

    disk = Interrupted()
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    disk.armed = True
    with pytest.raises(KeyboardInterrupt):
        owner.append([group("a")], at=1)
    disk.armed = False
    with pytest.raises(JournalFailed, match="a commit was interrupted"):
        owner.append([group("b")], at=2)


@pytest.mark.parametrize("where", ["active", "sealed"])
def test_given_a_read_error_when_opening_then_nothing_is_cut_or_called_damaged(where: str) -> None:
    disk = Disk()
    life = Life()
    life.live(disk)
    disk = disk.copy()
    before = {str(FOLDER / name): bytes(disk.content(name)) for name in disk.segments()}
    quiet = disk.copy()
    open_on(quiet)
    reads = [number for number, name in enumerate(quiet.log) if name == "read"]
    disk.plan[reads[-1] if where == "active" else reads[1]] = errno.EIO
    with pytest.raises(JournalUnreadable, match="nothing was changed"):
        open_on(disk)
    after = {name: content for name, content in disk.state().items() if name in before}
    assert after == before
    disk.plan.clear()
    life.check(disk.copy())


def test_given_a_read_error_when_reading_then_it_is_no_damage() -> None:
    disk = Disk()
    log = open_on(disk)
    log.own(LOCAL_PARTITION).append([group("a")], at=1)
    disk.every["read"] = errno.EIO
    with pytest.raises(JournalUnreadable):
        held(log)
    with pytest.raises(JournalUnreadable):
        LocalLog.open_reader(FOLDER, storage=disk)
    with pytest.raises(JournalUnreadable):
        verify(FOLDER, storage=disk)
    disk.every.clear()
    assert held(log) == ["a"]


def test_given_a_full_disk_when_appending_then_it_says_so_before_the_room_is_gone_and_recovers() -> None:
    disk = Disk()
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    acked: list[object] = []
    disk.free = 0
    assert log.prepare_spare() is False
    with pytest.raises(JournalFull, match="nothing was written, retry when space returns"):
        for number in range(1000):
            owner.append([group(number, "x" * 300)], at=number)
            acked += [number, "x" * 300]
    assert held(log) == acked
    drained = owner.append([group("drained")], at=2000, drain=True)
    assert drained == len(acked) + 1
    with pytest.raises(JournalFull):
        owner.append([group("hit")], at=2001)
    disk.free = 10 * SMALL.segment_bytes
    assert owner.append([group("hit")], at=2002) == drained + 1
    for number in range(60):
        owner.append([group(number, "x" * 300)], at=3000)
    log.close()
    assert verify(FOLDER, storage=disk).faults == ()


def test_given_a_full_disk_when_reserving_then_it_is_refused_until_space_returns() -> None:
    disk = Disk()
    with open_on(disk) as log:
        owner = log.own(LOCAL_PARTITION)
        disk.free = 0
        assert not owner.reserve()
        assert not [name for name in disk.list_folder(FOLDER) if name.startswith("spare")]
        disk.free = SMALL.segment_bytes
        assert owner.reserve()
        assert log.stats().spare_ready
        disk.every["create"] = errno.EIO
        assert owner.reserve(), "what is there needs no disk"


def test_given_a_full_disk_when_draining_uses_everything_then_it_stops_before_the_footer() -> None:
    disk = Disk()
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    disk.free = 0
    number = 0
    with pytest.raises(JournalFull):
        while True:
            owner.append([group(number)], at=1, drain=True)
            number += 1
    assert len(disk.segments()) == 1
    log.close()
    disk.free = None
    with open_on(disk.copy()) as log:
        assert held(log) == list(range(number))


def test_given_a_full_disk_when_trimming_then_space_comes_back() -> None:
    """The manifest needs a little space to be replaced; the spare is given up for it."""
    disk = Disk()
    with open_on(disk) as log:
        owner = log.own(LOCAL_PARTITION)
        for number in range(80):
            owner.append([group(number, "x" * 300)], at=number)
        log.save_snapshot(LOCAL_PARTITION, log.next_seq - 1, b"", schema="")
        log.prepare_spare()
        reads = 2  # Of the empty snapshot, before anything is written.
        disk.plan[len(disk.log) + reads] = errno.ENOSPC
        assert log.trim(LOCAL_PARTITION, log.next_seq) > 0
        assert not log.stats().spare_ready
        assert log.first_seq > 0
    assert verify(FOLDER, storage=disk).faults == ()


def test_given_no_space_for_the_manifest_after_rotating_when_space_returns_then_the_append_goes_on() -> None:
    disk = Disk()
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    log.prepare_spare()
    acked = 0
    while len(disk.segments()) == 1:
        creates = [number for number, name in enumerate(disk.log) if name == "create"]
        disk.every["create"] = errno.ENOSPC
        before = log.stats().rotations
        try:
            acked = owner.append([group("x" * 900)], at=1)
        except JournalFull:
            assert log.stats().rotations == before + 1 or creates
            break
    assert log.next_seq == acked
    with pytest.raises(JournalFull):
        owner.append([group("y")], at=1)
    disk.every.clear()
    assert owner.append([group("y")], at=1) == acked + 1
    log.close()
    with open_on(disk.copy()) as log:
        assert held(log) == [*["x" * 900] * acked, "y"]


def test_given_a_full_disk_when_opening_then_it_says_so_and_changes_no_record() -> None:
    disk = Disk()
    disk.free = 0
    with pytest.raises(JournalFull, match="make room and open it again"):
        open_on(disk)
    disk.free = None
    with open_on(disk) as log:
        assert log.next_seq == 0


def test_given_damage_when_a_sealed_frame_is_read_then_the_read_stops_with_the_place() -> None:
    disk = Disk()
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    for number in range(60):
        owner.append([group(number, "x" * 300)], at=number)
    name = disk.segments()[0]
    disk.content(name)[6 * 1024] ^= 1
    with pytest.raises(JournalDamaged) as caught:
        held(log)
    assert caught.value.segment == name
    assert caught.value.offset <= 6 * 1024
