"""`replay --what-if`: the recorded past with a draft of a project, and what would have been different."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from journal import LOCAL_PARTITION, LogReader
from protocol.definition import Definition
from protocol.events import AnyEvent, HitAccepted
from runtime.cli.journal import numbered
from runtime.cli.output import FAULTS, fail, nearest, print_json, print_line, progress_bar
from runtime.deployed import Known
from runtime.project import read_project
from runtime.replay import events_of
from runtime.whatif import Changed, Outcome, Past, Window, what_if

WIDTH = 120  # Characters of one value that a person is shown; --json has all of them.


def try_draft(reader: LogReader, known: Known, project: Path, cycle: str, window: Window, *, json: bool) -> None:
    """Run the past with a draft and print what changes; fails the command, as `diff` does, when something does."""
    drafts = _drafts(project, cycle)
    for definition in drafts.values():
        known.learn_draft(definition)

    def original(hit: int) -> HitAccepted:
        for frame_seq, event in numbered(reader, hit - 1, hit):
            if frame_seq == hit and isinstance(event, HitAccepted):
                return event
        return fail(FAULTS, f"the journal no longer holds request {hit}")

    with progress_bar("what if", reader.next_seq) as show:

        def events() -> Iterator[tuple[int, AnyEvent]]:
            for frame in reader.read(LOCAL_PARTITION, -1):
                show(frame.base_seq)
                yield from events_of(frame)

        past = Past(events(), original, reader.next_seq, frozenset(known.cycles))
        outcome = what_if(past, drafts, known.hidden, print_json if json else _print, window)
    if json:
        print_json(outcome)
    else:
        _print_outcome(outcome)
    if not outcome.is_same:
        fail(FAULTS, "the draft changes what happens")


def _drafts(project: Path, cycle: str) -> Mapping[str, Definition]:
    drafts, faults = read_project(project)
    if faults:
        for fault in faults:
            print_line(str(fault))
        fail(FAULTS, f"the draft has {len(faults)} fault(s): nothing was tried")
    if cycle and cycle not in drafts:
        fail(FAULTS, f"the draft has no cycle {cycle}{nearest(cycle, drafts)}")
    return {name: one for name, one in drafts.items() if cycle in ("", name)}


def _print(changed: Changed) -> None:
    """What differs about one transaction, for a person."""
    about = [changed.transaction or "no transaction", f"hit {changed.hit}" if changed.hit is not None else ""]
    tasks = f", {changed.tasks:+} task(s)" if changed.tasks else ""
    print_line(f"{', '.join(part for part in about if part)}{tasks}")
    for one in changed.differences:
        print_line(f"  {one.what}{f' {one.step}' if one.step else ''}: {_told(one.recorded, one.draft)}")
        if one.what == "not recorded":
            print_line("    no answer to this call is recorded: the pass stops here")


def _told(recorded: dict[str, Any] | None, draft: dict[str, Any] | None) -> str:
    """Both sides where only one part differs; else each in full."""
    if recorded is None or draft is None:
        return f"{_short(recorded)} → {_short(draft)}"
    names = [
        name
        for name in (*recorded, *(name for name in draft if name not in recorded))
        if recorded.get(name) != draft.get(name)
    ]
    if not names:
        return "differs where it is masked"
    return "; ".join(f"{name} {_short(recorded.get(name))} → {_short(draft.get(name))}" for name in names)


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        value = {name: one for name, one in value.items() if one not in (None, "", [], {})}
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}… ({len(text)} characters)"


def _print_outcome(outcome: Outcome) -> None:
    print_line(
        f"{outcome.hits} requests run: {outcome.transactions} transaction(s) differ, {outcome.requests} request(s) "
        f"found another place, {outcome.not_recorded} transaction(s) stopped at a call that is not recorded"
    )
    for kind, count in sorted(outcome.kinds.items()):
        print_line(f"  {kind}: {count}")
    for cycle, (recorded, draft) in outcome.tasks.items():
        print_line(f"  tasks of {cycle}: {recorded} → {draft}")
