"""Cycles made at random, of every kind of step, in a form from which both the file and the prediction follow.

What a call did is known by its body: the step, the id its trigger brought, the number of the callback whose pass it
is in (0 before any), and the item of a split list. So effects can be predicted without knowing a transaction's name.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from protocol.state import Reply

RETRY = f"{{retry: [{', '.join(['1 second'] * 12)}]}}"
LATER = 2
HOLDS = ("hold", "part_hold")
TRIGGER, BACK, CHILD = "asked", "back", "worker"
SCRIPT, LOOK, TIDY = "doubling:double", "doubling:look", "doubling:tidy"
EVERY_LOOKED, EVERY_TIDIED = 5, 3  # What the two functions around the trigger refuse, and let run nothing.
RATE = 3  # Calls in a window, of a partner with limits.
WINDOWS_S = {1: "second", 60: "minute"}


@dataclass(frozen=True)
class Step:
    """One step; `argument` is what its kind needs: seconds of a delay, the divisor of a decision."""

    kind: str
    name: str
    argument: int = 0


@dataclass(frozen=True)
class Program:
    """A cycle `main`, and the cycle `worker` that its links hand over to.

    Attributes:
        steps: after the trigger.
        hold_hours: how long a hold lasts, 0 without end; then the pass ends.
        collects: requests to the stopped cycle are kept.
        version: differs between deploys of otherwise equal programs.
        park_minutes: how long a callback waits for its hold.
        hooked: functions of the project look at what comes to the trigger.
        ordered: callbacks are ignored that are older than the last one.
        rejects: callbacks that nothing waits for are refused.
        limited: the partner takes two calls at once, and three in so many seconds.
        keeps: how long what is over is kept; "" for longer than a run lasts.
        alerts: whether incidents are told to somebody.
        quota: tasks of a month, 0 without end.
    """

    steps: tuple[Step, ...]
    hold_hours: int = 0
    collects: bool = False
    version: int = 1
    park_minutes: int = 3 * 24 * 60
    hooked: bool = False
    ordered: bool = False
    rejects: bool = False
    limited: int = 0
    keeps: str = ""
    alerts: bool = False
    quota: int = 0

    def has(self, kind: str) -> bool:
        """Whether it has a step of a kind."""
        return any(step.kind == kind for step in self.steps)

    @property
    def is_predicted(self) -> bool:
        """Whether the model says what comes of it; of parts that hold it says only that no request is lost."""
        return not self.has("part_hold")

    def before_hold(self, kind: str) -> bool:
        """Whether the first pass comes by a step of a kind, if no decision ends it."""
        for step in self.steps:
            if step.kind in ("hold", "split", "wait_all"):
                return step.kind == kind
            if step.kind == kind:
                return True
        return False

    @property
    def text(self) -> str:
        """The file of the cycle."""
        limits = f", concurrency: 2, rate: {RATE}/{WINDOWS_S[self.limited]}" if self.limited else ""
        hooks = [f"    before_webhook: {LOOK}", f"    after_webhook: {TIDY}"] if self.hooked else []
        lines = [
            "cycle: main",
            f"description: version {self.version}",
            f'connectors: {{shop: {{}}, partner: {{base_url: "http://partner.example"{limits}}}}}',
            f"settings: {{on_error: {RETRY}, while_stopped: {'collect' if self.collects else 'refuse'}}}",
            "steps:",
            f"  {TRIGGER}:",
            "    webhook: shop",
            "    identifier: main-asked",
            "    fields: {id: {type: integer, required: true}, items: {type: list, default: []}}",
            *hooks,
        ]
        seen = _Seen()
        for step in self.steps:
            lines += WRITERS[step.kind](self, step, seen)
        return "\n".join(lines) + "\n"

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the project."""
        return (self.text, WORKER) if self.has("link") else (self.text,)


@dataclass
class Request:
    """One request of a sender, and what he was told."""

    step: str
    id: int
    n: int = 0
    items: list[int] = field(default_factory=list)
    key: str = ""
    pad: int = 0
    item: int = 0  # Of a callback for one part of a list.
    answers: list[Reply] = field(default_factory=list)
    tries: int = 0

    @property
    def body(self) -> bytes:
        """The same at every try."""
        fields: dict[str, Any] = {"id": self.id}
        fields |= {"items": self.items} if self.step == TRIGGER else {"n": self.n}
        fields |= {"item": self.item} if self.item else {}
        fields |= {"pad": "x" * self.pad} if self.pad else {}
        return msgspec.json.encode(fields)

    @property
    def accepted(self) -> bool:
        """Whether he was told that the request is ours now."""
        return any(reply.status < 300 or reply.status in (500, 502, 504) for reply in self.answers)


@dataclass
class _Seen:
    """What the steps written so far offer to later ones."""

    hold: str = ""
    split: str = ""
    gather: str = ""
    names: list[str] = field(default_factory=list)

    def body(self, step: str) -> str:
        """What names an effect."""
        if self.gather:
            return f'{{step: {step}, count: "{{{{ {self.gather}.count }}}}"}}'
        parts = [f"step: {step}", f'id: "{{{{ {TRIGGER}.id }}}}"']
        parts.append(f'n: "{{{{ {self.hold}.n }}}}"' if self.hold else "n: 0")
        if self.split:
            parts.append(f'item: "{{{{ {self.split}.item }}}}"')
        return "{" + ", ".join(parts) + "}"


WORKER = f"""
cycle: {CHILD}
connectors: {{shop: {{}}, partner: {{base_url: "http://partner.example"}}}}
settings: {{on_error: {RETRY}}}
steps:
  given:
    webhook: shop
    identifier: worker-given
    fields: {{step: text, id: integer, n: integer, item: integer}}
  did:
    post: partner
    path: /did
    body:
      step: "{{{{ given.step }}}}"
      id: "{{{{ given.id }}}}"
      n: "{{{{ given.n }}}}"
      item: "{{{{ given.item }}}}"
  told: {{respond: {{body: {{done: "{{{{ given.id }}}}"}}}}}}
"""


def _call(_: Program, step: Step, seen: _Seen) -> list[str]:
    """Argument 1 is a call that a person must settle, 2 one that the partner first puts off for a minute."""
    safe = ["    safe_to_repeat: no"] if step.argument == 1 else []
    path = "    path: /later" if step.argument == LATER else "    path: /do"
    return [f"  {step.name}:", "    post: partner", path, f"    body: {seen.body(step.name)}", *safe]


def _refuse(_: Program, step: Step, seen: _Seen) -> list[str]:
    policy = "ignore" if step.argument else "stop_transaction"
    return [
        *_call(_, Step("call", step.name), seen)[:2],
        "    path: /refuse",
        f"    body: {seen.body(step.name)}",
        f"    on_error: {policy}",
    ]


def _link(_: Program, step: Step, seen: _Seen) -> list[str]:
    return [f"  {step.name}:", "    post: shop", f'    url: "cycle:{CHILD}/given"', f"    body: {seen.body(step.name)}"]


def _decide(_: Program, step: Step, seen: _Seen) -> list[str]:
    del seen
    return [f'  {step.name}: {{decide: "{TRIGGER}.id % {step.argument} != 0", else: end}}']


def _delay(_: Program, step: Step, seen: _Seen) -> list[str]:
    del seen
    return [f"  {step.name}: {{delay: {step.argument} seconds}}"]


def _respond(_: Program, step: Step, seen: _Seen) -> list[str]:
    return [f"  {step.name}: {{respond: {{status: 201, body: {seen.body(step.name)}}}}}"]


def _script(_: Program, step: Step, seen: _Seen) -> list[str]:
    del seen
    return [f"  {step.name}: {{script: {SCRIPT}}}"]


def _hold(program: Program, step: Step, seen: _Seen) -> list[str]:
    seen.hold = step.name
    limit = [f"    hold_for: {program.hold_hours} hours", "    on_timeout: end"] if program.hold_hours else []
    limit += ["    newer_than: n"] if program.ordered else []
    limit += ["    unmatched: reject"] if program.rejects else []
    return [
        f"  {step.name}:",
        "    webhook: shop",
        "    identifier: main-back",
        "    fields: {id: {type: integer, required: true}, n: {type: integer, required: true}}",
        f"    match: {{id: {TRIGGER}.id}}",
        f"    park: {program.park_minutes} minutes",
        *limit,
    ]


def _part_hold(program: Program, step: Step, seen: _Seen) -> list[str]:
    lines = _hold(program, step, seen)
    fields = "    fields: {id: {type: integer, required: true}, n: integer, item: {type: integer, required: true}}"
    match = f"    match: {{id: {TRIGGER}.id, item: {seen.split}.item}}"
    return [*lines[:3], fields, match, *lines[5:]]


def _part_skips(_: Program, step: Step, seen: _Seen) -> list[str]:
    return [f'  {step.name}: {{decide: "{seen.split}.item % 2 != 0", else: s{step.argument}}}']


def _split(_: Program, step: Step, seen: _Seen) -> list[str]:
    seen.split = step.name
    return [f"  {step.name}: {{split: {TRIGGER}.items}}"]


def _wait_all(_: Program, step: Step, seen: _Seen) -> list[str]:
    seen.gather = step.name
    return [f"  {step.name}: {{wait_all: true}}"]


WRITERS: dict[str, Callable[[Program, Step, _Seen], list[str]]] = {
    "call": _call,
    "refuse": _refuse,
    "link": _link,
    "decide": _decide,
    "delay": _delay,
    "respond": _respond,
    "script": _script,
    "hold": _hold,
    "part_hold": _part_hold,
    "part_skips": _part_skips,
    "split": _split,
    "wait_all": _wait_all,
}
PLAIN = ("call", "call", "call", "call", "script", "delay", "script", "delay", "decide", "respond", "link", "refuse")


def program(*kinds: str | tuple[str, int], **settings: Any) -> Program:
    """A program written by hand: kinds of its steps, in order."""
    steps = [
        Step(kind if isinstance(kind, str) else kind[0], f"s{at}", 0 if isinstance(kind, str) else kind[1])
        for at, kind in enumerate(kinds)
    ]
    named = [Step(one.kind, BACK, one.argument) if one.kind in HOLDS else one for one in steps]
    return Program(tuple(named), **settings)


def generate(chance: random.Random) -> Program:
    """A program of up to eight steps: at most one hold, one split behind it, and one gathering behind that."""
    kinds: list[str | tuple[str, int]] = [_plain(chance) for _ in range(chance.randint(0, 3))]
    if chance.random() < 0.6:
        kinds += ["hold", *[_plain(chance) for _ in range(chance.randint(0, 2))]]
    if chance.random() < 0.35:
        kinds += ["split", *[_plain(chance) for _ in range(chance.randint(0, 2))]]
        if "hold" not in kinds and chance.random() < 0.4:
            if chance.random() < 0.6:
                kinds.append(("part_skips", len(kinds) + 2))  # Even items go on behind the hold.
            kinds += ["part_hold", *[_plain(chance) for _ in range(chance.randint(1, 2))]]
        if chance.random() < 0.6:
            kinds += ["wait_all", "call"]
    return program(
        *(kinds or ["call"]),
        hold_hours=chance.choice((0, 0, 2)),
        collects=chance.random() < 0.5,
        hooked=chance.random() < 0.2,
        ordered="hold" in kinds and chance.random() < 0.3,
        rejects="hold" in kinds and chance.random() < 0.15,
        limited=int(chance.random() < 0.2),
        keeps=chance.choice(("", "", "5 minutes", "1 hour")),
        alerts=chance.random() < 0.3,
    )


def _plain(chance: random.Random) -> str | tuple[str, int]:
    kind = chance.choice(PLAIN)
    match kind:
        case "call":
            return kind, int(chance.random() < 0.2)
        case "refuse":
            return kind, chance.choice((0, 1))
        case "delay":
            return kind, chance.choice((1, 20, 900))
        case "decide":
            return kind, chance.choice((2, 3))
        case _:
            return kind
