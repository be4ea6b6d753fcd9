"""What a request is told that is refused while it is read, by whichever process reads it."""

from protocol.answers import problem
from protocol.state import Reply
from runtime.config import Settings


def too_large(settings: Settings) -> Reply:
    """What a body past its bound is told."""
    return problem(413, "Body too large", f"a body has at most {settings.body_bytes_max} bytes")


def too_slow(settings: Settings) -> Reply:
    """What a body that does not come is told."""
    return problem(408, "Body too slow", f"the body did not come within {settings.body_timeout_s:g} seconds")
