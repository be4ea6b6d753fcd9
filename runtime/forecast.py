"""What a deploy would mean for the transactions of a journal: who would move at the next pass, who stay, and why."""

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from protocol.definition import Definition
from protocol.loading import encode_definition, version_name
from protocol.memory import MemoryState
from protocol.moving import weigh
from protocol.program import Program, compile_program
from protocol.state import TransactionRow


class Group(Struct):
    """Transactions of one version of a cycle that a request would run from one webhook."""

    cycle: str
    version: str
    step: str
    held: int = 0
    completed: int = 0
    move: int = 0
    stay: int = 0
    reasons: dict[str, int] = {}  # Why they stay, and how many for it; one may have several.


class Forecast(Struct):
    """All groups that do not run the project's version yet, as of an event of the journal."""

    seq: int
    move: int
    stay: int
    groups: list[Group]


def forecast(state: MemoryState, seq: int, definitions: Mapping[str, Definition]) -> Forecast:
    """Weigh every transaction that holds, or is completed and can be run again, against the versions of a project."""
    programs = {name: _program(definition) for name, definition in definitions.items()}
    groups: dict[tuple[str, str, str], Group] = {}
    for row in state.transactions.values():
        program = programs.get(row.cycle)
        if row.status not in ("held", "completed") or not row.reached:
            continue
        if program is not None and program.hash == row.definition_hash:
            continue
        step = row.step if row.step in row.reached else list(row.reached)[-1]
        name = (row.cycle, row.definition_hash, step)
        group = groups.setdefault(name, Group(*name, reasons={}))
        _count(group, row, _reasons(state, row, program, step))
    found = [groups[name] for name in sorted(groups)]
    return Forecast(seq, sum(one.move for one in found), sum(one.stay for one in found), found)


def _program(definition: Definition) -> Program:
    return compile_program(definition, version_name(encode_definition(definition)))


def _reasons(state: MemoryState, row: TransactionRow, program: Program | None, step: str) -> list[str]:
    if program is None:
        return ["the project has no such cycle"]
    return weigh(state, row, program, step).reasons


def _count(group: Group, row: TransactionRow, reasons: list[str]) -> None:
    group.held += row.status == "held"
    group.completed += row.status == "completed"
    group.move += not reasons
    group.stay += bool(reasons)
    group.reasons = dict(sorted((Counter(group.reasons) + Counter(reasons)).items()))
