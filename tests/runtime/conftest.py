"""What tests of the runtime share."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from runtime.cli.main import run
from tests.runtime.commands import Cli, Done


@pytest.fixture
def virtual_time(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """Time that passes while nothing happens. Threads work on the spot, since the clock does not wait for them."""

    async def on_the_spot(work: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", on_the_spot)
    return autojump_clock


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command in this process; whatever happens, a person never sees a traceback."""
    main = importlib.import_module("runtime.cli.main")
    monkeypatch.setattr(main, "configure_logs", lambda: None)  # It would keep this test's stderr.
    monkeypatch.delenv("CYCLEWRIGHT_DEBUG", raising=False)

    def command(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([str(one) for one in arguments])
        told = capsys.readouterr()
        done = Done(code, told.out, told.err)
        assert "Traceback" not in done.out + done.err
        return done

    return command
