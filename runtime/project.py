"""A project folder on disk: its cycle files read and checked together."""

import itertools
from pathlib import Path

from protocol.check import check_project
from protocol.definition import Definition
from protocol.loading import CheckFault, Source

SUFFIXES = (".cycle.yaml", ".cycle.yml", ".cycle.json", ".cycle.toml")
CONNECTORS = ("connectors.yaml", "connectors.yml")
MODULES_MAX = 10_000  # Python files of one project that are looked at.
FILES_MAX = 1000  # Cycle files of one project; more is a folder named by mistake.


class ProjectError(Exception):
    """The operator's fault: the folder is no project."""


def project_sources(folder: Path) -> list[Source]:
    """The cycle files and the connectors file of a folder, in the order of their names.

    Raises:
        ProjectError: the folder does not exist, holds no cycle file, or holds far too many.
    """
    if not folder.is_dir():
        raise ProjectError(f"{folder} is no folder: name the folder that holds your *.cycle.yaml files")
    paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    if not 1 <= len(paths) <= FILES_MAX:
        raise ProjectError(f"{folder} holds {len(paths)} cycle files: a project has 1 to {FILES_MAX} *.cycle.yaml")
    paths += [folder / name for name in CONNECTORS if (folder / name).exists()]
    return [Source(path.name, path.read_text(errors="replace")) for path in paths]


def read_project(folder: Path) -> tuple[dict[str, Definition], list[CheckFault]]:
    """Every cycle of a folder by name, and every fault of every file; definitions are fit to run without faults."""
    return check_project(project_sources(folder), project_modules(folder))


def project_modules(folder: Path) -> list[str]:
    """The Python modules of a folder, by the names that a script step gives them."""
    found: list[str] = []
    for path in itertools.islice(folder.rglob("*.py"), MODULES_MAX):
        parts = path.relative_to(folder).with_suffix("").parts
        if all(part.isidentifier() for part in parts):
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found
