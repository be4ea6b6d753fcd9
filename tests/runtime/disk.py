"""A disk under a running engine that a test holds back."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from runtime.committer import InlineAppender


class SlowDisk:
    """A disk that makes one batch durable whenever the test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._allowed = trio.Semaphore(0)
        append = InlineAppender.append

        async def wait_and_append(appender: InlineAppender, groups: Sequence[Sequence[bytes]], at: int) -> None:
            await self._allowed.acquire()
            await append(appender, groups, at)

        patch.setattr(InlineAppender, "append", wait_and_append)

    async def sync_one(self) -> None:
        """Let one batch become durable, and everything that waits for it run."""
        self._allowed.release()
        await trio.testing.wait_all_tasks_blocked()
