"""Runs an example: its partner and a server side by side, until Ctrl-C, with lines to paste into another terminal.

    python examples/run.py examples/orders
    python examples/run.py examples/orders partner      # only that, beside a server that you started yourself

An example is a project folder with three things more: one Python file, the partner, whose `make_app` gives the server
that the cycles call; a README.md whose part "Try it" is printed here; and, where webhooks are signed, a demo.env with
secrets that are none. Where both listen is read from cyclewright.toml and connectors.yaml.
"""

import os
import re
import runpy
import signal
import socket
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

READY_S = 30  # A journal of millions of events is read again in this time.
LOOK_S = 0.1  # Between looks at whether the server is ready.


async def main(folder: Path) -> int:
    """Start both, tell what to try once both are ready, and end with the server; returns its exit code."""
    server = tomllib.loads((folder / "cyclewright.toml").read_text())["bind"]
    partner = _partner_address(folder)
    for address in (server, partner):
        if _taken(address):
            print(f"the example needs {address}, which another program holds: stop that first", file=sys.stderr)  # noqa: T201 - For a person.
            return 1
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_partner, folder)
        # A group of its own: Ctrl-C reaches only this script, which passes it on once.
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "runtime.cli", "serve", str(folder)],
            start_new_session=True,
            env={**demo_secrets(folder), **os.environ},
        )
        nursery.start_soon(_pass_on, process)
        nursery.start_soon(_tell_when_ready, process, folder, server, partner)
        code = await process.wait()
        nursery.cancel_scope.cancel()
    return code


async def serve_partner(folder: Path, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve what the cycles of an example call, until cancelled."""
    config = Config()
    config.bind = [_partner_address(folder)]
    config.accesslog = config.errorlog = None
    app = partner_app(folder)

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        """Quart-Trio ends a request's task as its last byte leaves; unshielded, Hypercorn would then never read on."""

        async def sending(message: Any) -> None:
            with trio.CancelScope(shield=message["type"] == "http.response.body"):
                await send(message)

        await app(scope, receive, sending)

    await serve(whole, config, shutdown_trigger=trio.sleep_forever, task_status=task_status)


def partner_app(folder: Path) -> Any:
    """The server that the cycles of an example call, with empty books."""
    (path,) = folder.glob("*.py")
    return runpy.run_path(str(path))["make_app"]()


def demo_secrets(folder: Path) -> dict[str, str]:
    """The secrets of an example, which everyone may know."""
    path = folder / "demo.env"
    text = path.read_text() if path.exists() else ""
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


def lines_to_paste(folder: Path) -> str:
    """The shell blocks below "Try it" in the README of an example."""
    _, _, below = (folder / "README.md").read_text().partition("\n## Try it\n")
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", below, re.MULTILINE | re.DOTALL))


def _partner_address(folder: Path) -> str:
    found = re.search(r"""base_url: ["']?http://([\d.]+:\d+)""", (folder / "connectors.yaml").read_text())
    assert found is not None, "a connector of an example leads to its partner"
    return found[1]


def _taken(address: str) -> bool:
    """Asked beforehand, since whoever else answers there would pass for our server."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return True
    return False


async def _pass_on(process: trio.Process) -> None:
    """Ctrl-C, a closed terminal and SIGTERM end the server, which drains; the partner stays until it has."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGTERM)


async def _tell_when_ready(process: trio.Process, folder: Path, server: str, partner: str) -> None:
    """Print what to try once the server of this very process says that it is ready."""
    async with httpx.AsyncClient(trust_env=False) as client:
        with trio.move_on_after(READY_S):
            while process.returncode is None:
                try:
                    ready = (await client.get(f"http://{server}/readyz")).is_success
                except httpx.TransportError:
                    ready = False
                if ready and process.returncode is None:
                    print(  # noqa: T201 - The whole point of this script.
                        f"\n{folder.name} runs: cyclewright on http://{server}, its partner on http://{partner}.\n"
                        f"Paste these into another terminal, in this folder, one after the other.\n\n"
                        f"{lines_to_paste(folder)}\nCtrl-C stops both.",
                        flush=True,
                    )
                    return
                await trio.sleep(LOOK_S)


if __name__ == "__main__":
    match [Path(argument) for argument in sys.argv[1:]]:
        case [folder] if (folder / "README.md").exists():
            sys.exit(trio.run(main, folder))
        case [folder, Path(name="partner")]:
            with suppress(KeyboardInterrupt):
                trio.run(serve_partner, folder)
        case _:
            known = " ".join(sorted(path.parent.name for path in Path(__file__).parent.glob("*/README.md")))
            sys.exit(f"usage: {sys.argv[0]} FOLDER [partner], where FOLDER is one of examples/: {known}")
