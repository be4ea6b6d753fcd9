"""When a remote that asks for patience is called again.

429 (RFC 6585, 4) and 503 with Retry-After (RFC 9110, 10.2.3) are no failures: the call waits as long as the remote
says. One that does not say is left alone for a minute, and longer each time it refuses again.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from protocol.duration import DAY_NS, SECOND_NS, UNITS_NS
from protocol.inputs import CallAnswer

PATIENCE_NS = 60 * SECOND_NS  # Before the second attempt at a remote that does not say how long to wait.
GROWTH_NS = tuple(minutes * UNITS_NS["minute"] for minutes in (0, 1, 3, 7, 15, 30))
WAIT_NS_MAX = DAY_NS  # A remote that says more is asked again after a day.


def asks_for_patience(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer puts the call off rather than fails it; a 503 that names no time is an ordinary error."""
    return status == 429 or (status == 503 and "retry-after" in headers)


def retry_after(answer: CallAnswer, at: int, refusals: int) -> int:
    """How many nanoseconds to wait after an answer.

    Args:
        answer: what the remote said; its Retry-After is a number of seconds or an HTTP date.
        at: now, nanoseconds since 1970.
        refusals: how often the remote has asked for patience before, one time after the other.
    """
    said = answer.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdecimal():
        return min(WAIT_NS_MAX, max(SECOND_NS, int(said[:9]) * SECOND_NS))
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return PATIENCE_NS + sum(GROWTH_NS[: refusals + 1])
    return min(WAIT_NS_MAX, max(SECOND_NS, int(moment.timestamp() * 1e9) - at))
