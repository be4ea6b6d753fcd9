"""A remote system that takes any method and body, tells what came, and fails on some paths."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

STATUS = {"/gone": (404, 404), "/second": (500, 200), "/limited": (429, 200)}  # The first time a key comes, and later.


class Echo:
    """Answers with the method; `/gone`, `/second` and `/limited` fail, the last two only once.

    Attributes:
        came: method, path with its query, content type and body of each request, in order.
        keys: how often each Idempotency-Key came.
        tokens: every value of Authorization that came.
    """

    def __init__(self) -> None:
        self.came: list[tuple[str, str, str, str]] = []
        self.keys: Counter[str] = Counter()
        self.tokens: set[str] = set()
        self._lock = threading.Lock()
        echo = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
                status = echo.take(self, body)
                packed = json.dumps({"method": self.command}).encode()
                self.send_response(status)
                if status == 429:
                    self.send_header("retry-after", "0")
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(packed)))
                self.end_headers()
                self.wfile.write(packed)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - The base class names it so.
                """Say nothing: a test's output is for failures."""

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.answer)

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A server that was killed resets its connections; that is the test, no fault."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def take(self, request: BaseHTTPRequestHandler, body: str) -> int:
        """Record a request; gives the status of its answer."""
        key = request.headers.get("idempotency-key", "")
        with self._lock:
            self.came.append((request.command, request.path, request.headers.get("content-type", ""), body))
            self.keys[key] += 1
            self.tokens.add(request.headers.get("authorization", ""))
            return STATUS.get(request.path, (200, 200))[self.keys[key] > 1]

    def bodies(self, path: str) -> list[str]:
        """The bodies that came to a path, in order."""
        return [body for _, where, _, body in self.came if where == path]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
