"""What files of system tests share."""

import signal
from collections.abc import Iterator

import pytest

from tests.system.partner import Partner

# A shell that runs tests in its background ignores Ctrl-C for them, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def partner() -> Iterator[Partner]:
    """The remote system of the file."""
    with Partner() as running:
        yield running
