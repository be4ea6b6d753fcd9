"""Write a golden journal: `python -m tests.golden.make NAME`. Run by hand, once for each; no test runs it.

A journal that is there is never written again. `--expect` records anew what it gives, after a change of the fold that
was meant to change what old journals give: say in the commit why that is right.
"""

import sys
from pathlib import Path

import msgspec

from journal import LOCAL_PARTITION, JournalOptions, LocalLog
from protocol.events import encode_event
from tests.golden.expectation import EXPECTED, FOLDER, expectation, read_expectation, replayed
from tests.golden.stories import STORIES

SEGMENT_BYTES = 16 << 10  # Small ones, so that a journal has sealed segments as well as an active one.
EVENTS_OF_A_COMMIT = 10


def write(name: str) -> Path:
    """Tell a story and journal it; returns the folder."""
    folder = FOLDER / name
    folder.mkdir()
    story = STORIES[name]()
    with LocalLog.open(folder / "journal", JournalOptions(segment_bytes=SEGMENT_BYTES)) as log:
        owner = log.own(LOCAL_PARTITION)
        records = [encode_event(event) for event in story.journal]
        for start in range(0, len(records), EVENTS_OF_A_COMMIT):
            owner.append([records[start : start + EVENTS_OF_A_COMMIT]], at=story.at)
        owner.close()
    (folder / "journal" / "LOCK").unlink()  # It names a process of that day.
    return folder


def expect(folder: Path) -> None:
    """Record what a journal gives."""
    found = expectation(*replayed(folder / "journal"))
    if (folder / EXPECTED).exists():
        found = msgspec.structs.replace(found, schema=read_expectation(folder.name).schema)
    (folder / EXPECTED).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def main(arguments: list[str]) -> None:
    """Write what the arguments name."""
    names = [one for one in arguments if one != "--expect"]
    again = len(names) < len(arguments)
    if len(names) != 1 or names[0] not in STORIES:
        sys.exit(f"name one of {', '.join(STORIES)}, not {' '.join(names)!r}")
    folder = FOLDER / names[0]
    if folder.exists() != again:
        sys.exit(f"{folder.name} is there: a golden journal is never written again" if folder.exists() else "none yet")
    expect(folder if again else write(names[0]))
    print(f"{folder.name}: {sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
