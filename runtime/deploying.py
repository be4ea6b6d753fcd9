"""Definitions made current: at the start, and again when a project's files have changed.

1. All or nothing: a project with a fault changes nothing, and says why.
2. New transactions get the new version; a pass in progress keeps its own, and `protocol.moving` says what follows it.
3. A cycle that is gone from the project is left as it is: its transactions still end.
"""

import base64
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
import trio
from msgspec import Struct

from protocol.definition import Definition, WebhookStep, functions
from protocol.inputs import Deploy, Start
from protocol.loading import CheckFault, encode_definition, version_name
from runtime.door import Door
from runtime.engine import Engine
from runtime.project import ProjectError, read_project
from runtime.scripts import Scripts

IDENTIFIER_BYTES = 16  # 128 random bits: not to be guessed, whatever the rate of tries.

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.deploying")


class Deployed(Struct, frozen=True):
    """What a deploy did, by cycle; with faults it did nothing."""

    faults: list[CheckFault] = []
    new: list[str] = []
    changed: list[str] = []
    unchanged: list[str] = []
    gone: list[str] = []


def identifiers(
    definition: Definition, known: Mapping[str, str], chance: Callable[[int], bytes] = secrets.token_bytes
) -> dict[str, str]:
    """The webhook identifiers of a definition: pinned ones, known ones, and new random ones."""
    found: dict[str, str] = {}
    for name, step in definition.steps.items():
        if isinstance(step, WebhookStep):
            fresh = base64.b32encode(chance(IDENTIFIER_BYTES)).decode().rstrip("=").lower()
            found[name] = step.identifier or known.get(name) or fresh
    return found


async def deploy(
    engine: Engine, definitions: Mapping[str, Definition], chance: Callable[[int], bytes] = secrets.token_bytes
) -> Deployed:
    """Make definitions the current ones; a cycle that is new starts, one that was stopped stays so."""
    done = Deployed(gone=[row.name for row in engine.state.cycles() if row.name not in definitions])
    for name, definition in definitions.items():
        packed = encode_definition(definition)
        try:
            row = engine.state.cycle(name)
            known, before = row.identifiers, row.definition_hash
        except KeyError:
            known, before = {}, ""
        digest = version_name(packed)
        names = {**known, **identifiers(definition, known, chance)}
        given = Deploy(name, engine.clock(), packed, digest, names, engine.settings.alerts)
        await engine.order(given).decided()
        (done.unchanged if digest == before else done.changed if before else done.new).append(name)
        if not before:
            await engine.order(Start(name, engine.clock())).decided()
    return done


def load_scripts(project: Path, definitions: Mapping[str, Definition]) -> tuple[Scripts, list[CheckFault]]:
    """The functions that the steps of a project name, and a fault for each that can not be loaded. Blocks."""
    scripts = Scripts(project)
    steps = (step for definition in definitions.values() for step in definition.steps.values())
    wrong = scripts.load(sorted({name for step in steps for name in functions(step).values()}))
    rule = "can not be loaded"
    return scripts, [
        CheckFault(f"{name.partition(':')[0]}.py", 1, "", f"{name} {rule}", said) for name, said in wrong.items()
    ]


async def reload(engine: Engine, door: Door, project: Path) -> Deployed:
    """Read a project again and deploy it, if it has no fault; its scripts are loaded anew.

    Raises:
        ProjectError: the folder is no project any more.
    """
    definitions, faults = await trio.to_thread.run_sync(read_project, project)
    scripts = engine.scripts
    if not faults:
        scripts, faults = await trio.to_thread.run_sync(load_scripts, project, definitions)
    if faults:
        return Deployed(faults=faults)
    engine.scripts = scripts
    done = await deploy(engine, definitions)
    door.learn()
    return done


async def reload_logged(door: Door) -> None:
    """The same at a signal, whose sender reads the log."""
    if door.reload is None:
        log.warning("nothing was deployed: the server still reads its journal")
        return
    try:
        done = await door.reload()
    except (ProjectError, OSError) as fault:
        log.error("nothing was deployed", fault=str(fault))  # noqa: TRY400 - A fault of the operator's, no defect.
        return
    if done.faults:
        log.error("nothing was deployed", faults=[str(fault) for fault in done.faults])
    else:
        log.info("deployed", new=done.new, changed=done.changed, gone=done.gone)
