"""Whatever a cycle file holds, `check` gives its faults in bounded time, and never a traceback (section 2)."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.check import check_project
from protocol.definition import KINDS
from protocol.loading import STEPS_MAX, CheckFault, Source, decode_definition, encode_definition, version_name
from protocol.program import compile_program
from tests.fuzzing import LENGTH, fuzz

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("examples/*/*.yaml"), *ROOT.glob("tests/projects/*/*.yaml")])
TEXTS = [path.read_text() for path in FILES]
BOUND_S = 20.0  # Of processor time; the worst file takes three seconds. It is a bound, and says nothing of speed.
HEAD = 'cycle: c\nconnectors: {s: {base_url: "http://x"}}\nsteps:\n  t: {webhook: s, fields: {x: text}}\n'

HOSTILE: dict[str, Callable[[], tuple[str, str]]] = {
    "no steps": lambda: ("yaml", "cycle: c\n"),
    "an alias bomb": lambda: (
        "yaml",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    ),
    "a map that holds itself": lambda: ("yaml", "cycle: c\nsteps: &a {x: *a}\n"),
    "a list that holds itself": lambda: ("yaml", "cycle: c\nsteps: &a [*a]\n"),
    "a map merged into itself": lambda: ("yaml", "cycle: c\nsteps: &a\n  <<: *a\n  x: 1\n"),
    "brackets without end": lambda: ("yaml", "[" * 100_000),
    "maps in maps": lambda: ("yaml", "".join(" " * level + "a:\n" for level in range(1000))),
    "a long integer": lambda: ("yaml", "cycle: " + "9" * 100_000),
    "a long hexadecimal integer": lambda: ("yaml", "cycle: 0x" + "f" * 9_000),
    "an integer beyond 64 bits": lambda: ("yaml", HEAD + "  r: {respond: {body: 18446744073709551616}}\n"),
    "no number": lambda: ("yaml", HEAD + "  r: {respond: {body: .nan}}\n"),
    "a number without end": lambda: ("json", '{"cycle": "c", "steps": {"t": 1e999}}'),
    "a huge text": lambda: ("yaml", "cycle: " + "x" * 900_000),
    "a million items": lambda: ("yaml", "a: [" + "1," * 450_000 + "]"),
    "nothing but comments": lambda: ("yaml", "#\n" * 100_000),
    "nothing but line ends": lambda: ("yaml", "\n" * 300_000),
    "many steps": lambda: ("yaml", HEAD + "".join(f"  s{at}: {{note: x}}\n" for at in range(4_000))),
    "half a surrogate pair in JSON": lambda: ("json", '{"cycle": "c", "description": "\\ud800"}'),
    "half a surrogate pair as a key": lambda: ("json", '{"cycle": "c", "vars": {"\\udfff": 1}}'),
    "half a surrogate pair in YAML": lambda: ("yaml", 'cycle: c\ndescription: "\\ud800"\n'),
    "tags of other languages": lambda: ("yaml", "cycle: !!python/object/apply:os.system [id]\n"),
    "a tag that its value is not": lambda: ("yaml", "cycle: !!bool maybe\n"),
    "ordered maps and sets": lambda: ("yaml", 'cycle: !!omap [a: 1]\nsteps: !!set {a, b}\nx: !!binary "aGk="\n'),
    "keys that are no text": lambda: ("yaml", "? [a, b]\n: 1\n? {a: b}\n: 2\n? !!set {a}\n: 3\n"),
    "a date that is none": lambda: ("yaml", "cycle: 2001-02-30T25:61:61Z\n"),
    "deep JSON": lambda: ("json", "[" * 100_000),
    "deep TOML": lambda: ("toml", "a=" + "[" * 10_000 + "]" * 10_000),
    "dots without end": lambda: ("toml", ".".join("a" * 5_000) + "=1"),
    "a zero byte": lambda: ("yaml", "cycle: \0"),
    "two documents": lambda: ("yaml", "cycle: a\n---\ncycle: b\n"),
}


def checked(name: str, text: str) -> list[CheckFault]:
    """What is wrong with a file; what has no fault also runs, and reads the same from its canonical form."""
    began = time.process_time()
    definitions, faults = check_project([Source(name, text)])
    assert time.process_time() - began < BOUND_S
    for fault in faults:
        assert fault.rule
        assert 1 <= fault.line <= text.count("\n") + 2
        str(fault).encode()
    if not faults:
        for definition in definitions.values():
            packed = encode_definition(definition)
            assert encode_definition(decode_definition(packed)) == packed
            compile_program(definition, version_name(packed))
    return faults


@pytest.mark.parametrize("what", list(HOSTILE))
def test_2_a_hostile_file_has_faults(what: str) -> None:
    """Section 2: given a file made to hurt its reader, then it has a fault, in bounded time."""
    suffix, text = HOSTILE[what]()
    assert checked(f"c.cycle.{suffix}", text)


def test_2_a_cycle_of_many_steps_is_checked_in_bounded_time() -> None:
    """Section 2: given as many steps as a cycle may have, one after the other, then they are checked, and no more."""
    steps = [f'  s{at}: {{get: s, path: "/{{{{ t.x }}}}"}}\n' for at in range(STEPS_MAX)]
    assert checked("c.cycle.yaml", HEAD + "".join(steps[1:])) == []
    (fault,) = checked("c.cycle.yaml", HEAD + "".join(steps))
    assert (fault.rule, fault.found) == (f"steps a cycle has at most {STEPS_MAX} steps", str(STEPS_MAX + 1))


@pytest.mark.parametrize("at", range(len(FILES)), ids=[f"{path.parent.name}/{path.name}" for path in FILES])
def test_2_every_beginning_of_a_file_is_checked(at: int) -> None:
    """Section 2: given a file that an editor has half written, then there are faults and never a traceback."""
    text = TEXTS[at]
    stride = max(1, len(text) // (60 * LENGTH))
    for end in range(at % stride, len(text), stride):
        checked(FILES[at].name, text[:end])


WORDS = st.sampled_from([
    *KINDS, "connectors", "steps", "next", "then", "else", "cases", "default", "match", "fields", "verify", "dedupe",
    "settings", "on_error", "retry", "path", "url", "body", "cycle:", "{{ t.x }}", "{{", "}}", "env.X", "0", "-1",
    "1e400", "null", "~", "[]", "{}", "&a", "*a", "<<: *a", "!!set", "!!binary", "? ", "- ", "|", ">", "\t", ": ",
    "#", "'", '"', "9223372036854775808", ".inf", "true", "5 minutes", "P1D", "[].x", "[a].b", "a..b", "\u2028",
    "\x85", "\ufeff", "é",
])  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, str]:
    """A real file with a few pieces cut out, repeated, or replaced by words that mean something."""
    at = draw(st.integers(0, len(FILES) - 1))
    text = TEXTS[at]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        piece = draw(WORDS | st.text(max_size=4) | st.just(text[start:end] * 2))
        text = text[:start] + piece + text[end:]
    return FILES[at].name, text


@fuzz(120)
@given(damaged())
def test_2_a_damaged_file_has_faults_or_runs(file: tuple[str, str]) -> None:
    """Section 2: given a real file with damage, then it has faults, or what it says can be run."""
    checked(*file)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
NAMES = WORDS | st.text(max_size=4)
VALUES: st.SearchStrategy[object] = st.deferred(
    lambda: SCALARS | st.lists(VALUES, max_size=2) | st.dictionaries(NAMES, VALUES, max_size=2)
)
STEPS = st.dictionaries(
    st.sampled_from(["t", "a", "b", "end", "Bad", ""]),
    st.dictionaries(WORDS, VALUES, max_size=4) | VALUES,
    max_size=4,
)


@fuzz(150)
@given(st.fixed_dictionaries({"cycle": st.just("c") | VALUES, "steps": STEPS | VALUES, "connectors": VALUES}))
def test_2_any_data_has_faults_or_runs(data: object) -> None:
    """Section 2: given any data under the keys of a cycle, then it has faults, or what it says can be run."""
    checked("c.cycle.json", json.dumps(data))
