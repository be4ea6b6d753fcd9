"""Section 7 of the contract, egress: where a call may go, however the address is written and whatever a name says."""
# ruff: noqa: S104 - Nothing binds to the unspecified address here; it is refused.

import socket
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpcore
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from protocol.definition import Connector
from protocol.inputs import CallAnswer, CallFailure
from runtime import egress
from runtime.egress import CheckedNetwork, Lookup, OwnAddress, Refused, judge, own_address
from tests.runtime.calls import call, failure, outbound
from tests.runtime.remote import always, answer, serving

NEVER = [
    *("169.254.169.254", "169.254.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "100.100.100.200", "168.63.129.16"),
    *("::", "fe80::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::ffff:0:a9fe:a9fe"),
]
PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "240.0.0.1"),
    *("::1", "fc00::1", "fd12::1", "2001:db8::1", "fec0::1", "4000::1"),
    *("::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1"),
    "2001:0:a00:1:0:0:f7f7:f7f7",  # Teredo by way of the server 10.0.0.1.
]
PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]


@pytest.mark.parametrize("text", NEVER)
def test_7_metadata_and_link_local_are_refused_whatever_the_connector_says(text: str) -> None:
    """No connector opens them, and no IPv6 spelling hides them."""
    assert judge(ip_address(text), allow_private=True) == "which no call may reach"


@pytest.mark.parametrize("text", PRIVATE)
def test_7_private_addresses_need_the_word_of_the_connector(text: str) -> None:
    """Refused with the cure, unless the connector says `allow_private`."""
    assert "allow_private" in judge(ip_address(text), allow_private=False)
    assert not judge(ip_address(text), allow_private=True)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_open(text: str) -> None:
    """Translated ones too: NAT64 is how some networks reach all of IPv4."""
    assert not judge(ip_address(text), allow_private=False)


@given(st.ip_addresses(v=4))
def test_what_python_does_not_count_as_global_is_never_open(address: IPv4Address) -> None:
    """Our list is at least as strict as the standard library's, whatever version that is."""
    if not address.is_global:
        assert judge(address, allow_private=False)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_alike(address: IPv4Address) -> None:
    """IPv4-mapped, NAT64 and 6to4 spellings end in the verdict of the IPv4 address."""
    plain = judge(address, allow_private=False)
    for base, shift in (("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80)):
        spelled = IPv6Address(int(IPv6Address(base)) | int(address) << shift)
        assert judge(spelled, allow_private=False) == plain


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"])
async def test_a_loopback_address_is_refused_in_every_spelling(host: str) -> None:
    """Decimal, hexadecimal and short forms are what the resolver makes of them."""
    async with outbound() as out:
        failed = failure(await out.perform(call(f"http://{host}/"), Connector()))
    assert failed.phase == "connect"
    assert "127.0.0.1: say allow_private" in failed.reason


SPELLED = [
    *("2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "169.254.43518", "169.16689662"),
    *("[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[0:0:0:0:0:FFFF:A9FE:A9FE]", "[64:ff9b::a9fe:a9fe]"),
    *("[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[fe80::1]", "[fe80::1%lo]", "[fe80::1%eth0]"),
    *("169\u3002254\u3002169\u3002254", "user:word@169.254.169.254", "127.0.0.1:80@169.254.169.254"),
]
"""Metadata and link-local addresses, as decimal, hexadecimal, short, IPv6, with a zone, and behind other things."""


@pytest.mark.parametrize("host", SPELLED)
@pytest.mark.parametrize("private", [False, True])
async def test_no_spelling_of_a_metadata_address_is_let_through(host: str, *, private: bool) -> None:
    """Section 7: whatever the connector says; a zone that is not there is no way around it either."""
    async with outbound() as out:
        failed = failure(await out.perform(call(f"http://{host}/latest"), Connector(allow_private=private)))
    assert failed.phase == "connect"
    assert failed.reason.endswith(("which no call may reach", "does not resolve: Name or service not known"))


@pytest.mark.parametrize("found", NEVER)
async def test_a_name_can_not_lead_to_what_is_never_reached(found: str) -> None:
    """Section 7: of every form that a resolver may give, also beside a public address, also for a trusted connector."""
    async with outbound({"shop.example": ["93.184.216.34", found]}) as out:
        failed = failure(await out.perform(call("http://shop.example/"), Connector(allow_private=True)))
    assert failed.phase == "connect"
    assert failed.reason.endswith("which no call may reach")


@pytest.mark.parametrize("found", PRIVATE)
async def test_a_name_leads_to_a_private_address_only_where_the_connector_says_so(found: str) -> None:
    """Section 7: of every form as well."""
    async with outbound({"shop.example": [found]}) as out:
        failed = failure(await out.perform(call("http://shop.example/"), Connector()))
    assert "say allow_private" in failed.reason


@pytest.mark.parametrize("place", [f"http://{host}/x" for host in SPELLED if "@" not in host])
async def test_a_redirect_leads_to_no_spelling_of_a_metadata_address(place: str) -> None:
    """Section 7: each hop is checked, whatever the remote writes into its Location."""
    async with serving(always(answer(302, location=place))) as remote, outbound() as out:
        failed = failure(await out.perform(call(remote.url, "GET"), Connector(allow_private=True)))
        assert len(remote.requests) == 1
    assert (
        "no call may reach" in failed.reason or "does not resolve" in failed.reason or "leads nowhere" in failed.reason
    )


@pytest.mark.parametrize("place", ["http://10.0.0.1/", "http://[::1]:8080/", "http://2130706434/", "//192.168.1.1/"])
async def test_a_public_remote_can_not_send_us_inside(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Section 7: given a remote that may be called, when it redirects to a private address, then nobody follows."""
    here = ip_address("127.0.0.1")

    def as_if_public(address: IPv4Address | IPv6Address, *, allow_private: bool) -> str:
        return "" if address == here else judge(address, allow_private=allow_private)

    monkeypatch.setattr(egress, "judge", as_if_public)
    async with serving(always(answer(302, location=place))) as remote, outbound() as out:
        failed = failure(await out.perform(call(remote.url, "GET"), Connector()))
        assert len(remote.requests) == 1
    assert (failed.phase, "say allow_private" in failed.reason) == ("sent", True)


async def test_a_redirect_does_not_lead_to_this_server() -> None:
    """Section 7: over the network it reaches itself no more than by a URL of its own."""
    async with serving(always(answer(200))) as own, serving(always(answer(302, location=own.url))) as remote:
        async with outbound() as out:
            out.listen_at(own_address(own.url))
            failed = failure(await out.perform(call(remote.url, "GET"), Connector(allow_private=True)))
        assert "is this server itself" in failed.reason
        assert not own.requests


async def test_octal_spellings_are_refused_by_the_url_and_by_the_network() -> None:
    """The URL takes no leading zeros; should that change, the network sees the address."""
    async with outbound() as out:
        assert failure(await out.perform(call("http://0177.0.0.1/"), Connector())).phase == "connect"
    with pytest.raises(Refused, match="127.0.0.1: say allow_private"):
        await CheckedNetwork(Lookup(), allow_private=False).addresses("0177.0.0.1")


@pytest.mark.parametrize("found", [["169.254.169.254"], ["93.184.216.34", "10.0.0.1"], ["fe80::1%eth0"]])
async def test_a_name_that_leads_to_a_forbidden_address_is_refused(found: Sequence[str]) -> None:
    """Even when only one of its addresses is forbidden: nobody says which one the next connection takes."""
    async with outbound({"shop.example": found}) as out:
        failed = failure(await out.perform(call("https://shop.example/"), Connector()))
    assert failed.phase == "connect"
    assert failed.reason.startswith("shop.example is ")


async def test_7_a_name_is_resolved_once_and_the_checked_address_is_connected_to() -> None:
    """Given a name whose second answer would be another, when a call is made, then there is no second question."""
    async with serving(always(answer(200))) as remote:
        asked: list[str] = []

        async def resolve(host: str) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

        async with outbound(resolve) as out:
            connector = Connector(allow_private=True)
            done = await out.perform(call(f"http://shop.example:{remote.port}/"), connector)
            assert isinstance(done, CallAnswer)
            assert asked == ["shop.example"]
            assert remote.requests[0].header("host") == f"shop.example:{remote.port}"
            remote.close_connections()
            failed = failure(await out.perform(call(f"http://shop.example:{remote.port}/"), connector))
            assert "169.254.169.254" in failed.reason


async def test_a_kept_connection_of_a_trusted_connector_serves_no_other() -> None:
    """Given a connection that `allow_private` made, when another connector names the host, then it is refused."""
    async with serving(always(answer(200))) as remote, outbound({"shop.example": ["127.0.0.1"]}) as out:
        url = f"http://shop.example:{remote.port}/"
        assert isinstance(await out.perform(call(url), Connector(allow_private="yes")), CallAnswer)
        assert "allow_private" in failure(await out.perform(call(url), Connector())).reason
        assert len(remote.requests) == 1


async def test_7_each_hop_of_a_redirect_is_checked() -> None:
    """A remote can not send us where we would not go ourselves."""
    names = {"inside.example": ["169.254.169.254"]}
    async with serving(always(answer(302, location="http://inside.example/latest/meta-data"))) as remote:
        async with outbound(names) as out:
            failed = failure(await out.perform(call(remote.url, "GET"), Connector(allow_private=True)))
        assert "inside.example is 169.254.169.254" in failed.reason


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
async def test_7_the_server_itself_is_not_reached_over_the_network(bound: str) -> None:
    """Section 7: links are the way, and the error says so; a neighbour's port is none of ours."""
    async with serving(always(answer(200))) as remote, outbound() as out:
        out.listen_at(own_address(f"http://{bound}:{remote.port}"))
        failed = failure(await out.perform(call(remote.url), Connector(allow_private=True)))
        assert failed == CallFailure(
            "connect", f"127.0.0.1 port {remote.port} is this server itself: use a `cycle:` link"
        )
        async with serving(always(answer(200))) as other:
            assert isinstance(await out.perform(call(other.url), Connector(allow_private=True)), CallAnswer)


def test_an_address_of_this_machine_is_ours_only_where_we_listen() -> None:
    """A bind to one address leaves the same port of the others to others."""
    own = OwnAddress(ip_address("10.0.0.5"), 8080)
    assert own.is_reached_by("10.0.0.5", "10.0.0.5", 8080)
    assert not own.is_reached_by("127.0.0.1", "127.0.0.1", 8080)
    assert not own.is_reached_by("10.0.0.5", "10.0.0.6", 8080)
    everywhere = OwnAddress(ip_address("::"), 8080)
    assert everywhere.is_reached_by("::ffff:127.0.0.1", "127.0.0.1", 8080)
    assert not everywhere.is_reached_by("10.0.0.5", "10.0.0.5", 8081)


async def test_tls_keeps_the_name(nursery: trio.Nursery) -> None:
    """Given a checked address, when TLS begins, then the greeting names the host and not the address."""
    greetings: list[bytes] = []

    async def greet(stream: trio.SocketStream) -> None:
        greetings.append(bytes(await stream.receive_some()))
        await trio.aclose_forcefully(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, greet, [listener])
    async with outbound({"shop.example": ["127.0.0.1"]}) as out:
        url = f"https://shop.example:{listener.socket.getsockname()[1]}/"
        failed = failure(await out.perform(call(url), Connector(allow_private=True)))
    assert failed.phase == "connect"
    assert b"shop.example" in greetings[0]


async def test_the_first_address_that_answers_is_taken() -> None:
    """Given a name of several addresses, when some refuse, then the one that listens serves the call."""
    async with serving(always(answer(200))) as remote:
        network = CheckedNetwork(Lookup(), allow_private=True)
        found = {"shop.example": ["127.0.0.3", "127.0.0.2", "127.0.0.1"]}
        async with outbound(found) as out:
            done = await out.perform(call(f"http://shop.example:{remote.port}/"), Connector(allow_private=True))
            assert isinstance(done, CallAnswer)
        with pytest.raises(httpcore.ConnectError, match="127.0.0.2 port"):
            await network.connect_tcp("127.0.0.2", remote.port)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "nowhere.invalid"])
async def test_a_name_that_can_not_be_resolved_is_a_failed_call(host: str) -> None:
    """Never an exception: an invalid label is data that a request brought."""
    async with outbound() as out:
        failed = failure(await out.perform(call(f"http://{host}/"), Connector()))
    assert failed.phase == "connect"
    assert "does not resolve" in failed.reason


async def test_a_name_that_hangs_takes_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more look-ups of a dead name than the machine has threads for, then another name is found at once."""
    free = threading.Event()

    def look_up(host: str, *_: Any, flags: int = 0, **__: Any) -> list[Any]:
        if not flags and host == "shop.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 0))]
        if not flags:
            free.wait()
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    lookup = Lookup()

    async def wait_for_the_dead() -> None:
        with pytest.raises(OSError, match="no such name"):
            await lookup("dead.example")

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(wait_for_the_dead)
        await trio.testing.wait_all_tasks_blocked()
        assert list(await lookup("shop.example")) == ["93.184.216.34"]
        free.set()
    assert not lookup.pending
