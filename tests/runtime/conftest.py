"""What tests of the command line share."""

import importlib

import pytest

from runtime.cli.main import run
from tests.runtime.commands import Cli, Done


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
