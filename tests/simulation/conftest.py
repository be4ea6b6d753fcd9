"""What tests of the simulation share: the incidents of a simulated server are nobody's."""

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.__main__ import quiet


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """No line of a log, in these tests only."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)
