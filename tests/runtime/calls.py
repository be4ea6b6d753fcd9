"""Calls as the core hands them out, and an `Outbound` that ends with its block."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from protocol.events import CallIntended, Request
from protocol.inputs import CallAnswer, CallFailure
from runtime.egress import Lookup, Resolver
from runtime.outbound import Outbound

SECOND = 1_000_000_000


def call(
    url: str,
    method: str = "POST",
    *,
    connector: str = "shop",
    body: bytes = b"",
    content_type: str = "",
    headers: Mapping[str, str] | None = None,
    timeout: int = 30,
) -> CallIntended:
    """One attempt of the step `work`, its timeout in seconds."""
    request = Request(connector, method, url, dict(headers or {}), body, content_type, timeout * SECOND)
    return CallIntended("orders", 0, 7, "work", 1, "orders-7.work.1", request)


def failure(outcome: CallAnswer | CallFailure) -> CallFailure:
    """The outcome of a call that must have failed."""
    assert isinstance(outcome, CallFailure), outcome
    return outcome


@asynccontextmanager
async def outbound(resolve: Resolver | Mapping[str, Sequence[str]] | None = None) -> AsyncGenerator[Outbound]:
    """Outbound calls under a resolver, or under a table of names beside the machine's own."""
    if isinstance(resolve, Mapping):
        table, rest = resolve, Lookup()

        async def look_up(host: str) -> Sequence[str]:
            return table[host] if host in table else await rest(host)

        resolve = look_up
    out = Outbound(resolve)
    try:
        yield out
    finally:
        await out.aclose()
