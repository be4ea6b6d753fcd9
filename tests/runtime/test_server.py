"""A server's start, as a program calls it (section 11): told as it goes on, and ended in the middle of it."""

import os
import signal
from functools import partial
from pathlib import Path

import trio

from journal import LocalLog
from runtime.config import Settings
from runtime.server import serve
from tests.runtime.journals import journaled, payments


async def test_given_ctrl_c_while_the_journal_is_read_then_the_server_ends_and_the_journal_is_free(
    tmp_path: Path,
) -> None:
    """Nothing was promised yet, so there is nothing to drain, however much is left to read."""
    data = journaled(tmp_path, payments())
    told: list[tuple[str, int, int]] = []

    def progress(words: str, done: int, total: int) -> None:
        told.append((words, done, total))
        if words == "events folded":
            os.kill(os.getpid(), signal.SIGINT)
            trio.from_thread.run(trio.sleep_forever)  # As long as it takes; ended with the server.

    settings = Settings(bind="127.0.0.1:0", data=str(data))
    with trio.fail_after(20):
        await serve(settings, {}, progress=progress)
    assert [one for one in told if one[0] == "events folded"] == [
        ("events folded", told[-1][1], len(payments().journal))
    ]
    with LocalLog.open(data / "journal") as log:
        assert log.next_seq == len(payments().journal)


async def test_given_a_start_then_progress_reaches_the_end(tmp_path: Path) -> None:
    """Bytes of the journal first, then its events."""
    data = journaled(tmp_path, payments())
    told: list[tuple[str, int, int]] = []
    settings = Settings(bind="127.0.0.1:0", data=str(data))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            start = partial(serve, settings, {}, progress=lambda *news: told.append(news))
            url = await nursery.start(start)
            assert url.startswith("http://127.0.0.1:")
            os.kill(os.getpid(), signal.SIGINT)
    words = [one[0] for one in told]
    assert words == sorted(words), "bytes before events"
    assert told[-1] == ("events folded", len(payments().journal), len(payments().journal))
