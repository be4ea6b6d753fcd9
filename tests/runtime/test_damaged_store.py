"""The store's file damaged in its structure: found out at a start, and built again from the journal."""

from pathlib import Path

import pytest

from journal import LocalLog
from runtime.replay import fold_journal
from runtime.server import open_store
from runtime.store import digest
from tests.runtime.rig import running

CYCLE = """
cycle: orders
connectors: {shop: {}}
steps:
  placed: {webhook: shop, fields: {order: {type: text, required: true}}}
  back: {webhook: shop, fields: {order: text}, match: {order: placed.order}}
"""
PAGE = 4096


@pytest.mark.parametrize(
    "table", ["meta", "cycles", "transactions", "transactions_active", "hits", "entries", "matched"]
)
async def test_a_store_with_a_broken_page_is_built_again(tmp_path: Path, table: str) -> None:
    """Given a page of a table or an index that is no page, when a server starts, then its store is the journal's fold.

    Also of one that nothing reads at a start: it would be met by a request, and by each one after it.
    """
    async with running(tmp_path, CYCLE) as rig:
        for order in range(50):
            await rig.hit("orders", "placed", {"order": f"A{order}"}).decided()
        await rig.engine.checkpointed()
        (root,) = rig.engine.state.database.select("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))[0]
        rig.engine.state.database.select("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "store.sqlite"
    content = bytearray(path.read_bytes())
    content[(root - 1) * PAGE : root * PAGE] = b"\xff" * PAGE
    path.write_bytes(content)
    with LocalLog.open(tmp_path / "journal") as log:
        database = open_store(path, log)
        replayed = fold_journal(log)
        if database.meta("applied") == replayed.seq:
            assert digest(database) == digest(replayed.state)
        assert database.select("PRAGMA quick_check") == [("ok",)]
        assert database.meta("applied") in (-1, replayed.seq), "built anew, to be caught up, or whole"
        database.close()
