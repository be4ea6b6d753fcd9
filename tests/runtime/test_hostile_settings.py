"""Whatever `cyclewright.toml` holds, it is settings that a server can use, or one line that says what is wrong."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journal import JournalOptions
from runtime.config import ConfigError, Settings, load_settings
from tests.fuzzing import fuzz

NAMES = st.sampled_from([*Settings.__struct_fields__, "alerts.url", "retention.completed", "quota.tasks_per_month"])
VALUES = st.sampled_from([
    "0", "-1", "1", "true", "nan", "inf", "1e400", "9" * 30, "''", "'x'", "'5 seconds'", "'99999999 weeks'", "[]", "{}",
    "'127.0.0.1:99999'", "'[::1]:0'", "'\\u0000'", "2026-01-01", "[[1]]", "{a = 1}", "'http://x'", '"\\u0000"',
])  # fmt: skip
LINES = st.lists(st.tuples(NAMES, VALUES).map(" = ".join) | st.text(max_size=8), max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples; above the folders of other tests, its file would be theirs."""
    return tmp_path_factory.mktemp("settings")


def loaded(folder: Path, text: bytes) -> Settings | None:
    (folder / "cyclewright.toml").write_bytes(text)
    try:
        settings = load_settings(folder)
    except ConfigError as fault:
        said = str(fault)
    else:
        check_bounds(settings)
        return settings
    assert said.startswith(("cyclewright.toml: ", "cyclewright.toml:"))
    assert "\n" not in said.strip()
    return None


def check_bounds(settings: Settings) -> None:
    assert settings.host_port[1] <= 65_535
    assert settings.local_url
    assert settings.grace_ns > 0
    assert min(settings.body_timeout_s, settings.idle_timeout_s, settings.answer_timeout_s) > 0
    assert min(settings.mailbox_items_max, settings.mailbox_bytes_max, settings.running_max) > 0
    assert JournalOptions(segment_bytes=settings.segment_bytes)
    assert min(settings.connections_max, settings.header_bytes_max) > 0


@fuzz(300)
@given(LINES)
@example(["data = 5"])
@example(["a = " + "[" * 5000])
@example(["body_timeout = '99999999 weeks'"])
@example(["connections_max = -1"])
@example(["running_max = 0"])
@example(["header_bytes_max = 10"])
@example(["segment_bytes = 33554433"])
@example(["segment_bytes = 4611686018427387904"])
def test_any_settings_are_used_or_refused_in_a_line(folder: Path, lines: list[str]) -> None:
    """Given any lines, when settings are read, then every bound is one, or the file and the rule are named."""
    loaded(folder, "\n".join(lines).encode())


@fuzz(100)
@given(st.binary(max_size=60))
@example(b"\r")
@example("data = 'ä'".encode("latin-1"))
def test_any_bytes_are_used_or_refused_in_a_line(folder: Path, text: bytes) -> None:
    """Given any bytes, then they are read as settings, or refused; a valid file of no setting of ours is refused."""
    if loaded(folder, text) is not None:
        assert set(tomllib.loads(text.decode())) <= set(Settings.__struct_fields__)
