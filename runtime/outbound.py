"""Outbound HTTP: one client, connections kept, each call bounded in time and each connector in concurrency.

The core has rendered the request and journaled it; what a connector adds, and only here its secrets, is put on now.
"""

import ipaddress
import os
import re
from collections.abc import Mapping

import httpx
import trio

from protocol.definition import Connector
from protocol.events import CallIntended, Request
from protocol.inputs import CallAnswer, CallFailure

ANSWER_BYTES_MAX = 4 << 20  # Of one response body: it goes into the journal, whose frames end at 16 MiB.
KEPT_CONNECTIONS = 256  # Idle ones, over all remotes.
KEPT_S = 60.0  # How long one is kept idle; most servers close at 60 to 75 s.
REDIRECTS_MAX = 5
HIDDEN_HEADERS = frozenset({"set-cookie", "www-authenticate", "proxy-authenticate"})  # Never journaled.

_ENV = re.compile(r"\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_SENT_FOR_SURE_NOT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Refused(Exception):
    """The request may not or can not be sent: an address out of bounds, or a secret that is not there."""


def resolve_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Put environment values in place of `{{ env.NAME }}`.

    Raises:
        Refused: a variable is not set; its name is said, never a value.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise Refused(f"the environment variable {found[1]} is not set")
        return environment[found[1]]

    return _ENV.sub(value, text)


class Outbound:
    """Sends requests of every cycle."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS, keepalive_expiry=KEPT_S)
        self._client = httpx.AsyncClient(
            limits=limits,
            timeout=None,  # noqa: S113 - `perform` bounds the whole attempt; httpx's own 5 s would undercut the step's.
            follow_redirects=False,
            trust_env=False,
            headers={"user-agent": "cyclewright"},
        )
        self._limiters: dict[tuple[str, str], trio.CapacityLimiter] = {}

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def perform(self, call: CallIntended, connector: Connector) -> CallAnswer | CallFailure:
        """Send one attempt and bring its outcome; never raises for what a remote or a network does.

        Waiting for a place among the connector's calls does not count against the timeout of the call.
        """
        limiter = self._limiter(call.cycle, call.request.connector, connector.concurrency)
        async with limiter:
            with trio.move_on_after(call.request.timeout / 1e9):
                return await self._attempt(call, connector)
        seconds = call.request.timeout / 1e9
        return CallFailure("sent", f"no answer within {seconds:g} seconds")

    def _limiter(self, cycle: str, connector: str, concurrency: int) -> trio.CapacityLimiter:
        limiter = self._limiters.get((cycle, connector))
        if limiter is None:
            limiter = self._limiters[cycle, connector] = trio.CapacityLimiter(concurrency)
        return limiter

    async def _attempt(self, call: CallIntended, connector: Connector) -> CallAnswer | CallFailure:
        try:
            request = self._build(call, connector)
            for _ in range(REDIRECTS_MAX + 1):
                await check_address(request.url, allow_private=connector.allow_private in (True, "yes"))
                response = await self._client.send(request, stream=True)
                try:
                    body = await _read_bounded(response)
                finally:
                    await response.aclose()
                if call.request.method != "GET" or response.next_request is None:
                    headers = {k: v for k, v in response.headers.items() if k not in HIDDEN_HEADERS}
                    return CallAnswer(response.status_code, headers, body)
                request = response.next_request
        except (Refused, httpx.InvalidURL) as fault:
            return CallFailure("connect", str(fault))
        except _SENT_FOR_SURE_NOT as fault:
            return CallFailure("connect", f"{type(fault).__name__}: {fault}")
        except httpx.HTTPError as fault:
            return CallFailure("sent", f"{type(fault).__name__}: {fault}")
        return CallFailure("sent", f"more than {REDIRECTS_MAX} redirects")

    def _build(self, call: CallIntended, connector: Connector) -> httpx.Request:
        said: Request = call.request
        url = said.url
        if "://" not in url:
            url = resolve_secrets(connector.base_url).rstrip("/") + "/" + url.lstrip("/")
        headers = {name: resolve_secrets(value) for name, value in connector.headers.items()}
        headers |= said.headers
        headers["idempotency-key"] = call.idempotency_key
        if said.content_type:
            headers["content-type"] = said.content_type
        return self._client.build_request(said.method, url, headers=headers, content=said.body or None)


async def _read_bounded(response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise httpx.ReadError(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


async def check_address(url: httpx.URL, *, allow_private: bool) -> None:
    """Hold a URL to the egress policy on every address its name resolves to.

    Raises:
        Refused: the scheme is not HTTP, the name does not resolve, or an address is out of bounds.
    """
    if url.scheme not in ("http", "https"):
        raise Refused(f"a call goes to http or https, not {url.scheme!r}")
    try:
        found = await trio.socket.getaddrinfo(url.host, url.port or 443, type=trio.socket.SOCK_STREAM)
    except OSError as fault:
        raise Refused(f"{url.host} does not resolve: {fault.strerror}") from None
    for *_, place in found:
        address = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise Refused(f"{url.host} is {address}, which no call may reach")
        if not allow_private and not address.is_global:
            raise Refused(f"{url.host} is {address}: say allow_private on the connector to reach private addresses")
