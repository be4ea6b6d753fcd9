"""Scripts: functions of the project, called with the data of a pass and bounded in time, number and size of result.

1. Whatever a function does, the server goes on: an exception, a wrong result and a timeout are failures of the step.
2. A function that is not async runs in a thread, of which there are few; one that does not end keeps its thread.
3. The result is journaled, so replay never calls a function again.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import trio

from protocol.bodies import BodyError, check_value
from protocol.calls import RENDERED_BYTES_MAX
from protocol.events import CallIntended
from protocol.inputs import CallFailure, ScriptResult

THREADS_MAX = 8  # Functions that are not async, at once: they share one interpreter, so more would only wait.
SAID_MAX = 4096  # Characters of what an exception says; secrets are masked, and it is cut further, by who records it.


_loaded: set[str] = set()  # Modules of the project that were imported, to be imported anew after a deploy.


class Scripts:
    """The functions of one project folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._functions: dict[str, Callable[[Any], Any]] = {}
        while _loaded:  # A deploy brings code that may have changed.
            sys.modules.pop(_loaded.pop(), None)
        self._threads = trio.CapacityLimiter(THREADS_MAX)

    def load(self, names: Iterable[str]) -> dict[str, str]:
        """Import functions, so that what runs is what was deployed; what is wrong with each that can not be. Blocks."""
        faults: dict[str, str] = {}
        for name in names:
            try:
                self._functions[name] = self._load(name)
            except (Exception, SystemExit) as fault:  # noqa: BLE001 - A module may raise anything when it is imported.
                faults[name] = f"{type(fault).__name__}: {fault}"[:SAID_MAX]
        return faults

    async def perform(self, call: CallIntended, data: dict[str, Any]) -> ScriptResult | CallFailure:
        """Call the function that a request names; never raises for what it does."""
        seconds = call.request.timeout / 1e9
        try:
            with trio.fail_after(seconds):
                return ScriptResult(_journalable(await self._call(call.request.url, data)))
        except trio.TooSlowError:
            return CallFailure("sent", f"{call.request.url} did not return within {seconds:g} seconds")
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - A function may raise anything; its step fails by it.
            return CallFailure("sent", f"{call.request.url}: {type(fault).__name__}: {fault}"[:SAID_MAX])

    async def _call(self, name: str, data: dict[str, Any]) -> Any:
        function = self._functions.get(name)
        if function is None:
            function = await trio.to_thread.run_sync(partial(self._load, name), limiter=self._threads)
            self._functions[name] = function
        if inspect.iscoroutinefunction(function):
            return await function(data)
        return await trio.to_thread.run_sync(function, data, limiter=self._threads, abandon_on_cancel=True)

    def _load(self, name: str) -> Callable[[Any], Any]:
        """Import a function; a module that lies outside the project is refused, since another was meant."""
        module_name, _, function_name = name.partition(":")
        if str(self._folder) not in sys.path:
            sys.path.append(str(self._folder))  # At the end: a file of the project must not stand in for one of ours.
        known = set(sys.modules)
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
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
