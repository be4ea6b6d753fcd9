"""The table of rules in the README names, for each rule of the contract, the test that fails when it is broken.

1. Each test it names exists, and only one has that name, or the file before `::` says which.
2. Each section of the contract has a row.
3. A test's name begins with the section of its row.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
TITLE = "## Rules and their tests"
SECTIONS = [
    "1", "2", "3", "4", "4.1", "5", "5.1", "5.2", "5.3", "5.4", "5.5",
    "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "6.8",
    "7", "8", "9", "10", "11", "12", "13", "14", "15",
]  # fmt: skip
WORDS_MAX = 10

_ROW = re.compile(r"\| (\d[\d.]*) \| (.+?) \| (`[^|]+`) \|")
_NAMED = re.compile(r"`(?:([\w./]+)::)?(test_\w+)`")
_DEFINED = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)
_PREFIX = re.compile(r"test_(\d+)(?:_(\d+))?_")


class Rule(NamedTuple):
    """A row of the table."""

    section: str
    text: str
    tests: list[tuple[str, str]]  # The file, "" where the name is enough, and the name.


def rules(readme: str) -> list[Rule]:
    """The rows of the table; raises `ValueError` for one that can not be read."""
    found: list[Rule] = []
    for line in readme.partition(TITLE)[2].partition("\n## ")[0].splitlines():
        if not line.startswith("|") or line.startswith(("| rule |", "|---")):
            continue
        row = _ROW.fullmatch(line)
        if row is None:
            raise ValueError(f"is no row of rule, words and tests: {line}")
        found.append(Rule(row[1], row[2], _NAMED.findall(row[3])))
    return found


def defined() -> dict[str, list[str]]:
    """Every test there is: the files that define its name."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in _DEFINED.findall(path.read_text()):
            found[name].append(path.relative_to(ROOT).as_posix())
    return found


def wrong(table: list[Rule], tests: dict[str, list[str]]) -> list[str]:
    """What is wrong with the table, a line for each fault."""
    said = [f"{section} has no row" for section in SECTIONS if section not in {rule.section for rule in table}]
    for rule in table:
        said += [f"{rule.section} is no section of the contract"] if rule.section not in SECTIONS else []
        said += [f"{rule.text} has more than {WORDS_MAX} words"] if len(rule.text.split()) > WORDS_MAX else []
        said += [] if rule.tests else [f"{rule.section} {rule.text}: no test"]
        for file, name in rule.tests:
            files = [path for path in tests.get(name, []) if not file or f"/{path}".endswith(f"/{file}")]
            if len(files) != 1:
                said.append(f"{name} of rule {rule.section} is in {', '.join(files) or 'no file'}")
            prefix = _PREFIX.match(name)
            section = ".".join(part for part in prefix.groups() if part) if prefix else "none"
            if section != rule.section:
                said.append(f"{name} is named by section {section} and stands for rule {rule.section}")
    return said


def test_given_the_readme_then_each_rule_has_its_test() -> None:
    """Rules 1 to 3, on the table as it is."""
    table = rules((ROOT / "README.md").read_text())
    assert len(table) > 100
    assert not wrong(table, defined())


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("| 6.3 | most recent | `test_6_3_gone` |", "test_6_3_gone of rule 6.3 is in no file"),
        ("| 6.3 | most recent | `test_6_3_twice` |", "test_6_3_twice of rule 6.3 is in tests/a.py, tests/b.py"),
        ("| 6.3 | most recent | `c.py::test_6_3_twice` |", "test_6_3_twice of rule 6.3 is in no file"),
        ("| 6.2 | most recent | `test_6_3_once` |", "test_6_3_once is named by section 6.3 and stands for rule 6.2"),
        ("| 6 | most recent | `test_6_3_once` |", "6 is no section of the contract"),
        ("| 6.3 | one two three four five six seven eight nine ten more | `test_6_3_once` |", "has more than 10 words"),
        ("| 6.3 | most recent | `in words` |", "6.3 most recent: no test"),
        ("| 6.3 | most recent | `b.py::test_6_3_twice` |", ""),
    ],
)
def test_given_a_row_that_is_wrong_then_it_is_told(row: str, fault: str) -> None:
    """A guard that never refuses anything would pass for one that holds."""
    table = rules(f"{TITLE}\n\n| rule | what it says | test |\n|---|---|---|\n{row}\n")
    said = wrong(table, {"test_6_3_once": ["tests/a.py"], "test_6_3_twice": ["tests/a.py", "tests/b.py"]})
    told = [one for one in said if not one.endswith("has no row")]
    assert [fault in one for one in told[:1]] == ([True] if fault else [])


def test_given_a_section_without_a_row_then_it_is_told() -> None:
    """Rule 2."""
    assert wrong([], {}) == [f"{section} has no row" for section in SECTIONS]
    with pytest.raises(ValueError, match="is no row"):
        rules(f"{TITLE}\n| 6.3 | no test |\n")
