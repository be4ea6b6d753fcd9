"""What remote systems of tests share: an HTTP server in threads of its own, that says nothing and minds no reset."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Answering(BaseHTTPRequestHandler):
    """Reads and answers one request."""

    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        """What came with the request."""
        return self.rfile.read(int(self.headers["content-length"] or 0))

    def answer(self, status: int, packed: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        self.send_response(status)
        said = {**(headers or {}), "content-type": "application/json", "content-length": str(len(packed))}
        for name, value in said.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(packed)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - The base class names it so.
        """Say nothing: a test's output is for failures."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # A server that restarts sends all its open calls at once; 5 would reset some.

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A server that was killed resets its connections; that is the test, no fault."""


class Background:
    """Listens within its `with` block, at `address`."""

    def __init__(self, handler: type[Answering]) -> None:
        self._server = _Quiet(("127.0.0.1", 0), handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
