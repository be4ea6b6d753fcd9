"""What every backend of the `Log` seam must do; a backend's tests subclass `LogConformance` and give it an opener."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest

from journal import LOCAL_PARTITION, BadAppend, Fenced, JournalError, JournalTrimmed, Log, TooLarge, WrongSequence
from tests.journal.stories import group, held, record


class Backend(ABC):
    """One log that can be opened again and again."""

    @abstractmethod
    def open(self) -> Log:
        """Open it, after closing what was open before."""

    @abstractmethod
    def finish(self) -> None:
        """Close what is open."""


class LogConformance(ABC):
    """The suite."""

    @abstractmethod
    def make_backend(self) -> Backend:
        """A backend with an empty log, whose segments hold some 10 KiB."""

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        backend = self.make_backend()
        yield backend
        backend.finish()

    def test_given_an_empty_log_when_read_then_it_ends_at_once(self, backend: Backend) -> None:
        log = backend.open()
        assert held(log) == []
        assert (log.first_seq, log.next_seq) == (0, 0)

    def test_given_groups_when_appended_then_sequence_numbers_are_dense_and_order_is_kept(
        self, backend: Backend
    ) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        assert owner.append([group("a", "b"), group("c")], at=1) == 3
        assert owner.append([group("d")], at=2) == 4
        assert owner.next_seq == log.next_seq == 4
        frames = list(log.read(LOCAL_PARTITION))
        assert [(frame.base_seq, frame.count, frame.at) for frame in frames] == [(0, 3, 1), (3, 1, 2)]
        assert held(log) == ["a", "b", "c", "d"]

    def test_given_space_when_reserved_then_there_is_room_and_no_record(self, backend: Backend) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        assert owner.reserve()
        assert owner.reserve()
        assert held(log) == []
        log.own(LOCAL_PARTITION)
        with pytest.raises(Fenced):
            owner.reserve()

    def test_given_nothing_to_append_when_appended_then_nothing_changes(self, backend: Backend) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        assert owner.append([], at=1) == 0
        assert owner.append([[], []], at=1) == 0
        assert held(log) == []

    def test_given_an_expected_sequence_when_it_is_wrong_then_nothing_is_written(self, backend: Backend) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        owner.append([group("a")], at=1, expected=0)
        with pytest.raises(WrongSequence, match="expected to write sequence number 0, but the next one is 1") as caught:
            owner.append([group("b")], at=2, expected=0)
        assert (caught.value.expected, caught.value.actual) == (0, 1)
        assert owner.append([group("b")], at=2, expected=1) == 2
        assert held(log) == ["a", "b"]

    def test_given_a_clock_that_goes_back_when_appended_then_commit_times_do_not(self, backend: Backend) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        for at in (5, 3, 9, 1):
            owner.append([group(at)], at=at)
        assert [frame.at for frame in log.read(LOCAL_PARTITION)] == [5, 5, 9, 9]

    @pytest.mark.parametrize("after", range(-1, 12))
    def test_given_a_place_when_read_from_there_then_exactly_the_later_frames_come(
        self, backend: Backend, after: int
    ) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        for start in range(0, 12, 3):
            owner.append([group(start, start + 1, start + 2)], at=start)
        whole = after + 1 - (after + 1) % 3
        assert held(log, after) == list(range(whole, 12))
        assert held(log, after, after) == []
        assert held(log, after, after + 1) == list(range(whole, min(whole + 3, 12)))

    def test_given_much_when_appended_then_segments_rotate_and_nothing_is_missed(self, backend: Backend) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        for number in range(150):
            owner.append([group(number, "x" * 200)], at=number)
        assert len(log.segments()) > 3
        expected = [value for number in range(150) for value in (number, "x" * 200)]
        assert held(log) == expected
        for after in range(-1, 299, 7):
            assert held(log, after) == expected[after + 1 - (after + 1) % 2 :]
        sealed = log.segments()[:-1]
        assert all(info.sealed for info in sealed)
        assert [info.next_seq for info in sealed] == [info.base_seq for info in log.segments()[1:]]

    def test_given_a_closed_log_when_opened_again_then_it_holds_the_same_and_goes_on(self, backend: Backend) -> None:
        owner = backend.open().own(LOCAL_PARTITION)
        owner.append([group("a")], at=1)
        owner.close()
        log = backend.open()
        assert held(log) == ["a"]
        assert log.own(LOCAL_PARTITION).append([group("b")], at=2) == 2
        log = backend.open()
        assert held(log) == ["a", "b"]

    def test_given_large_groups_when_appended_then_each_stays_in_one_frame(self, backend: Backend) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        groups = [group(*range(size)) for size in (1, 400, 2, 300, 3)]
        owner.append(groups, at=1)
        ends = {frame.base_seq + frame.count for frame in log.read(LOCAL_PARTITION)}
        starts = [0, 1, 401, 403, 703]
        inside = {
            seq
            for start, size in zip(starts, (1, 400, 2, 300, 3), strict=True)
            for seq in range(start + 1, start + size)
        }
        assert not ends & inside

    def test_given_a_group_that_fits_nowhere_when_appended_then_it_is_refused_and_the_log_lives(
        self, backend: Backend
    ) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        with pytest.raises(TooLarge):
            owner.append([[bytes(17 * 1024 * 1024)]], at=1)
        with pytest.raises(BadAppend, match="no bytes"):
            owner.append([[record(1), b""]], at=1)
        assert owner.append([group("a")], at=1) == 1
        assert held(log) == ["a"]

    def test_given_a_second_owner_when_the_first_appends_then_it_is_fenced(self, backend: Backend) -> None:
        log = backend.open()
        first = log.own(LOCAL_PARTITION)
        first.append([group("a")], at=1)
        second = log.own(LOCAL_PARTITION)
        assert second.epoch > first.epoch
        with pytest.raises(Fenced, match=f"epoch {first.epoch}, but epoch {second.epoch} took over"):
            first.append([group("lost")], at=2)
        with pytest.raises(Fenced):
            first.confirm()
        first.close()
        assert second.append([group("b")], at=2) == 2
        assert held(log) == ["a", "b"]

    def test_given_a_reopened_log_when_owned_then_the_epoch_rose(self, backend: Backend) -> None:
        before = backend.open().own(LOCAL_PARTITION).epoch
        assert backend.open().own(LOCAL_PARTITION).epoch > before

    def test_given_an_unknown_partition_when_asked_for_then_the_error_says_which_there_is(
        self, backend: Backend
    ) -> None:
        log = backend.open()
        with pytest.raises(BadAppend, match=LOCAL_PARTITION):
            log.own("another")
        with pytest.raises(JournalError):
            log.read("another")

    def test_given_an_owner_that_appends_when_read_in_another_thread_then_only_whole_prefixes_are_seen(
        self, backend: Backend
    ) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        seen: list[int] = []
        wrong: list[object] = []
        done = threading.Event()

        def follow() -> None:
            while not (done.is_set() and log.next_seq == len(seen)):
                for frame in log.read(LOCAL_PARTITION, len(seen) - 1):
                    if frame.base_seq != len(seen):
                        wrong.append(frame)
                    seen.extend(range(frame.base_seq, frame.base_seq + frame.count))

        reader = threading.Thread(target=follow)
        reader.start()
        for number in range(300):
            owner.append([group(number, "y" * 50)], at=number)
            if number % 10 == 0:
                owner.confirm()
        done.set()
        reader.join()
        assert wrong == []
        assert seen == list(range(600))

    def test_given_a_snapshot_when_loaded_then_it_is_the_newest_one(self, backend: Backend) -> None:
        log = backend.open()
        assert log.load_snapshot(LOCAL_PARTITION) is None
        log.own(LOCAL_PARTITION).append([group("a", "b", "c")], at=1)
        log.save_snapshot(LOCAL_PARTITION, 0, b"one", schema="v1")
        log.save_snapshot(LOCAL_PARTITION, 2, b"three", schema="v1")
        found = backend.open().load_snapshot(LOCAL_PARTITION)
        assert found is not None
        assert (found.seq, found.state, found.skipped) == (2, b"three", ())

    def test_given_a_snapshot_of_the_future_or_the_past_when_saved_then_it_is_refused(self, backend: Backend) -> None:
        log = backend.open()
        log.own(LOCAL_PARTITION).append([group("a", "b")], at=1)
        with pytest.raises(BadAppend, match="durable"):
            log.save_snapshot(LOCAL_PARTITION, 2, b"", schema="v1")
        log.save_snapshot(LOCAL_PARTITION, 1, b"new", schema="v1")
        with pytest.raises(BadAppend, match="older"):
            log.save_snapshot(LOCAL_PARTITION, 0, b"old", schema="v1")

    def test_given_snapshots_when_trimmed_then_nothing_the_older_one_needs_is_dropped(self, backend: Backend) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        for number in range(100):
            owner.append([group(number, "x" * 300)], at=number)
        assert log.trim(LOCAL_PARTITION, 199) == 0
        log.save_snapshot(LOCAL_PARTITION, 80, b"older", schema="v1")
        log.save_snapshot(LOCAL_PARTITION, 190, b"newer", schema="v1")
        assert log.trim(LOCAL_PARTITION, 199) > 0
        assert 0 < log.first_seq <= 81
        with pytest.raises(JournalTrimmed, match=f"the first one kept is {log.first_seq}"):
            log.read(LOCAL_PARTITION)
        kept = held(log, log.first_seq - 1)
        assert kept[-2:] == [99, "x" * 300]
        log = backend.open()
        assert held(log, log.first_seq - 1) == kept
        assert log.own(LOCAL_PARTITION).append([group("more")], at=200) == 201

    def test_given_figures_when_asked_for_then_they_agree_with_the_segments(self, backend: Backend) -> None:
        log = backend.open()
        owner = log.own(LOCAL_PARTITION)
        for number in range(60):
            owner.append([group(number, "x" * 300)], at=1000 + number)
        stats, segments = log.stats(), log.segments()
        assert (stats.first_seq, stats.next_seq, stats.epoch) == (0, 120, owner.epoch)
        assert (stats.commits, stats.records, stats.failed) == (60, 120, False)
        assert stats.segments == len(segments)
        assert stats.bytes_used == sum(info.bytes_used for info in segments)
        assert segments[0].first_at == 1000
        assert segments[-1].last_at == 1059
