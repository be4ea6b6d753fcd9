"""Verification over real HTTP (section 4): before anything else, and without a trace of the secret."""

from pathlib import Path

import httpx

from tests.system.harness import Server

SIGNED = """
cycle: signed
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: signed-asked
    verify: {scheme: api_key, header: X-Shop-Key, secrets: [env.SHOP_KEY_NEW, env.SHOP_KEY]}
  answer: {respond: {body: "{{ hit.headers }}"}}
"""


def test_4_a_request_that_is_not_signed_is_401_and_its_secret_is_never_kept(tmp_path: Path) -> None:
    """Section 4: nothing is journaled; one of two live secrets is set; the key's header is dropped from the record."""
    (tmp_path / "signed.cycle.yaml").write_text(SIGNED)
    with Server(tmp_path, environment={"SHOP_KEY": "k-1"}) as server:
        for headers in ({}, {"x-shop-key": "k-2"}, {"x-shop-key": ""}):
            refused = httpx.post(f"{server.url}/webhook/signed-asked", content=b"{", headers=headers)
            assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
            assert "k-1" not in refused.text
        assert not server.transactions()
        taken = server.hit("signed-asked", {}, **{"x-shop-key": "k-1", "x-kept": "1"})
        assert (taken.status_code, taken.json().get("x-shop-key"), taken.json()["x-kept"]) == (200, None, "1")
        assert b"k-1" not in b"".join(path.read_bytes() for path in (server.data / "journal").glob("*.seg"))
