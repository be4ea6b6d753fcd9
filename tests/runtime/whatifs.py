"""What-ifs over the journals of stories: what a story recorded runs again, with the same cycles or with drafts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.definition import Definition
from protocol.events import CycleDeployed, HitAccepted
from protocol.loading import Source, decode_definition, load_project
from runtime.masking import Hidden
from runtime.whatif import Changed, Outcome, Past, Window, what_if
from tests.protocol.story import Story


@dataclass
class Tried:
    """What a what-if told, and what it came to."""

    outcome: Outcome
    changed: list[Changed] = field(default_factory=list)

    def differences(self) -> list[tuple[str, str, object, object]]:
        """Everything that differs, in the order in which it was told."""
        return [(one.what, one.step, one.recorded, one.draft) for each in self.changed for one in each.differences]


def definitions(*files: str) -> dict[str, Definition]:
    """Cycles of a project, by name."""
    found, faults = load_project([Source(f"{number}.cycle.yaml", text) for number, text in enumerate(files)])
    assert not faults, [str(fault) for fault in faults]
    return found


def latest(story: Story) -> dict[str, Definition]:
    """The definitions that were deployed last."""
    deployed = [event for event in story.journal if isinstance(event, CycleDeployed)]
    return {event.cycle: decode_definition(event.definition) for event in deployed}


def tried(story: Story, drafts: Mapping[str, Definition] | None = None, window: Window | None = None) -> Tried:
    """Run the record of a story with drafts, by default with the cycles it had."""
    drafts = latest(story) if drafts is None else drafts
    hidden = Hidden()
    for definition in (*latest(story).values(), *drafts.values()):
        hidden.learn(definition)

    def original(hit: int) -> HitAccepted:
        event = story.journal[hit]
        assert isinstance(event, HitAccepted)
        return event

    cycles = frozenset(latest(story))
    past = Past(enumerate(story.journal), original, len(story.journal), cycles)
    changed: list[Changed] = []
    outcome = what_if(past, drafts, lambda _: hidden, changed.append, window or Window())
    return Tried(outcome, changed)
