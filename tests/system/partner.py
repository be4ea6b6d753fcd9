"""A remote system in a thread: counts effects by Idempotency-Key, and may call back before it answers."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.system.background import Answering, Background


class Partner(Background):
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

        class Handler(Answering):
            def do_POST(self) -> None:  # noqa: N802 - The name by which the base class finds it.
                body = json.loads(self.body() or b"null")
                partner.heard.append({name.lower(): value for name, value in self.headers.items()})
                key = self.headers.get("idempotency-key", "")
                packed = json.dumps(partner.handle(self.path, body, key)).encode()
                first = self.path == "/second" and partner.effects[key] == 1
                self.answer(500 if first else partner.status, packed)

        super().__init__(Handler)
        self.url = f"http://{self.address}"

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
