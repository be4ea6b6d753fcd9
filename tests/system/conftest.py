"""What files of system tests share."""

from collections.abc import Iterator

import pytest

from tests.system.partner import Partner


@pytest.fixture(scope="module")
def partner() -> Iterator[Partner]:
    """The remote system of the file."""
    with Partner() as running:
        yield running
