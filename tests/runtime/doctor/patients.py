"""Stores for the doctor: one that turns made, and one that a test breaks by hand behind the engine's back."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio.testing

from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from protocol.state import HitRow, TransactionRow
from runtime.store.rows import TABLES, encode
from tests.runtime.rig import Rig, answer, running

JOBS = """
cycle: jobs
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {job: {type: integer, required: true}}}
  work: {post: remote, path: "/work/{{ asked.job }}"}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}, note: {type: text, required: true}}
    match: {job: asked.job}
    hold_for: 2 days
    on_timeout: end
  told: {respond: {body: {ok: true}}}
"""


async def remote(call: CallIntended) -> CallAnswer | CallFailure:
    """Job 3 is refused."""
    return answer({}, 500 if call.request.url == "/work/3" else 200)


async def settled(rig: Rig) -> None:
    """Everything asked for is done, and the store has it."""
    await trio.testing.wait_all_tasks_blocked()
    await rig.engine.checkpointed()


@asynccontextmanager
async def lived(folder: Path, *files: str) -> AsyncGenerator[Rig]:
    """Job 1 completed, job 2 holds, job 3 failed, and a request for job 9 is parked."""
    async with running(folder, *(files or (JOBS,)), remote=remote) as rig:
        for job in (1, 2, 3):
            await rig.hit("jobs", "asked", {"job": job}).decided()
        await settled(rig)
        await rig.hit("jobs", "back", {"job": 1, "note": "x"}).decided()
        await rig.hit("jobs", "back", {"job": 9, "note": "secret-4711"}).decided()
        await settled(rig)
        yield rig


def transaction_id(store: Path, status: str) -> int:
    """The id of the transaction of a status."""
    with sqlite3.connect(store) as connection:
        ((found,),) = connection.execute("SELECT id FROM transactions WHERE status = ?", (status,)).fetchall()
    connection.close()
    return int(found)


def change(store: Path, kind: type[TransactionRow | HitRow], status: str, edit: Callable[[Any], None]) -> int:
    """Change a row of a status in the file, its columns included; returns its id."""
    table = TABLES[kind]
    with sqlite3.connect(store) as connection:
        (packed,) = connection.execute(
            f"SELECT row FROM {table.name} WHERE status = ?",  # noqa: S608 - A name of rows.py.
            (status,),
        ).fetchone()
        row = table.decode(packed)
        edit(row)
        connection.execute(table.upsert, (*table.values(row), encode(row)))
    connection.close()
    return int(row.id)


def execute(store: Path, statement: str, *values: Any) -> None:
    """One statement, behind everybody's back."""
    with sqlite3.connect(store) as connection:
        connection.execute(statement, values)
    connection.close()
