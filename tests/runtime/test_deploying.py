"""What a deploy makes: the identifiers of webhooks (section 4)."""

import secrets
from pathlib import Path

from protocol.definition import Definition
from protocol.loading import Source, load_project
from runtime.deploying import deploy, identifiers
from tests.runtime.rig import running

TWO = """
cycle: two
connectors: {shop: {}}
steps:
  asked: {webhook: shop, fields: {id: text}}
  back: {webhook: shop, match: {id: asked.id}, identifier: pinned-back}
"""


def read(text: str) -> Definition:
    """One cycle."""
    return load_project([Source("two.cycle.yaml", text)])[0]["two"]


def test_4_an_identifier_is_128_random_bits_in_lower_case_base32() -> None:
    """Section 4: nobody finds it by trying; a pinned one is taken as it is, a known one stays."""
    drawn: list[int] = []

    def chance(count: int) -> bytes:
        drawn.append(count)
        return secrets.token_bytes(count)

    made = [identifiers(read(TWO), {}, chance) for _ in range(100)]
    assert set(drawn) == {16}
    assert {one["back"] for one in made} == {"pinned-back"}
    assert len({one["asked"] for one in made}) == 100
    assert all(len(one["asked"]) == 26 and set(one["asked"]) <= set("abcdefghijklmnopqrstuvwxyz234567") for one in made)
    assert identifiers(read(TWO), {"asked": "known"}, chance)["asked"] == "known"


async def test_4_an_identifier_stays_through_restarts_versions_and_a_step_that_was_gone(tmp_path: Path) -> None:
    """Section 4: stable for ever; it is journaled with the version that made it."""
    async with running(tmp_path, TWO) as rig:
        first = dict(rig.engine.state.cycle("two").identifiers)
        renamed = {"two": read(TWO.replace("asked:", "came:").replace("asked.id", "came.id"))}
        await deploy(rig.engine, renamed)
        assert rig.engine.state.cycle("two").identifiers["came"] != first["asked"]
    (tmp_path / "store.sqlite").unlink()
    async with running(tmp_path, TWO) as rig:
        assert rig.engine.state.cycle("two").identifiers["asked"] == first["asked"]
        assert rig.engine.state.cycle("two").identifiers["back"] == "pinned-back"
