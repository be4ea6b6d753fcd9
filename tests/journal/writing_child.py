"""A real writer to be killed: appends numbered groups for ever and says each acknowledged count, one line each.

Run as `python -m tests.journal.writing_child FOLDER`. Every group is a number and its double, so half a group shows.
"""

import sys
import threading
from pathlib import Path

import msgspec

from journal import LOCAL_PARTITION, JournalOptions, LocalLog

OPTIONS = JournalOptions(segment_bytes=64 * 1024, soft_frame_bytes=2048)


def main(folder: Path) -> None:
    """Open, then append until killed, beside a thread that prepares spares."""
    log = LocalLog.open(folder, OPTIONS)
    owner = log.own(LOCAL_PARTITION)
    threading.Thread(target=_upkeep, args=(log,), daemon=True).start()
    number = owner.next_seq // 2
    while True:
        groups = [_group(each) for each in range(number, number + 1 + number % 20)]
        number += len(groups)
        acked = owner.append(groups, at=number)
        sys.stdout.write(f"{acked}\n")
        sys.stdout.flush()
        if number % 7 == 0:
            owner.confirm()


def _group(number: int) -> list[bytes]:
    padding = "x" * (number % 11 * 40)
    return [msgspec.msgpack.encode([number, padding]), msgspec.msgpack.encode([2 * number, padding])]


def _upkeep(log: LocalLog) -> None:
    while True:
        log.prepare_spare()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
