"""A remote system that takes any method and body, tells what came, and fails on some paths."""

import json
import threading
from collections import Counter

from tests.system.background import Answering, Background

STATUS = {"/gone": (404, 404), "/second": (500, 200), "/limited": (429, 200)}  # The first time a key comes, and later.


class Echo(Background):
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

        class Handler(Answering):
            def tell(self) -> None:
                status = echo.take(self, self.body().decode())
                packed = json.dumps({"method": self.command}).encode()
                self.answer(status, packed, {"retry-after": "0"} if status == 429 else None)

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.tell)
        super().__init__(Handler)

    def take(self, request: Answering, body: str) -> int:
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
