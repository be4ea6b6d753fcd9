"""Where a call may go: the network under the connection pools, which resolves, checks and connects by itself.

1. A name is resolved once for a connection, every address found is checked, and only those are connected to. So a
   name that means something else a moment later can not slip through.
2. How an address is written does not matter: what is checked is what the resolver made of it, and an IPv6 address
   that carries an IPv4 address is judged by the latter, since that is where the packets end.
3. Link-local, multicast, unspecified and metadata addresses are always refused; private, loopback and reserved ones
   unless the connector says `allow_private`; the server's own address over the network in any case.
4. Host and TLS keep the name: the pool above never learns the address.
"""

import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import httpcore
import trio
from msgspec import Struct

Address = IPv4Address | IPv6Address
Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a host name, as text; raises `OSError` when there are none."""

ATTEMPT_S = 0.25  # Between attempts at the addresses of one name, as RFC 8305 recommends.
LOOKUPS_MAX = 4  # Threads that look up one name at a time, so that one that hangs can not take all there are.

NEVER = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
            *("100.100.100.200/32", "168.63.129.16/32"),  # Metadata of Alibaba and Azure, outside the link-local range.
            *("::/128", "fe80::/10", "ff00::/8"),
            *("fd00:ec2::254/128", "fd20:ce::254/128"),  # Metadata of AWS and Google.
        ),
    )
)
# Written out, because what Python counts as global changes between its versions.
PRIVATE = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "240.0.0.0/4"),
            *("2001::/23", "2001:db8::/32", "3fff::/20"),
        ),
    )
)
GLOBAL_IPV6 = ip_network("2000::/3")  # All that was ever given out; loopback, local and reserved lie outside.
# Prefixes before 32 bits of IPv4: compatible, translated, NAT64 by RFC 6052 and by RFC 8215.
CARRIERS = tuple(map(ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96")))


class Refused(Exception):
    """The request may not or can not be sent: an address out of bounds, or a secret that is not there."""


class NotSent(httpcore.ConnectError):
    """The connection was lost before the request left on it, so the remote surely has not seen it."""


class Stale(httpcore.ReadError):
    """A kept connection broke before any byte of the answer: the remote may have seen the request, or not."""


class OwnAddress(Struct, frozen=True):
    """Where this server listens."""

    host: Address
    port: int

    def is_reached_by(self, here: str, there: str, port: int) -> bool:
        """Whether a connection between two addresses ended at ourselves."""
        near, far = _plain(here), _plain(there)
        same_machine = near == far or (near.is_loopback and far.is_loopback)
        return port == self.port and same_machine and (self.host.is_unspecified or self.host == far)


def judge(address: Address, *, allow_private: bool) -> str:
    """What is wrong with calling an address; empty when nothing is."""
    carried = _carried(address)
    if carried:
        return next(filter(None, (judge(one, allow_private=allow_private) for one in carried)), "")
    if any(address in network for network in NEVER):
        return "which no call may reach"
    private = any(address in network for network in PRIVATE)
    if isinstance(address, IPv6Address) and address not in GLOBAL_IPV6:
        private = True
    if private and not allow_private:
        return "say allow_private on the connector to reach private addresses"
    return ""


def _carried(address: Address) -> list[Address]:
    """The IPv4 addresses that packets to an IPv6 address end at or pass through."""
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return []
    if any(address in network for network in CARRIERS):
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    found = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()))
    return [one for one in found if one is not None]


def _plain(text: str) -> Address:
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class Lookup:
    """The machine's resolver, in threads of its own count per name."""

    def __init__(self) -> None:
        self._limiters: dict[str, trio.CapacityLimiter] = {}

    @property
    def pending(self) -> int:
        """How many names are being looked up."""
        return len(self._limiters)

    async def __call__(self, host: str) -> Sequence[str]:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = await self._look_up(host)
        return list(dict.fromkeys(str(place[0]) for *_, place in found))

    async def _look_up(self, host: str) -> list[tuple[Any, ...]]:
        def work() -> list[tuple[Any, ...]]:
            return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))

        limiter = self._limiters.setdefault(host, trio.CapacityLimiter(LOOKUPS_MAX))
        try:
            return await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
        finally:
            if not limiter.borrowed_tokens and not limiter.statistics().tasks_waiting:
                self._limiters.pop(host, None)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """The network as one egress policy lets it be seen."""

    def __init__(self, resolve: Resolver, *, allow_private: bool) -> None:
        self.own: OwnAddress | None = None
        self._resolve = resolve
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - The seam's signature, here and below.
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check and connect; the call's deadline bounds all of it.

        Raises:
            Refused: the name does not resolve, or an address is out of bounds.
            httpcore.ConnectError: nobody listens, or the network is not there.
        """
        del timeout, local_address, socket_options  # The pools are built without them.
        stream = await _first(await self.addresses(host), port)
        here, there = stream.socket.getsockname()[0], stream.socket.getpeername()[0]
        if self.own is not None and self.own.is_reached_by(here, there, port):
            await trio.aclose_forcefully(stream)
            raise Refused(f"{host} port {port} is this server itself: use a `cycle:` link")
        return Connection(stream, stream.socket)

    async def addresses(self, host: str) -> list[Address]:
        """Where a name leads, each address checked.

        Raises:
            Refused: the name does not resolve, or one of its addresses is out of bounds.
        """
        try:
            found = [_plain(text) for text in await self._resolve(host)]
        except (OSError, UnicodeError) as fault:
            said = fault.strerror if isinstance(fault, OSError) else "it is not a host name"
            raise Refused(f"{host} does not resolve: {said}") from None
        for address in found:
            wrong = judge(address, allow_private=self._allow_private)
            if wrong:
                raise Refused(f"{host} is {address}: {wrong}")
        return found


async def _first(addresses: Sequence[Address], port: int) -> trio.SocketStream:
    """Connect to whichever address answers first, starting one after the other (RFC 8305)."""
    won: list[trio.SocketStream] = []
    faults: list[str] = []

    async def attempt(address: Address, failed: trio.Event, scope: trio.CancelScope) -> None:
        try:
            won.append(await _connect(address, port))
            scope.cancel()
        except OSError as fault:
            faults.append(f"{address} port {port}: {os.strerror(fault.errno) if fault.errno else fault}")
            failed.set()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed, nursery.cancel_scope)
                with trio.move_on_after(ATTEMPT_S):
                    await failed.wait()
    except trio.Cancelled:
        _drop(won)
        raise
    _drop(won[1:])
    if not won:
        raise httpcore.ConnectError("; ".join(faults))
    return won[0]


def _drop(streams: Sequence[trio.SocketStream]) -> None:
    for stream in streams:
        stream.socket.close()


async def _connect(address: Address, port: int) -> trio.SocketStream:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    endpoint = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await endpoint.connect((str(address), port))
        return trio.SocketStream(endpoint)
    except BaseException:
        endpoint.close()
        raise


class Connection(httpcore.AsyncNetworkStream):
    """A connection that knows between which requests it stands, and so what its loss means.

    The pool sends one request after the other: bytes that leave after bytes that came begin the next one.
    """

    def __init__(self, stream: trio.abc.Stream, endpoint: trio.socket.SocketType) -> None:
        self._stream = stream
        self._socket = endpoint
        self._requests = 0
        self._begun = False  # Whether bytes of the request at hand have left.
        self._answering = True  # Whether bytes came since; so the first request begins like any other.

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send bytes of a request.

        Raises:
            NotSent: none of this request left; it may be sent again whatever it does.
            httpcore.WriteError: the connection broke in the middle of it.
        """
        del timeout
        if not buffer:
            return
        if self._answering:
            self._answering = self._begun = False
            self._requests += 1
            if self._requests > 1 and self._socket.is_readable():  # Between requests that can only be its end.
                raise NotSent("the remote closed the kept connection")
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
            # Of a head that was not taken whole the remote can make nothing.
            raise (httpcore.WriteError if self._begun else NotSent)(_said(fault)) from fault
        self._begun = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Receive bytes of an answer.

        Raises:
            Stale: the connection had served before, and ended without a byte of this answer.
            httpcore.ReadError: it broke.
        """
        del timeout
        kept = self._requests > 1 and not self._answering
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
            raise (Stale if kept else httpcore.ReadError)(_said(fault)) from fault
        if data:
            self._answering = True
        elif kept:
            raise Stale("the remote closed the kept connection")
        return data

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Encrypt from here on.

        Raises:
            httpcore.ConnectError: the remote is not who it should be, or speaks no TLS.
        """
        del timeout
        secured = trio.SSLStream(self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException as fault:
            await trio.aclose_forcefully(self._stream)
            if isinstance(fault, trio.BrokenResourceError | trio.ClosedResourceError):
                raise httpcore.ConnectError(_said(fault)) from fault
            raise
        return Connection(secured, self._socket)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """What the pool asks before it uses a kept connection."""
        return self._socket.is_readable() if info == "is_readable" else None


def _said(fault: BaseException) -> str:
    """The reason under a broken stream, which by itself says nothing."""
    cause = fault.__cause__
    return str(cause or fault) or type(fault).__name__


def own_address(url: str) -> OwnAddress | None:
    """The address in a bound URL; None when it is bound to something else than an address."""
    parsed = httpcore.URL(url)
    try:
        host = ip_address(parsed.host.decode().strip("[]"))
    except ValueError:
        return None
    return OwnAddress(host, parsed.port) if parsed.port else None
