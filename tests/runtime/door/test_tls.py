"""TLS at the door: the lane for HTTP/1.1, Hypercorn for HTTP/2, as the two ends agree (ALPN, RFC 7301)."""

import ssl
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from runtime.config import ConfigError, Settings
from runtime.door import Door, Listener
from tests.runtime.door.test_lane import CYCLES, QUOTES
from tests.runtime.rig import running


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2")])
@pytest.mark.parametrize("lane", [True, False])
async def test_4_1_answers_over_tls_are_the_same(tmp_path: Path, *, http2: bool, version: str, lane: bool) -> None:
    """Given a certificate, then webhooks and looks are answered over TLS, by the version that was agreed on."""
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    settings = Settings(bind="127.0.0.1:0", project=str(tmp_path), tls_certificate="server.pem", lane=lane)
    async with running(tmp_path, CYCLES, QUOTES) as rig, trio.open_nursery() as nursery:
        door = Door(settings, "token", "key")
        door.open(rig.engine)
        stop = trio.Event()
        url = (await nursery.start(Listener(settings, door).run, stop)).replace("127.0.0.1", "localhost")
        assert url.startswith("https://")
        async with httpx.AsyncClient(verify=trusted, http2=http2) as client:
            for amount in (1, 2):
                answer = await client.post(f"{url}/webhook/quotes-asked", json={"amount": amount})
                assert (answer.status_code, answer.json(), answer.http_version) == (201, {"price": 2 * amount}, version)
            assert (await client.get(f"{url}/healthz")).json() == {"status": "alive"}
        with trio.fail_after(5):
            stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
            async with stream:  # Who speaks no TLS is cut off, and nobody else.
                await stream.send_all(b"POST /webhook/quotes-asked HTTP/1.1\r\n\r\n")
                while await stream.receive_some():
                    pass
        stop.set()


def test_a_certificate_that_is_none_is_the_operators_fault(tmp_path: Path) -> None:
    """Given settings that name no certificate, then the start says which setting is wrong."""
    (tmp_path / "server.pem").write_text("no certificate")
    for name in ("server.pem", "missing.pem"):
        settings = Settings(project=str(tmp_path), tls_certificate=name)
        with pytest.raises(ConfigError, match="tls_certificate"):
            Listener(settings, Door(settings, "token", "key"))
