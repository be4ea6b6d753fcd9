"""Tables of commands (section 15): a row is one line, so that what is copied from it is whole."""

import subprocess
import sys

from tests.system.harness import ROOT

SHOW = "from runtime.cli.output import print_table; print_table(('step', 'url'), [('placed', 'http://x/' + 'y' * 200)])"


def test_15_a_row_of_a_table_is_one_line_however_narrow_the_terminal() -> None:
    """Given a URL that is longer than the terminal is wide, then it is printed in one piece."""
    narrow = {"COLUMNS": "40", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=ROOT, env=narrow, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["step", "url", "placed", "http://x/" + "y" * 200]
    assert all(line == line.rstrip() for line in done.stdout.splitlines()), "no line is filled up with spaces"
