"""Remote systems as a cycle knows them: which one a call goes to, what it had lately, and its plea for patience.

1. Limits count for a connector and the host it calls: a step whose own `url` leads elsewhere does not use up, or wait
   for, what the connector's own host allows.
2. A rate is a bound on any window of its length. What is remembered are the ends of calls, in slots of the window and
   rounded up, so that a process which takes over from another one does not exceed it. With the end of a call count its
   attempts whose own end a crash took.
3. A remote that puts one call off is left alone by all of them. Each time it does so again it is left alone for longer;
   refusals of calls that were on their way together are one time. Any other answer, once the time is over, ends that.
"""

import re

from msgspec import UNSET, Struct

from protocol.duration import UNITS_NS
from protocol.events import Request
from protocol.inputs import CallAnswer
from protocol.program import LINK_PREFIX
from protocol.retry import retry_after
from protocol.state import CycleRow, OpenCall, RemoteRow, State, TransactionRow

SLOTS = 20  # Of a window: a restart waits at most a twentieth of it longer than it must.
REMOTES_MAX = 100  # Remembered by one cycle; of more, which only urls made from data bring, the oldest are forgotten.
HOST_CHARACTERS_MAX = 260  # A DNS name and its port.

_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)")


class Rate(Struct, frozen=True):
    """At most `count` calls in any `window` nanoseconds."""

    count: int
    window: int


def parse_rate(text: str) -> Rate:
    """Read a rate such as `10/second`; its form is checked by the type of the connector."""
    count, _, unit = text.partition("/")
    return Rate(int(count), UNITS_NS[unit.strip()])


def remote_of(request: Request) -> str:
    """The remote system that a request goes to: its connector, and the host when the step names another."""
    if request.url.startswith(LINK_PREFIX):
        return f"{request.connector} {request.url}"
    found = _ABSOLUTE.match(request.url)
    if found is None:
        return request.connector
    host = found[2].rpartition("@")[2].lower()[:HOST_CHARACTERS_MAX]
    return f"{request.connector} {found[1].lower()}://{host}"


def note_call(state: State, row: TransactionRow, at: int, calls: int) -> None:
    """Remember that so many attempts at the open call of a transaction ended, if its connector has a rate."""
    call = row.call
    if call is None or call.link is not None or not calls:
        return
    connector = state.program(row.definition_hash).definition.connectors.get(call.request.connector)
    if connector is None or connector.rate is UNSET:
        return
    width = parse_rate(connector.rate).window // SLOTS
    slot = at // width
    cycle = state.cycle(row.cycle)
    remote = _remembered(cycle.remotes, remote_of(call.request))
    recent = [(one, many) for one, many in remote.recent if slot - SLOTS <= one < slot]
    before = next((many for one, many in remote.recent if one == slot), 0)
    remote.recent = [*recent, (slot, before + calls)]
    state.save(cycle)


def attempts_lost(call: OpenCall) -> int:
    """How many attempts at an open call, before the latest one, may have left and have no end: crashes took them."""
    return max(0, call.attempt - 1 - call.failures - call.refusals)


def note_answer(state: State, row: TransactionRow, at: int, calls: int, *, refused: bool) -> None:
    """Remember that the open call was answered; when that ends the patience with its remote, forget it."""
    note_call(state, row, at, calls)
    cycle = state.cycle(row.cycle)
    if refused or row.call is None or not cycle.remotes:
        return
    name = remote_of(row.call.request)
    remote = cycle.remotes.get(name)
    if remote is not None and 0 < remote.until <= at:
        remote.until = remote.refusals = 0
        if not remote.recent:
            del cycle.remotes[name]
        state.save(cycle)


def note_refusal(state: State, row: TransactionRow, at: int, until: int) -> None:
    """Remember until when the remote of the open call is left alone."""
    assert row.call is not None, "only an open call is put off"
    cycle = state.cycle(row.cycle)
    remote = _remembered(cycle.remotes, remote_of(row.call.request))
    remote.refusals += at >= remote.until
    remote.until = max(remote.until, until)
    state.save(cycle)


def left_alone(cycle: CycleRow, request: Request) -> int:
    """Until when no call goes to the remote of a request; 0, or an instant that is past, when one may."""
    remote = cycle.remotes.get(remote_of(request)) if cycle.remotes else None
    return 0 if remote is None else remote.until


def patience(cycle: CycleRow, request: Request, answer: CallAnswer, at: int) -> int:
    """Until when the remote of a request is left alone, now that it has given this answer."""
    remote = cycle.remotes.get(remote_of(request), RemoteRow())
    refusals = remote.refusals - (at < remote.until)
    return max(remote.until, at + retry_after(answer, at, refusals))


def _remembered(remotes: dict[str, RemoteRow], name: str) -> RemoteRow:
    """What is known of a remote, put behind all others as the latest; the oldest of too many is forgotten."""
    remote = remotes[name] = remotes.pop(name, RemoteRow())
    while len(remotes) > REMOTES_MAX:
        del remotes[next(iter(remotes))]
    return remote


def recent_calls(remote: RemoteRow, rate: Rate, at: int) -> list[int]:
    """When the calls of the latest window ended, at the latest, oldest first; `at` is now."""
    width = rate.window // SLOTS
    known = [(slot, calls) for slot, calls in remote.recent if slot <= at // width]  # Others are of another unit.
    ends = [(min(at, (slot + 1) * width), calls) for slot, calls in known]
    return [end for end, calls in ends if end > at - rate.window for _ in range(calls)]
