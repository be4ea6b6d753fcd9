"""A start, shown on a terminal: how far the journal is read."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import Progress, TaskID

from runtime.cli.output import err

SHOW_S = 0.1  # Between two looks; a frame is folded in less than a look costs.


@contextmanager
def recovery_bar() -> Generator[Callable[[str, int, int], None] | None]:
    """What a server tells its progress: (what it does, how far, of how much); None where nobody would see it.

    The bar comes with the first news and goes when everything is read, since log lines follow.
    """
    if not err.is_terminal:
        yield None
        return
    bar = Progress(console=err, transient=True)
    tasks: dict[str, TaskID] = {}
    latest = 0.0

    def show(words: str, done: int, total: int) -> None:
        nonlocal latest
        now = time.perf_counter()
        if done < total and now - latest < SHOW_S:
            return
        latest = now
        if words not in tasks:
            tasks[words] = bar.add_task(words)
            bar.start()
        bar.update(tasks[words], completed=done, total=total)
        if done >= total:
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()
