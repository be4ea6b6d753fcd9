"""`make audit`: known vulnerabilities of what is installed, by pip-audit, which asks the package index about each.

`python -m tests.audit --note` is the part of `make check`: it tells what it finds, or that nobody answered, and never
fails, since what was published today is no fault of a change. Without `--note` it fails for a vulnerability, and when
nothing could be looked up: silence is not health.
"""

import json
import subprocess
import sys
from typing import Any, NamedTuple

SECONDS = 60  # For all questions; without a network the first one ends it.
ANSWER_S = 5  # For one.


class Verdict(NamedTuple):
    """What a report says."""

    sick: bool
    lines: list[str]


def verdict(report: dict[str, Any] | None) -> Verdict:
    """What a report of pip-audit means; None is no report."""
    packages = [] if report is None else report.get("dependencies", [])
    audited = [one for one in packages if "skip_reason" not in one]
    if not audited:
        return Verdict(sick=True, lines=["audit: nothing could be looked up; the package index does not answer"])
    found = [
        f"audit: {one['name']} {one['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'none'}"
        for one in audited
        for known in one["vulns"]
    ]
    skipped = len(packages) - len(audited)
    said = f"audit: {len(audited)} packages, {len(found)} known vulnerabilities"
    return Verdict(bool(found), [*found, said + (f"; {skipped} could not be looked up" if skipped else "")])


def report() -> dict[str, Any] | None:
    """What pip-audit says; None when it is not there, or says nothing that can be read."""
    line = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(
            [*line, "--timeout", str(ANSWER_S)], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, OSError, ValueError):
        return None
    return found


def main(arguments: list[str]) -> int:
    """Tell; 1 when something is wrong, unless it is only a note."""
    told = verdict(report())
    print(*told.lines, sep="\n")
    return int(told.sick and "--note" not in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
