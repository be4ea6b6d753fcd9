"""Addresses, TLS and bounds as Hypercorn has them, made from our settings."""

import errno
import socket
import ssl
from pathlib import Path

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.config import Sockets

from runtime.config import ConfigError, Settings

LISTEN_BACKLOG = 4096  # Connections that wait to be accepted; past it the kernel drops or resets them.
BIND_TRIES = 10  # So who takes an address that another program has is told within a second.
BIND_AGAIN_S = 0.1
KEPT_REQUESTS_MAX = 1_000_000  # On one connection; Hypercorn's 1,000 would cut a busy sender every second.


class HttpConfig(HypercornConfig):
    """Hypercorn's settings, with a bound for callers who do not take their answers.

    Hypercorn shields what it sends over HTTP/1.1 from cancellation, so such a caller would hold his connection for
    ever, and keep the server from ending. Only the kernel can cut him off; connections inherit the listener's option.
    """

    answer_timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> "HttpConfig":
        """What our settings mean for Hypercorn."""
        config = cls()
        config.bind = [settings.bind]
        if settings.tls_certificate:
            config.certfile = str(Path(settings.project, settings.tls_certificate))
            config.keyfile = str(Path(settings.project, settings.tls_key or settings.tls_certificate))
        config.ssl_handshake_timeout = settings.idle_timeout_s
        config.answer_timeout_s = settings.answer_timeout_s
        config.backlog = LISTEN_BACKLOG
        config.h11_max_incomplete_size = settings.header_bytes_max
        config.keep_alive_timeout = settings.idle_timeout_s
        config.include_server_header = False
        config.keep_alive_max_requests = KEPT_REQUESTS_MAX
        config.accesslog = None
        config.errorlog = None
        return config

    def create_sockets(self) -> Sockets:
        """The listeners; nothing is accepted from them yet."""
        sockets = super().create_sockets()
        option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it.
        if option is not None:
            milliseconds = max(1, round(self.answer_timeout_s * 1000))
            for listener in [*sockets.secure_sockets, *sockets.insecure_sockets]:
                listener.setsockopt(socket.IPPROTO_TCP, option, milliseconds)
        return sockets

    def tls(self) -> ssl.SSLContext | None:
        """The context of connections over TLS; raises `ConfigError` when the settings give none."""
        try:
            return self.create_ssl_context()
        except OSError as fault:  # Also ssl.SSLError, which is one.
            raise ConfigError(f"tls_certificate and tls_key are no certificate and its key: {fault}") from None

    async def listening(self) -> list[socket.socket]:
        """The sockets, at which connections wait from now on; raises `OSError` when the address is taken.

        The processes of a server that was killed (`workers`) hold its address for a moment longer than itself.
        """
        for _ in range(BIND_TRIES):
            try:
                sockets = self.create_sockets()
                break
            except OSError as fault:
                if fault.errno != errno.EADDRINUSE:
                    raise
            await trio.sleep(BIND_AGAIN_S)
        else:
            sockets = self.create_sockets()
        found = [*sockets.secure_sockets, *sockets.insecure_sockets]
        for one in found:
            one.listen(self.backlog)
        return found
