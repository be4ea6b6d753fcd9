"""A log on a disk: what can not be written is lost and counted, and nothing else fails for it."""

import os
import resource
from pathlib import Path

from runtime.logs import Lines


def test_given_a_log_that_is_full_then_the_next_line_that_fits_says_how_many_were_lost(tmp_path: Path) -> None:
    """Two are lost, one after them is not, and says so."""
    handle = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    lines = Lines(handle)
    try:
        lines.write("first\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
        lines.write("second\n")
        lines.write("third\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert lines.note_lost(None, "info", {"event": "fourth"}) == {"event": "fourth", "lines_lost": 2}
    lines.write("fourth\n")
    os.close(handle)
    assert lines.note_lost(None, "info", {"event": "fifth"}) == {"event": "fifth"}
    assert (tmp_path / "log").read_text() == "first\nfourth\n"
