"""Outbound HTTP: connections kept, and each call bounded in time.

1. The core has rendered the request and journaled it; what a connector adds, and only here its secrets, is put on now.
   No secret is in an error, and none goes along with a redirect to another origin.
2. A failure says `connect` only when no byte of the request can have had an effect.
3. A request that surely was not sent is sent again at once. One that was lost with a kept connection, before any byte
   of an answer, is sent once more if it is safe to repeat: its Idempotency-Key is the same.
4. The headers of a connector go to the origin of its base URL only: a step's own `url` may come from a request's data.
5. Connections of connectors that may reach private addresses are never used by those that may not.
"""

import base64
import os
import re
import zlib
from collections.abc import Mapping
from typing import Literal

import httpcore
import httpx
import trio

from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from runtime.egress import CheckedNetwork, Lookup, NotSent, OwnAddress, Refused, Resolver, Stale

ANSWER_BYTES_MAX = 4 << 20  # Of one response body: it goes into the journal, whose frames end at 16 MiB.
KEPT_CONNECTIONS = 256  # Idle ones, over all remotes.
KEPT_S = 60.0  # How long one is kept idle; most servers close at 60 to 75 s.
REDIRECTS_MAX = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HIDDEN_HEADERS = frozenset({"set-cookie", "www-authenticate", "proxy-authenticate"})  # Never journaled.
PERSONAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})  # Never for another origin.
FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding", "connection"})  # The client's own business.
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # As RFC 9110 section 9.2.2 has it.
ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS  # Tells them apart by their first bytes.
OWN_HEADERS = {"user-agent": "cyclewright", "accept": "*/*", "accept-encoding": "gzip"}

_ENV = re.compile(r"\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


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
    """Sends requests of every cycle.

    Args:
        resolve: finds the addresses of a name; the machine's resolver by default.
    """

    def __init__(self, resolve: Resolver | None = None) -> None:
        resolve = resolve or Lookup()
        tls = httpx.create_ssl_context(trust_env=False)
        self._networks = {private: CheckedNetwork(resolve, allow_private=private) for private in (False, True)}
        self._kept = {
            private: httpcore.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=None,  # The gates bound it.
                max_keepalive_connections=KEPT_CONNECTIONS,
                keepalive_expiry=KEPT_S,
                network_backend=network,
            )
            for private, network in self._networks.items()
        }
        self._fresh = {
            private: httpcore.AsyncConnectionPool(
                ssl_context=tls, max_connections=None, max_keepalive_connections=0, network_backend=network
            )
            for private, network in self._networks.items()
        }

    def listen_at(self, own: OwnAddress | None) -> None:
        """Note where this server listens: calls to it over the network are refused."""
        for network in self._networks.values():
            network.own = own

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in (*self._kept.values(), *self._fresh.values()):
            await pool.aclose()

    async def perform(
        self, call: CallIntended, connector: Connector, *, safe_to_repeat: bool | None = None
    ) -> CallAnswer | CallFailure:
        """Send one attempt and bring its outcome; never raises for what a remote or a network does.

        Args:
            call: the attempt.
            connector: where it goes and what it carries.
            safe_to_repeat: what the step says; by default as the method implies.
        """
        seconds = call.request.timeout / 1e9
        attempt = _Attempt(call, connector, safe_to_repeat=safe_to_repeat)
        with trio.move_on_after(seconds):
            private = connector.allow_private in (True, "yes")
            return await attempt.run(self._kept[private], self._fresh[private])
        return CallFailure(attempt.phase, f"no answer within {seconds:g} seconds")


class _Attempt:
    """One attempt at a call, over its redirects."""

    def __init__(self, call: CallIntended, connector: Connector, *, safe_to_repeat: bool | None) -> None:
        self._call = call
        self._connector = connector
        self._repeatable = call.request.method in REPEATABLE if safe_to_repeat is None else safe_to_repeat
        self._sent = False
        self._host = ""
        self._belongs = True  # Whether the call goes where its connector's headers, and so its secrets, belong.
        self._basic = ""  # The credentials of a URL such as https://user:word@host/.

    @property
    def phase(self) -> Literal["connect", "sent"]:
        """Whether a remote can have seen the request."""
        return "sent" if self._sent else "connect"

    async def run(
        self, kept: httpcore.AsyncConnectionPool, fresh: httpcore.AsyncConnectionPool
    ) -> CallAnswer | CallFailure:
        try:
            return await self._follow(kept, fresh)
        except Refused as fault:
            said = str(fault)
        except httpcore.LocalProtocolError:
            said = "the request can not be written as HTTP"  # Its text may quote a header, and so a secret.
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as fault:
            said = f"{type(fault).__name__}: {fault}"
        if self._host and _ENV.search(self._connector.base_url):
            said = said.replace(self._host, "the host of the connector")
        return CallFailure(self.phase, said)

    async def _follow(
        self, kept: httpcore.AsyncConnectionPool, fresh: httpcore.AsyncConnectionPool
    ) -> CallAnswer | CallFailure:
        url = url_of(self._call, self._connector)
        self._host = url.host
        if url.userinfo:
            self._basic = "Basic " + base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        base = resolve_secrets(self._connector.base_url)
        self._belongs = not base or _origin(url) == _origin(httpx.URL(base))
        at_home = True  # Until a redirect leads to another origin; what comes after is not trusted either.
        for _ in range(REDIRECTS_MAX + 1):
            response = await self._send(self._request(url, at_home=at_home), kept, fresh)
            try:
                headers = httpx.Headers(response.headers)
                body = await _read_bounded(response, headers.get("content-encoding", ""))
            finally:
                await response.aclose()
            place = headers.get("location", "")
            if self._call.request.method != "GET" or response.status not in REDIRECTS or not place:
                shown = {name: value for name, value in headers.items() if name not in HIDDEN_HEADERS}
                return CallAnswer(response.status, shown, body)
            target = _join(url, place)
            at_home = at_home and _origin(target) == _origin(url)
            url = target
        return CallFailure("sent", f"more than {REDIRECTS_MAX} redirects")

    def _request(self, url: httpx.URL, *, at_home: bool) -> httpx.Request:
        said = self._call.request
        given = {name.lower(): value for name, value in said.headers.items()}
        headers = {**OWN_HEADERS, "content-type": said.content_type} if said.content_type else {**OWN_HEADERS}
        if at_home:
            if self._basic:
                headers["authorization"] = self._basic
            own = self._connector.headers.items() if self._belongs else ()
            headers |= {name.lower(): resolve_secrets(value).strip() for name, value in own}
            headers |= given
        else:
            private = PERSONAL_HEADERS | {name.lower() for name in self._connector.headers}
            headers |= {name: value for name, value in given.items() if name not in private}
        headers["idempotency-key"] = self._call.idempotency_key
        packed = [_header(name, value) for name, value in headers.items()]
        return httpx.Request(said.method, url, headers=packed, content=said.body or None)

    async def _send(
        self, request: httpx.Request, kept: httpcore.AsyncConnectionPool, fresh: httpcore.AsyncConnectionPool
    ) -> httpcore.Response:
        """Send it on a kept connection; on a new one if the kept one turns out to be dead."""
        sent_before = self._sent
        try:
            return await self._on(kept, request)
        except NotSent:
            self._sent = sent_before
        except Stale:
            if not self._repeatable:
                raise
        try:
            return await self._on(fresh, request)
        except NotSent:
            self._sent = sent_before
            raise

    async def _on(self, pool: httpcore.AsyncConnectionPool, request: httpx.Request) -> httpcore.Response:
        url = request.url
        place = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        content = request.content
        given = httpcore.Request(
            request.method, place, headers=request.headers.raw, content=content, extensions={"trace": self._trace}
        )
        return await pool.handle_async_request(given)

    async def _trace(self, event: str, _info: Mapping[str, object]) -> None:
        if event == "http11.send_request_headers.started":
            self._sent = True


def url_of(call: CallIntended, connector: Connector) -> httpx.URL:
    """Where a call goes.

    Raises:
        Refused: that is no URL; a secret of the connector is in no error.
    """
    url, base = call.request.url, connector.base_url
    if not _ABSOLUTE.match(url):
        url = resolve_secrets(base).rstrip("/") + "/" + url.lstrip("/")
    try:
        return _checked(httpx.URL(url))
    except (httpx.InvalidURL, ValueError) as fault:
        said = "" if _ENV.search(base) else f": {fault}"
        raise Refused(f"the URL of the call is not one{said}") from None


def _checked(url: httpx.URL) -> httpx.URL:
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"a call goes to http or https and a host, not {url.scheme!r} and {url.host!r}")
    return url


def _join(url: httpx.URL, place: str) -> httpx.URL:
    try:
        return _checked(url.join(place))
    except (httpx.InvalidURL, ValueError) as fault:
        raise Refused(f"the redirect leads nowhere: {fault}") from None


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    """A header as it goes on the wire; its value is in no error."""
    if not _TOKEN.fullmatch(name) or name in FRAMING_HEADERS:
        raise Refused(f"a call can not set a header of the name {name!r}")
    if _CONTROL.search(value):
        raise Refused(f"the value of the header {name!r} holds a control character")
    return name.encode(), value.strip().encode()


async def _read_bounded(response: httpcore.Response, coding: str) -> bytes:
    """The body, decoded as it comes, so that a small answer can not unfold into a large one.

    Raises:
        httpcore.ReadError: the connection broke, or the body is too large or not what its coding says.
    """
    unzip = zlib.decompressobj(ZLIB_OR_GZIP) if coding.lower() in ("gzip", "x-gzip", "deflate") else None
    body, wrong = bytearray(), ""
    try:
        async for part in response.aiter_stream():
            if wrong:
                continue
            try:
                body += part if unzip is None else unzip.decompress(part, ANSWER_BYTES_MAX + 1 - len(body))
            except zlib.error as fault:
                wrong = f"the answer is not {coding}: {fault}"
            if len(body) > ANSWER_BYTES_MAX:
                wrong = f"the answer is larger than {ANSWER_BYTES_MAX} bytes"
            if wrong:  # Closed, the stream ends by itself; left half read, it would wait for the garbage collector.
                await response.aclose()
    except httpcore.ReadError:
        if not wrong:
            raise
    if unzip is not None and body and not (wrong or unzip.eof):
        wrong = f"the answer ends in the middle of its {coding}"
    if wrong:
        raise httpcore.ReadError(wrong)
    return bytes(body)
