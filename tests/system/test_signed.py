"""Verification over real HTTP (section 4): before anything else, and without a trace of the secret."""

from pathlib import Path

import httpx

from tests.system.harness import Server
from tests.system.partner import Partner

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
    """Section 4: whatever its body is; only counted. One of two live secrets is set; the header is not recorded."""
    (tmp_path / "signed.cycle.yaml").write_text(SIGNED)
    with Server(tmp_path, environment={"SHOP_KEY": "k-1"}) as server:
        for headers in ({}, {"x-shop-key": "k-2"}, {"x-shop-key": ""}):
            refused = httpx.post(f"{server.url}/webhook/signed-asked", content=b"{", headers=headers)
            assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
            assert "k-1" not in refused.text
        assert not server.transactions()
        assert 'hits_total{cycle="signed",answer="401"} 3' in httpx.get(f"{server.url}/metrics").text
        taken = server.hit("signed-asked", {}, **{"x-shop-key": "k-1", "x-kept": "1"})
        assert (taken.status_code, taken.json().get("x-shop-key"), taken.json()["x-kept"]) == (200, None, "1")
        assert b"k-1" not in b"".join(path.read_bytes() for path in (server.data / "journal").glob("*.seg"))


CALLING = """
cycle: calling
connectors:
  shop: {}
  bank: {base_url: "%s", allow_private: true, headers: {authorization: "Bearer {{ env.BANK_TOKEN }}"}}
steps:
  asked: {webhook: shop, identifier: calling-asked}
  pay: {post: bank, path: /effects, body: {n: 1}}
  lost: {post: bank, url: "http://127.0.0.1:1/"}
  answer: {respond: {body: "{{ pay.body }}"}}
"""


def test_3_a_secret_of_a_connector_leaves_with_the_call_and_stays_nowhere(tmp_path: Path) -> None:
    """Section 3: not in the journal, the store, the log, the API or an answer; also when a call fails."""
    with Partner() as partner:
        (tmp_path / "calling.cycle.yaml").write_text(CALLING % partner.url)
        with Server(tmp_path, environment={"BANK_TOKEN": "t0p-s3cret"}) as server:
            answer = server.hit("calling-asked", {})
            assert (answer.status_code, answer.json()) == (200, {"n": 1})
            assert [heard["authorization"] for heard in partner.heard] == ["Bearer t0p-s3cret"]
            (shown,) = server.transactions()
            looks = [server.api(f"transactions/{shown['transaction']}"), server.api("incidents"), server.api("cycles")]
            assert "connection" in str(looks[1])
            assert server.terminate() == 0
        files = [path.read_bytes() for path in server.data.rglob("*") if path.is_file()]
        assert not [one for one in (*files, str(looks).encode(), answer.content) if b"t0p-s3cret" in one]
        assert "t0p-s3cret" not in server.log.read_text()
