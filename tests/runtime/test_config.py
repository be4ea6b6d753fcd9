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


def test_15_the_admin_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Mode 0600, the same at every start."""
    path = tmp_path / "data" / "admin.token"
    first = secret_file(path)
    assert secret_file(path) == first
    assert len(first) == 64
    assert path.stat().st_mode & 0o777 == 0o600
