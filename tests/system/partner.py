"""A remote system in a thread: counts effects by Idempotency-Key, and may call back before it answers."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import httpx


class Partner:
    """POST /effects counts; POST /jobs calls the given webhook back from inside its handler, then answers.

    POST /signal answers when the test gives the signal. POST /second fails the first time that a key comes. Each other
    one is answered with `status`.
    """

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.bodies: list[Any] = []
        self.heard: list[dict[str, str]] = []  # The headers of each request, names in lower case.
        self.callback = ""
        self.status = 200
        self._gate = (threading.Semaphore(0), threading.Event())
        self._gate[1].set()
        self._lock = threading.Lock()
        partner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"null")
                partner.heard.append({name.lower(): value for name, value in self.headers.items()})
                key = self.headers.get("idempotency-key", "")
                answer = partner.handle(self.path, body, key)
                packed = json.dumps(answer).encode()
                first = self.path == "/second" and partner.effects[key] == 1
                self.send_response(500 if first else partner.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(packed)))
                self.end_headers()
                self.wfile.write(packed)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - The base class names it so.
                """Say nothing: a test's output is for failures."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # A server that restarts sends all its open calls at once; 5 would reset some.

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A server that was killed resets its connections; that is the test, no fault."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def handle(self, path: str, body: Any, key: str) -> Any:
        """Count an effect, and for a job call back first."""
        with self._lock:
            self.effects[key] += 1
            self.bodies.append(body)
        if path == "/jobs" and self.callback:
            sent = {"job_id": body["job_id"], "status": "Received"}
            assert httpx.post(self.callback, json=sent, timeout=10).status_code == 202
        if path == "/signal":
            asked, signal = self._gate
            asked.release()
            assert signal.wait(20), "the test never gave the signal"
        return body

    @contextmanager
    def waiting(self) -> Generator[Callable[[], None]]:
        """Calls to /signal are answered at the end of the block; what it gives waits until one has come."""
        self._gate = calls, signal = threading.Semaphore(0), threading.Event()

        def asked() -> None:
            assert calls.acquire(timeout=10), "no call came"

        try:
            yield asked
        finally:
            signal.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
