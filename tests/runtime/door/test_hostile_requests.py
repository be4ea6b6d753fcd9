"""Whatever comes at a webhook over the lane: one of the answers of the contract, never a 500, never a hang (4.1)."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio
from hypothesis import given
from hypothesis import strategies as st

from runtime.config import Settings
from runtime.door import Door, Listener
from tests.fuzzing import fuzz
from tests.runtime.door.test_lane import talk
from tests.runtime.rig import running

CYCLE = """
cycle: things
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: things-asked
    methods: [POST, PUT, GET, DELETE]
    fields: {n: integer, at: datetime, "[lines].sku": text, a.b: {type: decimal, required: true}, o: object}
  more: {decide: {left: asked.a.b, is: greater, right: 3}, else: end}
  split: {split: asked.lines}
  back: {webhook: shop, identifier: things-back, fields: {n: integer}, match: {n: asked.n}}
"""
OPEN = """
cycle: opens
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: opens-asked, dedupe: {header: x-key}}
  answer: {respond: {body: "{{ hit.body }}"}}
"""
DOCUMENTED = {
    200,
    202,
    204,
    400,
    404,
    405,
    408,
    409,
    413,
    415,
    422,
    431,
    501,
}  # 500 and 503 are of no request's making.
TYPES = [
    b"application/json",
    b"application/json; charset=utf-16",
    b"text/json+json",
    b"application/cloudevents+json",
    b"application/x-www-form-urlencoded",
    b"application/x-www-form-urlencoded; charset=latin-1",
    b"multipart/form-data; boundary=x",
    b"multipart/form-data",
    b"application/xml",
    b"text/xml; charset=utf-16",
    b"image/svg+xml",
    b"text/plain",
    b"text/plain; charset=shift_jis",
    b"text/plain; charset=x",
    b"image/png",
    b"",
    b"/",
]
PIECES = st.sampled_from(
    [
        b'{"a": {"b": 4}, "lines": [{"sku": "x"}]}',
        b'{"n": 1, "a": {"b": "1e999999"}}',
        b'{"a": {"b": ' + b"9" * 400 + b"}}",
        b"[" * 300,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"a": {"b": NaN}}',
        b'"\\ud800"',
        b'{"\\u0000": "\\u0000"}',
        b"null",
        b'{"a": {"b": 5}, "at": "9999-12-31T23:59:60Z"}',
        b'{"a": {"b": 1}, "n": 18446744073709551616}',
        b"\xff\xfe{\x00}\x00",
        b"a.b=4&n=1&%5Blines%5D.sku=x",
        b"a=%ff%fe&a=1&" * 3,
        b"a" * 300 + b"=" * 300,
        b"&" * 1200,
        b"%" * 40,
        b"--x\r\nContent-Disposition: form-data; name=a.b\r\n\r\n4\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="\x00"\r\nContent-Type: \xff\r\n\r\n\x00--x--',
        b"--x\r\n" * 40,
        b"<a><b>4</b></a>",
        b"<a>" * 300,
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b"<a xmlns:b='c' b:d='e'>f</a>",
        b"\x00",
        b"\xef\xbb\xbf{}",
        b"",
        b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {"a": {"b": 4}}}',
        b'{"specversion": "1.0", "data_base64": "%%%"}',
    ]
)
HEADERS = st.sampled_from(
    [
        b"x-key: 1",
        b"x-key: \xff\xfe",
        b"idempotency-key: " + b"k" * 300,
        b"webhook-id: ",
        b"ce-specversion: 1.0",
        b"ce-id: 1",
        b"ce-source: \x80",
        b"ce-type: t",
        b"prefer: wait=0",
        b"prefer: wait=" + b"9" * 50,
        b"prefer: respond-async",
        b"prefer: ,;=",
        b"traceparent: 00-0-0-0",
        b"cyclewright-chain: x",
        b"expect: 100-continue",
        b"content-encoding: gzip",
        b"cookie: a=b",
        b"accept: */*",
        b"content-type: text/plain",
        b"x-" + b"y" * 100 + b": z",
        b"transfer-encoding: gzip",
        b"host: other",
    ]
)


MIXED = st.builds(lambda one, other, at: one[:at] + other + one[at:], PIECES, PIECES, st.integers(0, 60))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"POST", b"POST", b"POST", b"PUT", b"GET", b"DELETE", b"PATCH", b"HEAD"]))
    path = draw(
        st.sampled_from([b"things-asked", b"opens-asked", b"things-asked", b"opens-asked", b"things-back", b"none"])
    )
    query = draw(st.sampled_from([b"", b"", b"?n=1&a.b=4", b"?" + b"a=1&" * 30, b"?%ff=%00", b"?a.b=x&a.b=y"]))
    body = draw(PIECES | st.binary(max_size=200) | MIXED)
    kind = draw(st.sampled_from(TYPES))
    lines = [b"host: x", *draw(st.lists(HEADERS, max_size=3)), *([b"content-type: " + kind] if kind else [])]
    if draw(st.booleans()):
        size = draw(st.integers(1, 50))
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        lines.append(b"transfer-encoding: chunked")
    else:
        lines.append(b"content-length: %d" % len(body))
    return b"%s /webhook/%s%s HTTP/1.1\r\n%s\r\n\r\n" % (method, path, query, b"\r\n".join(lines)) + body


def test_4_1_any_request_at_a_webhook_has_an_answer_of_the_contract(tmp_path: Path) -> None:
    """4.1: given any body, type, headers and query, then a documented status, a body of its own type, and no 500."""

    @fuzz(250)
    @given(requests())
    def each(request: bytes) -> None:
        trio.from_thread.run(ask, request)

    async def ask(request: bytes) -> None:
        with trio.fail_after(20):
            (said,) = await talk(ports[0], [request], 1)
        seen.add(said.status)
        assert said.status in DOCUMENTED, (said.status, said.body, request)
        if said.status >= 400:
            assert said.headers["content-type"] == "application/problem+json"

    ports: list[int] = []
    seen: set[int] = set()

    async def served(run: Callable[[], Awaitable[None]]) -> None:
        settings = Settings(bind="127.0.0.1:0", body_timeout="1 second", idle_timeout="1 second")
        async with running(tmp_path, CYCLE, OPEN) as rig, trio.open_nursery() as nursery:
            door, stop = Door(settings, "token", "key"), trio.Event()
            door.open(rig.engine)
            url = await nursery.start(Listener(settings, door).run, stop)
            ports.append(int(url.rpartition(":")[2]))
            await run()
            stop.set()

    trio.run(served, partial(trio.to_thread.run_sync, each))
    assert seen >= {200, 202, 400, 404, 405, 415, 422}, "requests that get somewhere are among them"
