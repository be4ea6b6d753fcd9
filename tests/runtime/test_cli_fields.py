"""`cyclewright fields` (section 4): the fields of a sample in a file."""

from pathlib import Path

import pytest

from tests.runtime.commands import Cli


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"o": {"id": 7}, "lines": [{"sku": "a"}]}\n', 'fields:\n  o.id: integer\n  "[lines].sku": text\n'),
        ("a.form", "id=7&code=007\n", "fields:\n  id: integer\n  code: text\n"),
        ("a.XML", '<o at="1"><id>7</id></o>\n', 'fields:\n  o.id: integer\n# no location can name "@at"\n'),
        ("a.txt", "42\n", "fields:\n  text: text\n"),
        ("b.json", '"x"', "fields: {}\n"),
    ],
)  # fmt: skip
def test_4_the_fields_of_a_sample_are_printed_to_be_pasted(
    cli: Cli, tmp_path: Path, name: str, text: str, said: str
) -> None:
    """Section 4: by the ending of its name."""
    (tmp_path / name).write_text(text)
    done = cli("fields", "--from", tmp_path / name)
    assert (done.code, done.out) == (0, said)


def test_4_machines_get_json(cli: Cli, tmp_path: Path) -> None:
    """Section 15: as every command that shows something."""
    (tmp_path / "a.json").write_text('{"n": 1, "@": 2}')
    assert cli("fields", "--from", tmp_path / "a.json", "--json").json == {
        "fields": {"n": "integer"},
        "left_out": ["@"],
    }


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("a.json", 1, "is not JSON"),
        ("a.yaml", 2, "ends with .json, .form, .xml, .txt, not with .yaml"),
        ("missing.json", 1, "No such file"),
    ],
)
def test_4_a_sample_that_is_none_is_refused(cli: Cli, tmp_path: Path, name: str, code: int, said: str) -> None:
    """The person's fault, said with what to do."""
    if name.startswith("a."):
        (tmp_path / name).write_text("{oops")
    done = cli("fields", "--from", tmp_path / name)
    assert (done.code, said in done.err) == (code, True), done.err
