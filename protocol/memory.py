"""The state kept in plain dicts: what replay folds into, and what tests look at."""

from bisect import bisect_left, insort
from typing import Any

from protocol.loading import decode_definition
from protocol.program import Program, compile_program
from protocol.state import (
    ROW_KEYS,
    CycleRow,
    DefinitionRow,
    HitRow,
    IncidentRow,
    IndexName,
    Removable,
    Row,
    TransactionRow,
    UsageRow,
    usage_name,
)


class MemoryState:
    """A `State` of dicts; cost grows with everything that ever happened."""

    def __init__(self) -> None:
        self.cycles: dict[str, CycleRow] = {}
        self.definitions: dict[str, DefinitionRow] = {}
        self.transactions: dict[int, TransactionRow] = {}
        self.hits: dict[int, HitRow] = {}
        self.incidents: dict[int, IncidentRow] = {}
        self.usages: dict[str, UsageRow] = {}
        self._tables: dict[type[Row], dict[Any, Any]] = {
            CycleRow: self.cycles,
            DefinitionRow: self.definitions,
            TransactionRow: self.transactions,
            HitRow: self.hits,
            IncidentRow: self.incidents,
            UsageRow: self.usages,
        }
        self._programs: dict[str, Program] = {}
        self._index: dict[tuple[str, tuple[str, ...]], list[int]] = {}

    def cycle(self, name: str) -> CycleRow:
        return self.cycles[name]

    def program(self, definition_hash: str) -> Program:
        program = self._programs.get(definition_hash)
        if program is None:
            definition = decode_definition(self.definitions[definition_hash].definition)
            program = self._programs[definition_hash] = compile_program(definition, definition_hash)
        return program

    def transaction(self, transaction: int) -> TransactionRow:
        return self.transactions[transaction]

    def hit(self, hit: int) -> HitRow:
        return self.hits[hit]

    def incident(self, incident: int) -> IncidentRow:
        return self.incidents[incident]

    def usage(self, day: int, cycle: str, step: str) -> UsageRow:
        name = usage_name(day, cycle, step)
        return self.usages.get(name) or UsageRow(name, day, cycle, step)

    def find(self, index: IndexName, key: tuple[str, ...], limit: int) -> list[int]:
        return self._index.get((index, key), [])[:limit]

    def find_latest(self, index: IndexName, key: tuple[str, ...], limit: int) -> list[int]:
        return self._index.get((index, key), [])[: -limit - 1 : -1]

    def running(self, cycle: str) -> list[int]:
        rows = self.transactions.values()
        return [row.id for row in rows if row.cycle == cycle and row.status == "running"]

    def save(self, row: Row) -> None:
        kind = type(row)
        self._tables[kind][ROW_KEYS[kind](row)] = row

    def drop(self, kind: type[Removable], row_id: int) -> None:
        self._tables[kind].pop(row_id, None)

    def entries(self) -> list[tuple[str, tuple[str, ...], list[int]]]:
        """Every index entry: the index, the key and the ids filed under it."""
        return [(name, key, ids) for (name, key), ids in self._index.items() if ids]

    def file(self, index: IndexName, key: tuple[str, ...], row_id: int) -> None:
        ids = self._index.setdefault((index, key), [])
        place = bisect_left(ids, row_id)
        if place == len(ids) or ids[place] != row_id:
            insort(ids, row_id)

    def unfile(self, index: IndexName, key: tuple[str, ...], row_id: int) -> None:
        ids = self._index.get((index, key), [])
        if row_id in ids:
            ids.remove(row_id)
