"""What must not be shown: fields declared `sensitive`, masked whenever data is read, never in what steps use.

1. A field is masked where it is declared: in the data of its step, and in the raw body that data was read from.
2. What is made from a masked field (a request, an answer, a match key, what a script returns) is masked whole, since
   the value can stand anywhere in it. Items of a list keep the declarations of the list.
3. What can not be looked into is masked whole.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from protocol.bodies import BodyError
from protocol.cloudevents import read_event
from protocol.definition import CallStep, Dedupe, Definition, FieldSpec, WebhookStep
from protocol.events import Request
from protocol.expression import Expression, Template, path_parts
from protocol.fields import ROOT_LIST, split_location
from protocol.program import CallPlan, Plan, Program, RespondPlan, ScriptPlan, SplitPlan, WebhookPlan, compile_program

MASK = "••••"

Path = tuple[str, ...]


class Hidden:
    """What must not be shown of one cycle: all that any version learnt declares, since data outlives versions."""

    def __init__(self) -> None:
        self._fields: dict[str, set[Path]] = {}
        self._rendered: dict[str, set[str]] = {}  # Call step → the parts of its request that are masked whole.
        self._answers: set[str] = set()  # Respond steps that tell something sensitive.
        self._keys: dict[str, set[int]] = {}  # Mid-cycle webhook → which values of its match key.
        self._splits: set[str] = set()  # Steps that split a list they name.
        self._marks: set[str] = set()  # Webhooks whose requests are ordered by a sensitive field.
        self._deliveries: set[str] = set()  # Webhooks whose delivery key is a sensitive field.

    def learn(self, definition: Definition, program: Program | None = None) -> None:
        """Add what one version declares; it is compiled here unless its program is at hand."""
        found = {name: _sensitive(step) for name, step in definition.steps.items()}
        if not any(found.values()):
            return
        plans = (program or compile_program(definition, "")).plans
        for name, paths in found.items():
            self._hide(name, paths)
            plan = plans.get(name)
            if isinstance(plan, ScriptPlan) or (isinstance(plan, WebhookPlan) and _is_scripted(plan, paths)):
                self._hide(name, {()})
        self._splits |= {name for name, plan in plans.items() if isinstance(plan, SplitPlan)}
        splits = {name: plan.items for name, plan in plans.items() if isinstance(plan, SplitPlan)}
        for _ in splits:  # One may take its items from another, which need not stand before it.
            for name, items in splits.items():
                self._hide(name, self._items(items))
        for name, plan in plans.items():
            self._learn_plan(name, plan)

    def _hide(self, step: str, paths: set[Path]) -> None:
        if paths:
            self._fields.setdefault(step, set()).update(paths)

    def _items(self, items: Expression) -> set[Path]:
        """What is sensitive in the items of a list: what was declared below it."""
        if not items.is_plain_path:
            return {()} if self._names_hidden(items) else set()
        step, *names = (part for part in path_parts(items.text) if isinstance(part, str))
        fields = self._fields.get(step, set())
        below = {path[len(names) :] for path in fields if self._meets(path, names)}
        if names[:1] == ["body"]:
            below |= {path[len(names) - 1 :] for path in fields if self._meets(path, names[1:])}
        return below or ({()} if self._names_hidden(items) else set())

    def _learn_plan(self, name: str, plan: Plan) -> None:
        match plan:
            case CallPlan():
                said = {"url": (plan.url, plan.query), "headers": (plan.headers,), "body": (plan.body,)}
                parts = {part for part, templates in said.items() if self._reads_hidden(templates)}
                self._rendered.setdefault(name, set()).update(parts)
            case RespondPlan():
                self._answers |= {name} if self._reads_hidden((plan.status, plan.headers, plan.body)) else set()
            case WebhookPlan(match=pairs, step=webhook):
                if isinstance(webhook.dedupe, Dedupe) and webhook.dedupe.field:
                    named = _names(webhook.dedupe.field)
                    self._deliveries |= {name} if self._lies_hidden(name, named) else set()
                if webhook.newer_than:
                    self._marks |= {name} if self._lies_hidden(name, _names(webhook.newer_than)) else set()
                hidden = {
                    at
                    for at, pair in enumerate(pairs)
                    if self._names_hidden(pair.earlier) or self._lies_hidden(name, _names(pair.location))
                }
                self._keys.setdefault(name, set()).update(hidden)
            case _:
                pass

    def _reads_hidden(self, templates: Iterable[Template]) -> bool:
        return any(self._names_hidden(one) for template in templates for one in template.expressions)

    def _names_hidden(self, expression: Expression) -> bool:
        if "hit" in expression.references:
            return True  # The raw request of a step that may have declared something sensitive.
        if not expression.is_plain_path:
            return bool(expression.references & self._fields.keys())
        step, *rest = (part for part in path_parts(expression.text) if isinstance(part, str))
        return self._lies_hidden(step, tuple(rest)) or (
            rest[:1] == ["body"] and self._lies_hidden(step, tuple(rest[1:]))
        )

    def _lies_hidden(self, step: str, names: Path) -> bool:
        """Whether a location holds, or lies within, a sensitive field."""
        return any(self._meets(path, names) for path in self._fields.get(step, ()))

    @staticmethod
    def _meets(path: Path, names: Sequence[str]) -> bool:
        """Whether one location lies within the other, or is the same."""
        return path[: len(names)] == tuple(names[: len(path)])

    def data(self, step: str, data: Any) -> Any:
        """The data of a step."""
        paths = self._fields.get(step)
        if not paths:
            return data
        shown = mask(data, paths)
        if isinstance(shown, dict) and "body" in shown:
            shown["body"] = _mask_body(data["body"], paths)
        return shown

    def steps(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The data of every step that ran."""
        return {step: self.data(step, one) for step, one in data.items()}

    def body(self, step: str, body: bytes, content_type: str) -> str:
        """A raw body that came to a step: a webhook's request, or the answer to a call."""
        paths = self._fields.get(step)
        if not paths or not body:
            return body.decode("utf-8", "replace")
        try:
            value, _ = read_event({}, body, content_type)
        except BodyError:
            return MASK
        return msgspec.json.encode(_mask_body(value, paths)).decode()

    def query(self, step: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The query of a request; GET and DELETE carry their fields there."""
        shown = mask(dict(query), self._fields.get(step, ()))
        return shown if isinstance(shown, dict) else dict.fromkeys(query, MASK)

    def request(self, step: str, request: Request) -> dict[str, Any]:
        """An outbound request as it was rendered."""
        hidden = self._rendered.get(step, ())
        shown = {**msgspec.structs.asdict(request), "body": request.body.decode("utf-8", "replace")}
        if "headers" in hidden:
            shown["headers"] = dict.fromkeys(request.headers, MASK)
        return {**shown, **{part: MASK for part in ("url", "body") if part in hidden}}

    def item(self, step: str, item: Any) -> Any:
        """One item of a list that a step splits; of one that nobody named, where it lay in the data is not known."""
        fields = self._fields.get(step, ())
        return mask(item, fields if step in self._splits or not fields else [()])

    def answer(self, step: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """An answer to a caller; early journals do not name the step that built it, so any of them may hide it."""
        if step in self._answers or (not step and self._answers):
            return {"headers": dict.fromkeys(headers, MASK), "body": MASK}
        return {"headers": dict(headers), "body": body.decode("utf-8", "replace")}

    def delivery(self, step: str, delivery: str) -> str:
        """The sender's name for a delivery."""
        return MASK if delivery and step in self._deliveries else delivery

    def mark(self, step: str, mark: str) -> str:
        """The value by which requests are ordered; without a step, that of any webhook."""
        return MASK if mark and (step in self._marks if step else bool(self._marks)) else mark

    def key(self, step: str, key: Iterable[str]) -> list[str]:
        """The match key of a webhook; without a step, that of any."""
        hidden = self._keys.get(step, set()) if step else set().union(*self._keys.values())
        return [MASK if at in hidden else value for at, value in enumerate(key)]


def hidden_of(*programs: Program) -> Hidden:
    """What any of some versions hides."""
    hidden = Hidden()
    for program in programs:
        hidden.learn(program.definition, program)
    return hidden


def _sensitive(step: Any) -> set[Path]:
    if not isinstance(step, WebhookStep | CallStep):
        return set()
    return {
        _names(location) for location, spec in step.fields.items() if isinstance(spec, FieldSpec) and spec.sensitive
    }


def _is_scripted(plan: WebhookPlan, own: set[Path]) -> bool:
    """Whether a script that sees something sensitive makes the data of a webhook: before it only the request's own."""
    return plan.step.after_webhook is not UNSET or (plan.step.before_webhook is not UNSET and bool(own))


def _names(location: str) -> Path:
    return tuple(name for name, _ in split_location(location))


def _mask_body(body: Any, paths: Collection[Path]) -> Any:
    """Mask a whole body; one that is itself a list is declared under a name that it does not have."""
    if isinstance(body, list):
        return mask({ROOT_LIST: body}, paths)[ROOT_LIST]
    return mask(body, paths)


def mask(data: Any, hidden: Collection[Path]) -> Any:
    """A copy of a value with what lies at the hidden locations replaced; lists are walked on the way."""
    if not hidden or data is None:
        return data
    if () in hidden:
        return MASK
    if isinstance(data, list):
        return [mask(item, hidden) for item in data]
    if not isinstance(data, dict):
        return MASK  # Something sensitive was declared within it.
    copy = dict(data)
    for head in {path[0] for path in hidden}:
        if head in copy:
            deeper = [path[1:] for path in hidden if path[0] == head]
            copy[head] = mask(copy[head], deeper)
    return copy
