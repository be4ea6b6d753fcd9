"""What a journal knows of its cycles, read without a server: current versions, webhook identifiers, what is hidden.

The store beside the journal has it up to where it was last written; the rest is found in the journal by looking at the
tags of its events alone: 0.4 µs each, a fifth of what folding them takes, and no memory.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from journal import LOCAL_PARTITION, LogReader
from protocol.definition import Definition, WebhookStep
from protocol.events import CycleDeployed
from protocol.loading import decode_definition
from protocol.state import CycleRow, DefinitionRow
from runtime.masking import Hidden
from runtime.snapshots import known_versions
from runtime.store import StoreError
from runtime.store.database import peek

_TAG = CycleDeployed.__struct_config__.tag
_events = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_deployed = msgspec.msgpack.Decoder(CycleDeployed).decode


class Deployed(Struct):
    """One cycle: its current version, its webhook identifiers by step, and what any of its versions hides."""

    definition: Definition
    identifiers: dict[str, str]
    hidden: Hidden

    @property
    def webhooks(self) -> dict[str, str]:
        """The identifiers of the webhooks that the current version has."""
        steps = self.definition.steps
        return {step: one for step, one in self.identifiers.items() if isinstance(steps.get(step), WebhookStep)}


class Known:
    """The cycles of one journal, by name."""

    def __init__(self) -> None:
        self.cycles: dict[str, Deployed] = {}
        self._drafted: dict[str, Hidden] = {}

    def learn(self, event: CycleDeployed) -> None:
        """A version became the current one."""
        self._learn(event.cycle, decode_definition(event.definition), event.identifiers)

    def _learn(self, cycle: str, definition: Definition, identifiers: dict[str, str]) -> None:
        known = self.cycles.setdefault(cycle, Deployed(definition, {}, Hidden()))
        known.definition = definition
        known.identifiers.update(identifiers)
        known.hidden.learn(definition)

    def learn_draft(self, definition: Definition) -> None:
        """A version that was never deployed: only what it hides counts."""
        if definition.cycle in self.cycles:
            self.cycles[definition.cycle].hidden.learn(definition)
        else:
            hidden = self._drafted.setdefault(definition.cycle, Hidden())
            hidden.learn(definition)

    def hidden(self, cycle: str) -> Hidden:
        """What must not be shown of a cycle; nothing is known of one that was never deployed, and it has no data."""
        known = self.cycles.get(cycle)
        return self._drafted.get(cycle, Hidden()) if known is None else known.hidden

    def read_store(self, path: Path, next_seq: int) -> int:
        """Learn what the store has; returns the last sequence number it covers, -1 when it is of no use."""
        try:
            applied, cycles, definitions = peek(path)
        except StoreError:
            return -1
        if applied >= next_seq:
            return -1  # Of another journal, or of one that lost its end: a start builds it again.
        self.learn_rows(cycles, definitions)
        return applied

    def learn_rows(self, cycles: list[CycleRow], definitions: list[DefinitionRow]) -> None:
        """Learn what rows say."""
        versions = {row.hash: decode_definition(row.definition) for row in definitions}
        for definition in versions.values():
            self._learn(definition.cycle, definition, {})
        for row in cycles:
            self._learn(row.name, versions[row.definition_hash], row.identifiers)


def read_known(reader: LogReader, store: Path, progress: Callable[[int], None] | None = None) -> Known:
    """Everything that was deployed, up to the durable end.

    Args:
        reader: the journal.
        store: the path of the store beside it, which may be missing or useless.
        progress: called with the sequence number reached, once a frame.
    """
    known = Known()
    applied = known.read_store(store, reader.next_seq)
    if applied + 1 < reader.first_seq:
        applied, cycles, definitions = known_versions(reader)
        known.learn_rows(cycles, definitions)
    for frame in reader.read(LOCAL_PARTITION, applied):
        for seq, packed in enumerate(_events(frame.payload), frame.base_seq):
            if seq > applied and memoryview(packed)[1] == _TAG:  # An array of at most 15 has its tag in byte 1.
                known.learn(_deployed(packed))
        if progress is not None:
            progress(frame.base_seq + frame.count)
    return known
