"""Query parameters of the API, read and checked: a bad one is refused by name, never replaced by a default."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from quart import request

from protocol.admission import preferred_wait
from protocol.canonical import instant_of
from protocol.duration import parse_duration
from protocol.fields import Fault, show

PAGE_MAX = 500  # Rows of one page.
PAGE_DEFAULT = 50
NUMBER_MAX = 2**62
WAIT_MAX_S = 300.0  # The longest that a look waits for what it looks for.

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadParameters(Exception):
    """The caller's fault: parameters break their rules; all of them are listed."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} parameters are wrong")
        self.faults = faults


def wait_s() -> float:
    """How many seconds the caller of the present request prefers to wait, 0 when he does not say."""
    return min(WAIT_MAX_S, preferred_wait({"prefer": request.headers.get("prefer", "")}) or 0)


class Parameters:
    """The query of one request; `close` raises what was found wrong while reading."""

    def __init__(self, given: Mapping[str, str], known: Collection[str]) -> None:
        self._given = given
        self._faults = list(_unknown(given, known))

    def close(self) -> None:
        """Refuse the request when anything was wrong.

        Raises:
            BadParameters: with every fault.
        """
        if self._faults:
            raise BadParameters(self._faults)

    def _fault(self, name: str, rule: str) -> None:
        self._faults.append(Fault(name, rule, show(self._given[name])))

    def text(self, name: str) -> str:
        """Any text, "" when it is not given; given, it must not be empty."""
        value = self._given.get(name)
        if value == "":
            self._fault(name, "must not be empty: leave it out instead")
        return value or ""

    def one_of(self, name: str, known: Collection[str]) -> str:
        """One of some names, "" when it is not given."""
        value = self.text(name)
        if value and value not in known:
            near = next(iter(get_close_matches(value, known, 1)), "")
            hint = f" (did you mean {near}?)" if near else ""
            self._fault(name, f"must be one of {', '.join(sorted(known)) or 'none yet'}{hint}")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        text = self._given.get(name)
        if text is None:
            return default
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
        if not least <= value <= most:
            self._fault(name, f"must be a whole number from {least} to {most}")
            return default
        return value

    def page(self) -> tuple[int, int]:
        """The parameters of every list: `after`, the number that ended the page before, or -1, and `limit`."""
        return self.number("after", -1, 0, NUMBER_MAX), self.number("limit", PAGE_DEFAULT, 1, PAGE_MAX)

    def instant(self, name: str, now: int, default: int) -> int:
        """An instant in nanoseconds: as RFC 3339 writes it, or a length of time ago."""
        text = self._given.get(name)
        if text is None:
            return default
        moment = instant_of(text)
        if moment is not None:
            return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
        try:
            return now - parse_duration(text.strip().removesuffix("ago"))
        except ValueError:
            self._fault(name, "must be an instant (2026-01-31T12:00:00Z) or a length of time ago (2 hours)")
            return default


def _unknown(given: Mapping[str, str], known: Collection[str]) -> Iterator[Fault]:
    for name in given:
        if name not in known:
            near = next(iter(get_close_matches(name, known, 1)), "")
            hint = f" (did you mean {near}?)" if near else ""
            yield Fault(name, f"is no parameter here{hint}; there are {', '.join(known)}", show(given[name]))
