"""What the audit makes of what pip-audit says, without asking anybody."""

from tests.audit import verdict


def package(name: str, *known: str) -> dict[str, object]:
    """A package that was looked up, and what is known of it."""
    return {"name": name, "version": "1", "vulns": [{"id": one, "fix_versions": ["2"]} for one in known]}


def test_given_nothing_that_could_be_looked_up_then_that_is_no_health() -> None:
    """No report, an empty one, and one of an index that knows none of the packages."""
    for report in (None, {}, {"dependencies": [{"name": "a", "skip_reason": "not found"}]}):
        assert verdict(report).sick
        assert "does not answer" in verdict(report).lines[0]


def test_given_a_report_then_vulnerabilities_and_what_was_left_out_are_told() -> None:
    """Each by its name."""
    good = verdict({"dependencies": [package("a"), {"name": "b", "skip_reason": "not found"}]})
    assert not good.sick
    assert good.lines == ["audit: 1 packages, 0 known vulnerabilities; 1 could not be looked up"]
    bad = verdict({"dependencies": [package("a", "X-1")]})
    assert bad.sick
    assert bad.lines[0] == "audit: a 1: X-1, fixed in 2"
