"""Scripts: functions of the project, called with the data of a pass and bounded in time, number and size of result.

1. Whatever a function does, the server goes on: an exception, a wrong result and a timeout are failures of the step.
2. A function that is not async runs in a thread, of which there are few; one that does not end keeps its thread.
3. The result is journaled, so replay never calls a function again.
4. A load brings all the code that a project has now, or none of it: what fails leaves the modules of before in place.
"""

import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import msgspec
import trio

from protocol.bodies import BodyError, check_value
from protocol.calls import RENDERED_BYTES_MAX
from protocol.events import CallIntended
from protocol.inputs import CallFailure, ScriptResult
from protocol.program import SCRIPT_NS
from runtime.blocking import Blocking, in_thread

THREADS_MAX = 8  # Functions that are not async, at once: they share one interpreter, so more would only wait.
SAID_MAX = 4096  # Characters of what an exception says; secrets are masked, and it is cut further, by who records it.
ASKED_MAX = 256  # Requests that wait for a `before_webhook`: each holds its body, and its caller waits.

Heeded = TypeVar("Heeded")


class ScriptFailed(Exception):
    """The project's fault: a function raised, took too long, or returned what means nothing."""


class TooManyAsked(Exception):
    """As many requests as may wait for functions do so."""


_loaded: set[str] = set()  # Modules of the project that were imported, to be imported anew by the next deploy.
_loading = threading.Lock()  # The interpreter has one table of modules: who imports late waits for a deploy that loads.


class Scripts:
    """The functions of one project folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._functions: dict[str, Callable[[Any], Any]] = {}
        self.blocking: Blocking = in_thread
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._door_threads = trio.CapacityLimiter(THREADS_MAX)  # Of requests, which do not wait behind steps.
        self._asked = 0

    def load(self, names: Iterable[str]) -> dict[str, str]:
        """Import functions anew, so that what runs is what was deployed. Blocks.

        Returns:
            What is wrong with each that can not be loaded; then the modules are those of before.
        """
        faults: dict[str, str] = {}
        with _loading, _anew(faults):
            for name in names:
                try:
                    self._functions[name] = self._load(name)
                except (Exception, SystemExit) as fault:  # noqa: BLE001 - A module may raise anything when imported.
                    faults[name] = f"{type(fault).__name__}: {fault}"[:SAID_MAX]
        return faults

    async def perform(self, call: CallIntended, data: dict[str, Any]) -> ScriptResult | CallFailure:
        """Call the function that a request names; never raises for what it does."""
        try:
            return ScriptResult(
                await self._bounded(call.request.url, data, call.request.timeout, self._threads, _journalable)
            )
        except ScriptFailed as failed:
            return CallFailure("sent", str(failed))

    async def ask(self, name: str, request: dict[str, Any], heed: Callable[[Any], Heeded]) -> Heeded:
        """Let a `before_webhook` say what becomes of a request; `heed` makes sense of its word.

        Raises:
            ScriptFailed: it raised, took too long, or returned what means nothing.
            TooManyAsked: as many requests as may wait for such functions do so.
        """
        if self._asked >= ASKED_MAX:
            raise TooManyAsked(f"{ASKED_MAX} requests wait for functions of the project")
        self._asked += 1
        try:
            return await self._bounded(name, request, SCRIPT_NS, self._door_threads, heed)
        finally:
            self._asked -= 1

    async def _bounded(
        self, name: str, data: dict[str, Any], within: int, threads: trio.CapacityLimiter, heed: Callable[[Any], Heeded]
    ) -> Heeded:
        seconds = within / 1e9
        try:
            with trio.fail_after(seconds):
                return heed(await self._call(name, data, threads))
        except trio.TooSlowError:
            raise ScriptFailed(f"{name} did not return within {seconds:g} seconds") from None
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - A function may raise anything; its step fails by it.
            raise ScriptFailed(f"{name}: {type(fault).__name__}: {fault}"[:SAID_MAX]) from None

    async def _call(self, name: str, data: dict[str, Any], threads: trio.CapacityLimiter) -> Any:
        function = self._functions.get(name)
        if function is None:
            function = await self.blocking(partial(self._load_late, name), limiter=threads)
            self._functions[name] = function
        if inspect.iscoroutinefunction(function):
            return await function(data)
        return await self.blocking(function, data, limiter=threads, abandon_on_cancel=True)

    def _load_late(self, name: str) -> Callable[[Any], Any]:
        """Import a function that only an older version of a cycle names."""
        with _loading:
            return self._load(name)

    def _load(self, name: str) -> Callable[[Any], Any]:
        """Import a function; a module that lies outside the project is refused, since another was meant."""
        module_name, _, function_name = name.partition(":")
        if str(self._folder) not in sys.path:
            sys.path.append(str(self._folder))  # At the end: a file of the project must not stand in for one of ours.
        known = set(sys.modules)
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(module_name)
        finally:  # What a module imported before it failed is imported anew as well.
            _loaded.update(name for name in set(sys.modules) - known if self._is_ours(sys.modules[name]))
        if not self._is_ours(module):
            raise ImportError(f"{module_name} is a module outside the project: give the project's own another name")
        function = getattr(module, function_name, None)
        if not callable(function):
            raise ImportError(f"{module_name} has no function {function_name}")  # noqa: TRY004 - Its name is wrong.
        found: Callable[[Any], Any] = function
        return found

    def _is_ours(self, module: ModuleType) -> bool:
        """Whether a module is code of the project; its virtual environment may lie in the folder, and is not."""
        path = Path(getattr(module, "__file__", None) or "/").resolve()
        return path.is_relative_to(self._folder) and "site-packages" not in path.parts


@contextmanager
def _anew(faults: dict[str, str]) -> Generator[None]:
    """Within this block the modules of the project are imported anew; those of before come back if it has faults."""
    before = {name: sys.modules.pop(name) for name in _loaded if name in sys.modules}
    _loaded.clear()
    try:
        yield
    finally:
        if faults:
            for name in _loaded:
                sys.modules.pop(name, None)
            sys.modules.update(before)
            _loaded.clear()
            _loaded.update(before)


def _journalable(result: Any) -> dict[str, Any]:
    """What a function returned, as JSON has it; nothing is no data, and what is no object is found as `result`."""
    packed = msgspec.json.encode(result)
    if len(packed) > RENDERED_BYTES_MAX:
        raise BodyError(f"the result has {len(packed)} bytes, of at most {RENDERED_BYTES_MAX}")
    value = msgspec.json.decode(packed)
    check_value(value)
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"result": value}
