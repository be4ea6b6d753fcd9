"""Settings: what is wrong is said in a line, before anything starts."""

from pathlib import Path

import pytest

from runtime.config import ConfigError, load_settings, secret_file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bnd = 'x'", "bnd"),
        ("bind = 'nowhere'", "HOST:PORT"),
        ("grace = 'soon'", "a number and a unit"),
        ("body_timeout = 'long'", "a number and a unit"),
        ("idle_timeout = '0 seconds'", "above zero"),
        ("answer_timeout = 'never'", "a number and a unit"),
        ("segment_bytes = 65536", "segment_bytes is at least"),
        ("body_bytes_max = 4194304", "body_bytes_max lies from 1 to 2097152"),
        ("bind = ", "cyclewright.toml"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    """The file, the setting and the rule."""
    (tmp_path / "cyclewright.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_settings(tmp_path)


def test_each_wrong_setting_is_told_with_its_line(tmp_path: Path) -> None:
    """All of them, those of tables too; a bind that the command line says is not the file's fault."""
    lines = ["# ours", "bind = 'nowhere'", "", "connection_max = 3", "[retention]", "completd = '1 day'", "held = '3'"]
    (tmp_path / "cyclewright.toml").write_text("\n".join(lines))
    with pytest.raises(ConfigError) as refused:
        load_settings(tmp_path)
    assert [fault.line for fault in refused.value.faults] == [4, 6, 7]
    assert "cyclewright.toml:4: connection_max is no key here" in str(refused.value)
    (tmp_path / "cyclewright.toml").write_text("\n".join([*lines[:3], *lines[4:5], lines[6]]))
    with pytest.raises(ConfigError, match=r"^cyclewright.toml:5: retention.held "):
        load_settings(tmp_path)
    (tmp_path / "cyclewright.toml").write_text("\n".join(lines[:3]))
    with pytest.raises(ConfigError, match=r"^cyclewright.toml:2: bind is HOST:PORT"):
        load_settings(tmp_path)
    with pytest.raises(ConfigError, match="^bind is HOST:PORT"):
        load_settings(tmp_path, bind="nowhere")


def test_15_the_admin_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Mode 0600, the same at every start."""
    path = tmp_path / "data" / "admin.token"
    first = secret_file(path)
    assert secret_file(path) == first
    assert len(first) == 64
    assert path.stat().st_mode & 0o777 == 0o600
