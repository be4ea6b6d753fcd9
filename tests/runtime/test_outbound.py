"""Section 7 of the contract, calls: what leaves, where redirects lead, and whom a secret reaches."""

from collections.abc import Callable

import pytest
import trio

from protocol.definition import Connector
from protocol.inputs import CallAnswer, CallFailure
from tests.runtime.calls import call, failure, outbound
from tests.runtime.remote import Received, Remote, Script, always, answer, serving

LOCAL = Connector(allow_private=True)
OK = always(answer(200))


# ---------------------------------------------------------------- what leaves


async def test_ten_calls_in_a_row_share_one_connection() -> None:
    """A handshake for every call would cost more than the call."""
    async with serving(always(answer(200, b"{}", content_type="application/json"))) as remote, outbound() as out:
        for _ in range(10):
            done = await out.perform(call(remote.url, body=b"{}"), LOCAL)
            assert done == CallAnswer(200, {"content-length": "2", "content-type": "application/json"}, b"{}")
        assert [request.connection for request in remote.requests] == [1] * 10


async def test_7_every_attempt_carries_the_key_of_its_call() -> None:
    """Ours, whatever a connector or a step would rather send, and once."""
    connector = Connector(allow_private=True, headers={"Idempotency-Key": "theirs"})
    async with serving(OK) as remote, outbound() as out:
        for attempt in range(2):
            await out.perform(call(remote.url, headers={"idempotency-KEY": f"step {attempt}"}), connector)
        assert [request.header("idempotency-key") for request in remote.requests] == ["orders-7.work.1"] * 2


async def test_headers_of_the_step_go_over_those_of_the_connector_whatever_their_case() -> None:
    """One value each: two would leave the choice to the remote."""
    connector = Connector(allow_private=True, headers={"Accept": "text/html", "X-Shop": "1"})
    given = {"accept": "application/json", "Content-Type": "application/vnd.api+json", "x-name": "Zoë"}
    async with serving(OK) as remote, outbound() as out:
        await out.perform(call(remote.url, body=b"{}", content_type="application/json", headers=given), connector)
    (request,) = remote.requests
    assert request.header("accept") == "application/json"
    assert request.header("content-type") == "application/vnd.api+json"
    assert request.header("x-shop") == "1"
    assert request.header("x-name") == "Zoë"
    assert (request.method, request.target, request.body) == ("POST", "/", b"{}")


@pytest.mark.parametrize("path", ["/go?to=https://elsewhere.example/", "go?to=https://elsewhere.example/"])
async def test_a_path_that_holds_a_url_stays_a_path(path: str) -> None:
    """Only a scheme at the beginning makes a URL absolute."""
    async with serving(OK) as remote, outbound() as out:
        connector = Connector(allow_private=True, base_url=f"{remote.url}/api/")
        assert isinstance(await out.perform(call(path, "GET"), connector), CallAnswer)
    assert remote.requests[0].target == "/api/go?to=https://elsewhere.example/"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x-data": "a\r\nx-evil: 1"}, "the value of the header 'x-data' holds a control character"),
        ({"x data": "a"}, "'x data'"),
        ({"Content-Length": "5"}, "'content-length'"),
        ({"transfer-encoding": "chunked"}, "'transfer-encoding'"),
    ],
)
async def test_a_header_that_would_change_the_message_is_refused(headers: dict[str, str], said: str) -> None:
    """Data can not write a second header, nor another length."""
    async with serving(OK) as remote, outbound() as out:
        failed = failure(await out.perform(call(remote.url, headers=headers), LOCAL))
        assert failed.phase == "connect"
        assert said in failed.reason
        assert not remote.requests


@pytest.mark.parametrize("url", ["ftp://shop.example/", "http:///path", "http://shop.example:99999/", "http://[::1/"])
async def test_a_url_that_is_none_is_a_failed_call(url: str) -> None:
    """Whatever data made of it; never an exception."""
    async with outbound() as out:
        assert failure(await out.perform(call(url), LOCAL)).phase == "connect"


# ---------------------------------------------------------------- secrets


async def test_3_secrets_are_put_on_when_the_request_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotated secret is used by the next call; the newline of a file it came from is not sent."""
    connector = Connector(
        allow_private=True, base_url="{{ env.SHOP_URL }}", headers={"authorization": "Bearer {{ env.SHOP_TOKEN }}"}
    )
    async with serving(OK) as remote, outbound() as out:
        monkeypatch.setenv("SHOP_URL", remote.url)
        for token in ("first", "second\n"):
            monkeypatch.setenv("SHOP_TOKEN", token)
            await out.perform(call("/orders"), connector)
    assert [request.header("authorization") for request in remote.requests] == ["Bearer first", "Bearer second"]


async def test_7_credentials_in_the_base_url_become_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """As curl and browsers do."""
    async with serving(OK) as remote, outbound() as out:
        monkeypatch.setenv("SHOP_WORD", "pass")
        base = remote.url.replace("//", "//user:{{ env.SHOP_WORD }}@")
        await out.perform(call("/orders"), Connector(allow_private=True, base_url=base))
    (request,) = remote.requests
    assert request.header("authorization") == "Basic dXNlcjpwYXNz"
    assert request.header("host") == f"127.0.0.1:{remote.port}"


@pytest.mark.parametrize(
    ("value", "make"),
    [
        ("hidden\nword", lambda url: Connector(base_url=url, headers={"x-key": "{{ env.WORD }}"}, allow_private=True)),
        ("hidden:word", lambda _: Connector(base_url="http://user:{{ env.WORD }}:x@host:no/")),
        ("hidden.invalid", lambda _: Connector(base_url="https://{{ env.WORD }}")),
        ("127.0.0.1", lambda _: Connector(base_url="http://{{ env.WORD }}:9")),
    ],
)
async def test_3_no_error_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, value: str, make: Callable[[str], Connector]
) -> None:
    """Errors are journaled and shown; the host of a secret URL is a secret too."""
    monkeypatch.setenv("WORD", value)
    async with serving(OK) as remote, outbound() as out:
        failed = failure(await out.perform(call("/orders"), make(remote.url)))
    assert failed.phase == "connect"
    assert "hidden" not in failed.reason
    assert not failed.reason.startswith("127.0.0.1")


async def test_a_missing_variable_fails_the_call_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is what a person can act on."""
    monkeypatch.delenv("SHOP_TOKEN", raising=False)
    connector = Connector(allow_private=True, headers={"authorization": "Bearer {{ env.SHOP_TOKEN }}"})
    async with serving(OK) as remote, outbound() as out:
        failed = await out.perform(call(remote.url), connector)
        assert failed == CallFailure("connect", "the environment variable SHOP_TOKEN is not set")
        assert not remote.requests


async def test_cookies_of_a_remote_are_neither_kept_nor_recorded() -> None:
    """A session of one connector is none of another's, and none of the journal's."""
    async with serving(always(answer(200, set_cookie="session=1; Path=/"))) as remote, outbound() as out:
        for _ in range(2):
            done = await out.perform(call(remote.url), LOCAL)
            assert isinstance(done, CallAnswer)
            assert "set-cookie" not in done.headers
        assert all("cookie" not in request.headers for request in remote.requests)


# ---------------------------------------------------------------- redirects


def leading(*places: str) -> Script:
    """Redirects from /0 to the first place, from /1 to the second and so on; past them it answers."""

    async def script(request: Received, stream: trio.SocketStream) -> None:
        hop = int(request.target.strip("/"))
        await stream.send_all(answer(302, location=places[hop]) if hop < len(places) else answer(200, b"arrived"))

    return script


@pytest.mark.parametrize(("hops", "arrives"), [(5, True), (6, False)])
async def test_7_a_get_follows_five_redirects(hops: int, *, arrives: bool) -> None:
    """One more is a failure, not an answer."""
    async with serving(leading(*(f"/{hop + 1}" for hop in range(hops)))) as remote, outbound() as out:
        done = await out.perform(call(f"{remote.url}/0", "GET"), LOCAL)
    if arrives:
        assert isinstance(done, CallAnswer)
        assert done.body == b"arrived"
    else:
        assert done == CallFailure("sent", "more than 5 redirects")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_7_only_a_get_follows(method: str) -> None:
    """Of the others the redirect is the answer."""
    async with serving(leading("/1")) as remote, outbound() as out:
        done = await out.perform(call(f"{remote.url}/0", method), LOCAL)
    assert isinstance(done, CallAnswer)
    assert (done.status, done.headers["location"]) == (302, "/1")


async def test_the_headers_of_a_connector_go_to_its_own_origin_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a url that a request's data chose, when it is not the connector's, then its secrets stay here."""
    monkeypatch.setenv("WORD", "hidden")
    async with serving(OK) as home, serving(OK) as other, outbound() as out:
        connector = Connector(base_url=home.url, allow_private=True, headers={"x-key": "{{ env.WORD }}"})
        for url in ("/path", f"{home.url}/whole", f"{other.url}/elsewhere"):
            assert isinstance(await out.perform(call(url, headers={"x-step": "said"}), connector), CallAnswer)
    assert [request.header("x-key") for request in home.requests] == ["hidden", "hidden"]
    (request,) = other.requests
    assert "x-key" not in request.headers
    assert request.header("x-step") == "said"


async def test_nothing_secret_goes_along_to_another_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a remote that sends us to another and that one back, then neither hop carries the connector's headers."""
    monkeypatch.setenv("WORD", "hidden")
    connector = Connector(allow_private=True, headers={"X-Api-Key": "{{ env.WORD }}", "x-tenant": "7"})
    given = {"Authorization": "Bearer hidden", "cookie": "hidden", "x-tenant": "hidden", "x-trace": "9"}
    async with serving(OK) as other:
        await _redirected(f"{other.url}/1", connector, given, other)


async def _redirected(place: str, connector: Connector, given: dict[str, str], other: Remote) -> None:
    async with serving(leading("/1", place)) as remote, outbound() as out:
        done = await out.perform(call(f"{remote.url}/0", "GET", headers=given), connector)
        assert isinstance(done, CallAnswer)
        assert [request.header("x-api-key") for request in remote.requests] == ["hidden", "hidden"]
        assert [request.header("authorization") for request in remote.requests] == ["Bearer hidden"] * 2
    (request,) = other.requests
    assert request.header("x-trace") == "9"
    assert "hidden" not in str(request.headers)
    assert request.header("host") == f"127.0.0.1:{other.port}"


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/", "http://[::1/"])
async def test_a_redirect_that_leads_nowhere_is_a_failure(place: str) -> None:
    """Phase `sent`: the first remote did see the request."""
    async with serving(leading(place)) as remote, outbound() as out:
        failed = failure(await out.perform(call(f"{remote.url}/0", "GET"), LOCAL))
    assert failed.phase == "sent"
    assert failed.reason.startswith("the redirect leads nowhere")
