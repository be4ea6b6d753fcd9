"""Lists of the API that have no parameters but their page: rows of one kind, by their numbers."""

from typing import TypeVar

from quart import request

from protocol.state import HitRow, IncidentRow
from runtime.door.openapi import QUERIES
from runtime.door.parameters import Parameters
from runtime.engine import Engine
from runtime.store.rows import TABLES

Listed = TypeVar("Listed", HitRow, IncidentRow)


async def list_page(engine: Engine, path: str, kind: type[Listed], where: str) -> tuple[list[Listed], int | None]:
    """The page that the present request asks for, and the number to go on after, if more rows follow.

    Args:
        engine: whose rows.
        path: of the operation, which says what parameters there are.
        kind: of the rows.
        where: which of them, as a condition of our own making.

    Raises:
        BadParameters: with every fault.
    """
    given = Parameters(request.args, QUERIES[path])
    after, limit = given.page()
    given.close()
    await engine.checkpointed()
    condition = f"{where} AND id > ? ORDER BY id LIMIT ?"
    found: list[Listed] = list(engine.state.database.rows(TABLES[kind], condition, (after, limit + 1)))
    return found[:limit], found[limit - 1].id if len(found) > limit else None
