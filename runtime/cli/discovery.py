"""Commands of field discovery: from the next request to a webhook, or from a sample in a file."""

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import App, Parameter

from protocol.bodies import BodyError
from protocol.discovery import SAMPLE_TYPES, discover_sample
from protocol.duration import SECOND_NS, parse_duration
from runtime.cli.output import FAULTS, USAGE, Json, err, fail, plain, print_json, print_line
from runtime.cli.remote import Api, Project, ServerUrl, find_webhook

SAMPLE_BYTES_MAX = 16 << 20  # Of a file; far more than a webhook takes.
LOOK_S = 30  # Of one look at a capture; the command looks again until its time is over.


def add_discovery(app: App) -> None:
    """Add these commands to the application."""
    app.command(capture)
    app.command(fields)


def capture(
    target: Annotated[str, Parameter(help="CYCLE/STEP")],
    *,
    last: Annotated[bool, Parameter(help="Show what was captured before, instead of waiting for the next.")] = False,
    timeout: Annotated[str, Parameter(help="How long to wait for a request.")] = "10 minutes",
    project: Project = Path(),
    server: ServerUrl = "",
    json: Json = False,
) -> None:
    """Wait for the next request to a webhook, which runs as without, and print the fields that it would declare."""
    try:
        until = time.monotonic() + parse_duration(timeout) / SECOND_NS
    except ValueError as fault:
        fail(USAGE, f"--timeout: {fault}")
    api = Api(project, server)
    cycle, step, url = find_webhook(api, target)
    path = f"/api/cycles/{quote(cycle, safe='')}/capture/{quote(step, safe='')}"
    found = api.get(path) if last else api.said(api.call("POST", path))
    if last and found["status"] != "captured":
        fail(FAULTS, f"no request to {target} was captured since the server started")
    if not last:
        err.print(plain(f"waiting for the next request to {url}"), markup=False)
    while found["status"] != "captured":
        left = until - time.monotonic()
        if left <= 0:
            fail(FAULTS, f"no request came to {target} within {timeout}")
        found = api.get(path, headers={"prefer": f"wait={min(LOOK_S, max(1, round(left)))}"})
    _print(found, json=json)


def _print(found: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    if found["fault"]:
        fail(FAULTS, f"the request was captured, and its body can not be read: {found['fault']}")
    _print_lines(f"# {found['method']} of {found['body_bytes']} bytes, received {found['received']}")
    _print_lines(found["yaml"])


def fields(
    *,
    sample: Annotated[Path, Parameter(name="--from", help=f"A body in a file: {', '.join(SAMPLE_TYPES)}")],
    json: Json = False,
) -> None:
    """Print the fields that a sample of a body would declare, to be pasted into a step."""
    content_type = SAMPLE_TYPES.get(sample.suffix.lower())
    if content_type is None:
        fail(USAGE, f"the name of a sample ends with {', '.join(SAMPLE_TYPES)}, not with {sample.suffix or 'nothing'}")
    if sample.stat().st_size > SAMPLE_BYTES_MAX:
        fail(FAULTS, f"{sample} is larger than {SAMPLE_BYTES_MAX} bytes: a sample is one body of a request")
    try:
        found = discover_sample(sample.read_bytes().strip(), content_type)
    except BodyError as fault:
        fail(FAULTS, f"{sample}: {fault}")
    if json:
        print_json({"fields": found.fields, "left_out": found.left_out})
    else:
        _print_lines(found.yaml)


def _print_lines(text: str) -> None:
    for line in text.splitlines():
        print_line(line)
