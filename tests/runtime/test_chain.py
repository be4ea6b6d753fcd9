"""Sections 7 and 8 of the contract: what each attempt says of its chain, and own webhooks named by their URL."""

from pathlib import Path

import msgspec
import pytest
import trio

from protocol.chain import read_chain
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from protocol.state import TransactionRow
from runtime.engine import Engine
from runtime.store.rows import TABLES
from tests.runtime.rig import answer, running

KEY = b"of this server"
ID = "4bf92f3577b34da6a3ce929d0e0e4736"
ORDERS = """
cycle: orders
connectors:
  shop: {}
  remote: {base_url: "http://remote.example", headers: {traceparent: theirs}}
  own: {base_url: "https://hooks.example/webhook"}
settings: {on_error: {retry: [1 second]}}
steps:
  asked: {webhook: shop, identifier: orders-asked, fields: {n: integer}}
  work: {post: remote, path: /work, headers: {Traceparent: ours, cyclewright-chain: ours}}
  hand: {post: %s, body: {n: "{{ asked.n }}"}}
  said: {respond: {body: "{{ hand.body }}"}}
"""
LEDGER = """
cycle: ledger
connectors: {books: {}, remote: {base_url: "http://remote.example"}}
steps:
  noted: {webhook: books, identifier: ledger-noted, methods: [POST, GET], fields: {n: integer}%s}
  work: {post: remote, path: /book}
  done: {respond: {status: 201, body: {entry: "{{ noted.n }}"}}}
"""
BY_URL = 'own, url: "https://HOOKS.example:443/webhook/ledger-noted?x=1"'
BY_BASE = "own, path: /ledger-noted"
BY_LINK = 'own, url: "cycle:ledger/noted"'


class Recorder:
    """Fails the first call of each path, and knows what each said of its chain."""

    def __init__(self) -> None:
        self.calls: list[CallIntended] = []

    async def __call__(self, sent: CallIntended) -> CallAnswer | CallFailure:
        self.calls.append(sent)
        first = sum(one.request.url == sent.request.url for one in self.calls) == 1
        return CallFailure("sent", "reset") if first and sent.request.url == "/work" else answer({})

    def said(self, path: str) -> list[tuple[str, str, int]]:
        """The trace of each call to a path, the id of its chain and its depth; our own word, or it fails."""
        found: list[tuple[str, str, int]] = []
        for sent in self.calls:
            if sent.request.url == path:
                chain, depth = read_chain(sent.request.headers, KEY)
                assert chain.signed
                assert chain.id == sent.request.headers["traceparent"][3:35]
                found.append((sent.request.headers["traceparent"], chain.id, depth))
        return found


def named(engine: Engine) -> None:
    """Give an engine the key and the URL that a server gives it."""
    engine.chain_key = KEY
    engine.own_urls = frozenset({"https://hooks.example/webhook/"})


@pytest.mark.parametrize("to", [BY_URL, BY_BASE, BY_LINK])
async def test_7_every_attempt_and_every_cycle_of_a_chain_carry_its_id(
    tmp_path: Path, virtual_time: object, to: str
) -> None:
    """Given a trace that came in, then each attempt of each cycle carries it, with the depth of its cycle."""
    del virtual_time
    remote = Recorder()
    async with running(tmp_path, ORDERS % to, LEDGER % "", remote=remote, prepare=named) as rig:
        told = await rig.ask("orders", "asked", {"n": 7}, traceparent=f"00-{ID}-00f067aa0ba902b7-01")
        assert msgspec.json.decode(told.body) == {"entry": 7}
        await rig.engine.checkpointed()
        rows = {row.cycle: row for row in rig.engine.state.database.rows(TABLES[TransactionRow])}
        parent = rows["ledger"].parent
        assert parent is not None
        assert (parent.cycle, parent.transaction, parent.step) == ("orders", rows["orders"].id, "hand")
        assert rows["orders"].children == [f"ledger-{rows['ledger'].id}"]
    first, again = remote.said("/work")
    assert first == again, "the parent of a call is one for all its attempts"
    assert first[1:] == (ID, 1)
    ((trace, chain, depth),) = remote.said("/book")
    assert (chain, depth) == (ID, 2)
    assert trace != first[0]


async def test_8_a_webhook_that_verifies_its_callers_is_not_reached_by_its_url(
    tmp_path: Path, virtual_time: object
) -> None:
    """Given a URL that data may have named, when its webhook wants a signature, then it is refused; a link is not."""
    del virtual_time
    signed = LEDGER % ", verify: {scheme: bearer, secret: env.LEDGER_SECRET}"
    for number, (to, status) in enumerate(((BY_URL, 401), (BY_LINK, 201))):
        orders = ORDERS.replace("{retry: [1 second]}", "ignore").replace("hand.body", "hand.status") % to
        async with running(tmp_path / str(number), orders, signed, remote=Recorder(), prepare=named) as rig:
            told = await rig.ask("orders", "asked", {"n": 7})
            assert msgspec.json.decode(told.body) == status


@pytest.mark.parametrize("url", ["cycle:ledger/noted", "https://hooks.example/webhook/ledger-noted"])
async def test_8_a_link_by_get_takes_its_fields_from_the_query(tmp_path: Path, virtual_time: object, url: str) -> None:
    """Section 8: same checks as over HTTP, where GET has its fields there."""
    del virtual_time
    orders = ORDERS.replace('{post: %s, body: {n: "{{ asked.n }}"}}', '{get: own, url: "%s", query: {n: 9}}') % url
    async with running(tmp_path, orders, LEDGER % "", remote=Recorder(), prepare=named) as rig:
        assert msgspec.json.decode((await rig.ask("orders", "asked", {"n": 7})).body) == {"entry": 9}


async def test_8_a_call_that_found_its_webhook_by_url_is_handed_over_once_across_a_restart(
    tmp_path: Path, virtual_time: object
) -> None:
    """Given a hand-over that is open when the process dies, then it is repeated, and found to be made already."""
    del virtual_time
    remote = Stuck()
    async with running(tmp_path, ORDERS % BY_URL, LEDGER % "", remote=remote, prepare=named) as rig:
        await rig.hit("orders", "asked", {"n": 7}).decided()
        await remote.reached.wait()
    remote = Stuck()
    async with running(tmp_path, ORDERS % BY_URL, LEDGER % "", remote=remote, prepare=named) as rig:
        remote.release.set()
        with trio.fail_after(60):
            while rig.engine.state.cycle("orders").completed < 1:  # noqa: ASYNC110 - The state has no such event.
                await trio.sleep(0.1)
        assert rig.engine.state.cycle("ledger").completed == 1


async def test_8_a_url_below_ours_that_is_no_webhook_goes_out_as_any_other(
    tmp_path: Path, virtual_time: object
) -> None:
    """Given our own URL with an identifier that nobody has, then the call is made, and the network refuses it."""
    del virtual_time
    remote = Recorder()
    to = 'own, url: "https://hooks.example/webhook/nobody"'
    async with running(tmp_path, ORDERS % to, LEDGER % "", remote=remote, prepare=named) as rig:
        await rig.ask("orders", "asked", {"n": 7})
    assert [sent.request.url for sent in remote.calls][-1] == "https://hooks.example/webhook/nobody"


class Stuck(Recorder):
    """Answers the ledger's call when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.release = trio.Event(), trio.Event()

    async def __call__(self, sent: CallIntended) -> CallAnswer | CallFailure:
        if sent.request.url == "/book":
            self.reached.set()
            await self.release.wait()
        return answer({})


CHAIN = """
cycle: link%d
connectors: {shop: {concurrency: 1}}
steps:
  asked: {webhook: shop, answer_within: 50 seconds}
  ask: {post: shop, url: "cycle:link%d/asked", body: {}}
  answer: {respond: {body: {depth: "{{ ask.body.depth + 1 }}"}}}
"""
LAST = """
cycle: link12
connectors: {shop: {concurrency: 1}}
steps:
  asked: {webhook: shop}
  answer: {respond: {body: {depth: 0}}}
"""


async def test_8_a_chain_of_any_length_runs_at_concurrency_one(tmp_path: Path) -> None:
    """Section 8: who waits on a link holds no slot: neither of the connector nor of the passes in progress."""
    files = [CHAIN % (at, at + 1) for at in range(12)]
    async with running(tmp_path, *files, LAST, running_max=1) as rig:
        for _ in range(2):
            reply = await rig.ask("link0", "asked", {})
            assert (reply.status, reply.body) == (200, b'{"depth":12}')
