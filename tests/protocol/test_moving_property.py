"""Whatever two versions say: a move never makes a step fail for a value that is not there (section 11).

Versions are drawn from steps that map from each other, branch and loop, and map only what their own version declares.
Every call is answered with all there is, so that a value is missing only where the version that runs never made it.
"""

from typing import NamedTuple

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from protocol.check import check_project
from protocol.loading import Source
from tests.protocol.story import Story

FIELDS = ("a", "b", "c")
EARLY, LATE = ("p", "q", "r"), ("u", "v", "w")
HOLDS = ("back", "again")
MISSING = ("required_source_empty", "invalid_expression")
FULL = {field: f"{field}-value" for field in FIELDS}
WRITTEN = {
    "hook": "{{webhook: shop, fields: {{{fields}}}}}",
    "hold": "{{webhook: shop, fields: {{{fields}}}, match: {{k: {path}}}}}",
    "call": '{{post: remote, path: /x, body: "{{{{ {path} }}}}", fields: {{{fields}}}}}',
    "text": '{{post: remote, path: "/{{{{ [{path}].size() }}}}", fields: {{{fields}}}}}',
    "soft": "{{decide: {{left: {path}, is: exists}}, else: {target}}}",
    "hard": '{{decide: "[{path}].size() == 1", else: {target}}}',
}


class Step(NamedTuple):
    """One step: what it declares, and what it maps or branches by."""

    name: str
    kind: str
    fields: tuple[tuple[str, str], ...]
    path: str
    target: str

    def offers(self) -> list[str]:
        """What others may map from it."""
        if self.kind in ("soft", "hard"):
            return []
        found = [f"{self.name}.{field}" for field, _ in self.fields if field != "k"]
        return [*found, f"{self.name}.status", f"{self.name}.body.a"] if self.kind in ("call", "text") else found


@st.composite
def steps(draw: st.DrawFn, like: tuple[Step, ...] = ()) -> tuple[Step, ...]:
    """A version; one that is like another keeps most of its steps, draws some again, adds some and leaves some out."""
    kept = {step.name: step for step in like}

    def stays(name: str) -> bool:
        return draw(st.integers(0, 5)) > 0 if name in kept else draw(st.booleans())

    names = ["t", *filter(stays, EARLY), "back", *filter(stays, LATE), *filter(stays, ["again", "x"]), "last"]
    found: list[Step] = []
    for at, name in enumerate(names):
        offered = [path for step in found for path in step.offers()]
        before = kept.get(name)
        if before is not None and draw(st.integers(0, 3)) and before.path in ("", *offered):
            found.append(before._replace(target=before.target if before.target in names else "end"))
            continue
        some = draw(st.lists(st.sampled_from(FIELDS), unique=True, min_size=1))
        fields = tuple((field, draw(st.sampled_from(["text", "any"]))) for field in some)
        path = draw(st.sampled_from(offered)) if offered else ""
        kind = draw(st.sampled_from(["call", "call", "text", "soft", "hard"]))
        if name == "t" or name in HOLDS:
            kind, fields = ("hold" if name in HOLDS else "hook"), (*fields, ("k", "text"))
        target = draw(st.sampled_from([*names[at + 1 :], "end", "back"]))
        found.append(Step(name, kind, fields, path, target))
    return tuple(found)


def text(version: tuple[Step, ...]) -> str:
    """A version, as a file."""
    lines = ['cycle: c\nconnectors: {shop: {}, remote: {base_url: "http://remote.example"}}\n']
    lines.append("settings: {on_error: stop_transaction}\nsteps:\n")
    for step in version:
        fields = ", ".join(f"{field}: {kind}" for field, kind in step.fields)
        lines.append(f"  {step.name}: {WRITTEN[step.kind].format(fields=fields, path=step.path, target=step.target)}\n")
    return "".join(lines)


def run(story: Story) -> None:
    """Every open call is answered, with all there is, until the pass holds or ends."""
    for _ in range(20):
        if story.only().call is None:
            return
        story.answer(FULL)


def values(story: Story, name: str) -> dict[str, str]:
    """A request to a webhook that matches the only transaction."""
    return {**FULL, "k": story.only().reached.get(name, ["none"])[0]}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(steps().flatmap(lambda old: st.tuples(st.just(old), steps(old))), st.lists(st.sampled_from(HOLDS), max_size=4))
def test_11_a_move_never_makes_a_step_fail_for_a_value_that_is_not_there(
    pair: tuple[tuple[Step, ...], tuple[Step, ...]], hits: list[str]
) -> None:
    """Section 11: every mapped field is still there, or it stays; also when other webhooks run it later."""
    old, new = pair
    story = Story(text(old))
    story.hit("t", {**FULL, "k": "key"})
    run(story)
    assume(story.only().status == "held")
    for name in hits[:2]:
        if name in story.only().reached:
            story.hit(name, values(story, name))
            run(story)
    assert not check_project([Source("c.cycle.yaml", text(new))])[1]
    story.deploy(text(new))
    before = len(story.journal)
    for name in ["back", *hits[2:], "back"]:
        if name in story.only().reached and name in {step.name for step in new}:
            story.hit(name, values(story, name))
            run(story)
    event("moved" if story.only().earlier else "stayed")
    if story.only().earlier:
        found = [one for seq, one in story.state.incidents.items() if seq >= before and one.kind in MISSING]
        assert not found, text(old) + text(new)
