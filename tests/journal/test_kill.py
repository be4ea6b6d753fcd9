"""SIGKILL of a real writer: what it acknowledged is there, whole, in order, life after life."""

import random
import subprocess
import sys
from pathlib import Path

import msgspec

from journal import LOCAL_PARTITION, LocalLog, verify
from tests.journal.writing_child import OPTIONS

KILLS = 5
ROOT = Path(__file__).parents[2]


def live_and_die(folder: Path, lines: int) -> int:
    """Let a child append until it said so many lines, kill it, and return the last count it acknowledged."""
    command = [sys.executable, "-m", "tests.journal.writing_child", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        stdout = child.stdout
        assert stdout is not None
        acked = [int(stdout.readline()) for _ in range(lines)]
        child.kill()
        # What was said before the kill took effect counts; a last line cut short does not.
        acked += [int(line) for line in stdout if line.endswith("\n")]
    return acked[-1]


def test_given_a_writer_when_killed_again_and_again_then_every_acknowledged_group_is_there(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(KILLS):
        acked = live_and_die(tmp_path, chance.randint(1, 100))
        with LocalLog.open(tmp_path, OPTIONS) as log:
            assert log.next_seq >= acked
            assert log.next_seq % 2 == 0
            seq = 0
            for frame in log.read(LOCAL_PARTITION):
                assert frame.base_seq == seq
                for number, _ in msgspec.msgpack.decode(frame.payload, type=list[tuple[int, str]]):
                    assert number == (seq // 2 if seq % 2 == 0 else seq // 2 * 2)
                    seq += 1
            assert seq == log.next_seq
        report = verify(tmp_path)
        assert report.faults == ()
        assert report.notes == ()
        assert report.next_seq == seq
