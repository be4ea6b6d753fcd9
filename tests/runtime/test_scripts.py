"""Scripts (section 9): functions of the project, and that nothing they do can harm the server."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from protocol.events import CallIntended, Request
from protocol.inputs import CallFailure, ScriptResult
from protocol.program import SCRIPT, SCRIPT_NS
from runtime.scripts import Scripts
from tests.runtime.rig import running

MODULE = """
import time, trio
calls = []
def double(data): return {"twice": data["asked"]["n"] * 2}
async def later(data):
    await trio.lowlevel.checkpoint()
    return [1, 2]
def nothing(data): pass
def mutates(data):
    data["asked"]["n"] = -1
    return data["asked"]
def raises(data): raise ValueError("no such customer")
def odd(data): return object()
def endless(data): return float("inf")
def large(data): return "x" * (3 << 20)
def exits(data): raise SystemExit(3)
async def sleeps(data): await trio.sleep_forever()
def dozes(data): time.sleep(0.2)
value = 5
"""
CYCLE = """
cycle: scripted
connectors: {shop: {}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {n: integer}}
  work: {script: "work_of_tests:double"}
  answer: {respond: {body: "{{ work.twice }}"}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The functions above, in a project of their own."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "work_of_tests.py").write_text(MODULE)
    (folder / "json.py").write_text("def dumps(data): return data")
    before = list(sys.path)
    yield folder
    sys.path[:] = before


@pytest.fixture
def scripts(project: Path) -> Scripts:
    """The scripts of the project."""
    return Scripts(project)


async def call(scripts: Scripts, name: str, within: int = SCRIPT_NS) -> Any:
    """What the function gives for one request."""
    request = Request("", SCRIPT, name, {}, b"", "", within)
    data = {"asked": {"n": 4}}
    return await scripts.perform(CallIntended("c", 0, 1, "work", 1, "c-1.work.1", request), data)


@pytest.mark.parametrize(
    ("name", "result"),
    [("double", {"twice": 8}), ("later", {"result": [1, 2]}), ("nothing", {}), ("mutates", {"n": -1})],
)
async def test_9_a_function_gives_the_data_of_its_step(scripts: Scripts, name: str, result: Any) -> None:
    """Section 9: sync or async; an object is the data, nothing is no data, anything else is found as `result`."""
    assert await call(scripts, f"work_of_tests:{name}") == ScriptResult(result)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("work_of_tests:raises", "ValueError: no such customer"),
        ("work_of_tests:odd", "TypeError"),
        ("work_of_tests:endless", "work_of_tests:endless"),
        ("work_of_tests:large", "bytes, of at most"),
        ("work_of_tests:missing", "has no function missing"),
        ("work_of_tests:value", "has no function value"),
        ("no_such_module:f", "No module named"),
        ("json:dumps", "outside the project"),
        ("work_of_tests:exits", "SystemExit: 3"),
    ],
)
async def test_9_whatever_a_function_does_is_a_failure_of_its_step(scripts: Scripts, name: str, said: str) -> None:
    """Section 9: said with the name of the function."""
    if name == "work_of_tests:endless":
        assert await call(scripts, name) == ScriptResult({})  # JSON has no infinity: it is written as null.
        return
    failed = await call(scripts, name)
    assert isinstance(failed, CallFailure)
    assert said in failed.reason


@pytest.mark.parametrize("name", ["sleeps", "dozes"])
async def test_9_a_function_that_does_not_end_is_given_up(scripts: Scripts, name: str) -> None:
    """Section 9: after 60 seconds, here after ten milliseconds; one in a thread keeps its thread."""
    failed = await call(scripts, f"work_of_tests:{name}", within=10_000_000)
    assert failed == CallFailure("sent", f"work_of_tests:{name} did not return within 0.01 seconds")


async def test_9_a_function_of_the_project_runs_in_a_pass(scripts: Scripts, tmp_path: Path) -> None:
    """Section 9: its result is journaled, and what follows maps from it."""
    async with running(tmp_path / "data", CYCLE) as rig:
        rig.engine.scripts = scripts
        with trio.fail_after(5):
            reply = await rig.ask("scripted", "asked", {"n": 21})
        assert (reply.status, msgspec.json.decode(reply.body)) == (200, 42)


async def test_11_a_load_that_fails_leaves_the_functions_of_before_as_they_are(tmp_path: Path) -> None:
    """Section 11: all or nothing; what the version in use loads only now is still of the code it was deployed with."""
    one, two = tmp_path / "kept_of_tests.py", tmp_path / "broken_of_tests.py"
    one.write_text("def greet(data): return 'old'\ndef late(data): return 'old'\n")
    two.write_text("def work(data): return 'old'\n")
    before = Scripts(tmp_path)
    assert before.load(["broken_of_tests:work", "kept_of_tests:greet"]) == {}
    one.write_text("def greet(data): return 'newer'\ndef late(data): return 'newer'\n")
    two.write_text("def work(data) return 'new'\n")
    assert list(Scripts(tmp_path).load(["broken_of_tests:work", "kept_of_tests:greet"])) == ["broken_of_tests:work"]
    for name in ("kept_of_tests:greet", "kept_of_tests:late", "broken_of_tests:work"):
        assert await call(before, name) == ScriptResult({"result": "old"})


async def test_11_a_load_that_succeeds_brings_the_code_that_has_changed(tmp_path: Path) -> None:
    """Section 11: also of modules that a module of the project imports."""
    (tmp_path / "helped_of_tests.py").write_text(
        "import helper_of_tests\ndef greet(data): return helper_of_tests.WORD\n"
    )
    for word in ("one", "other"):
        (tmp_path / "helper_of_tests.py").write_text(f"WORD = '{word}'\n")
        scripts = Scripts(tmp_path)
        assert scripts.load(["helped_of_tests:greet"]) == {}
        assert await call(scripts, "helped_of_tests:greet") == ScriptResult({"result": word})


async def test_11_what_a_module_imported_before_it_failed_is_imported_anew(tmp_path: Path) -> None:
    """Section 11: a deploy that failed leaves nothing behind that the next one would run."""
    outer, inner = tmp_path / "outer_of_tests.py", tmp_path / "inner_of_tests.py"
    outer.write_text("import inner_of_tests\nraise ValueError('not yet')\n")
    inner.write_text("WORD = 'early'\n")
    assert Scripts(tmp_path).load(["outer_of_tests:greet"]) == {"outer_of_tests:greet": "ValueError: not yet"}
    outer.write_text("import inner_of_tests\ndef greet(data): return inner_of_tests.WORD\n")
    inner.write_text("WORD = 'late'\n")
    scripts = Scripts(tmp_path)
    assert scripts.load(["outer_of_tests:greet"]) == {}
    assert await call(scripts, "outer_of_tests:greet") == ScriptResult({"result": "late"})
