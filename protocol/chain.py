"""Chains: everything that one request set off, over links and over HTTP, under one id and with a depth.

1. The id of a chain is its W3C trace id, so tracing tools show a chain as one trace.
2. Depth counts hand-overs. It only ever grows along a chain; past `max_depth` a webhook answers 508.
3. Our own header is signed. What another server signed, or nobody, can still say a depth: who says too much is refused
   the earlier, and who says too little could as well have said nothing.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping

from msgspec import Struct

from protocol.state import TransactionRow

CHAIN_HEADER = "cyclewright-chain"
TRACE_HEADER = "traceparent"
SIGNATURE_DIGITS = 32  # 128 bits.

_CHAIN = re.compile(r"1-([0-9a-f]{32})-([0-9]{1,6})-([0-9a-f]{32})")
_TRACE = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ZERO = re.compile(r"0+")


class Chain(Struct, frozen=True):
    """What a request says of the chain it belongs to, its depth aside; without an id it begins one."""

    id: str = ""
    signed: bool = False  # Whether it is our own word.
    sampled: bool = True  # Whether who began the trace records it.


NO_CHAIN = Chain()


def new_chain(cycle: str, seq: int, at: int) -> str:
    """The id of a chain that begins with an event: by its place and its instant, since two servers may agree in one."""
    return hashlib.blake2b(f"{cycle} {seq} {at}".encode(), digest_size=16).hexdigest()


def chain_of(row: TransactionRow) -> str:
    """The chain that a transaction belongs to: the one it was told of, or one that begins with it."""
    return row.chain or new_chain(row.cycle, row.id, row.created)


def chain_header(chain: str, depth: int, key: bytes) -> str:
    """The chain header of a request that goes out."""
    return f"1-{chain}-{depth}-{_signature(chain, depth, key)}"


def traceparent(chain: str, call: str, *, sampled: bool) -> str:
    """The trace header of a call, whose own id is made from its idempotency key: one for all its attempts."""
    parent = hashlib.blake2b(call.encode(), digest_size=8).hexdigest()
    return f"00-{chain}-{parent}-{'01' if sampled else '00'}"


def read_chain(headers: Mapping[str, str], key: bytes) -> tuple[Chain, int]:
    """The chain of a request that came in, and its depth; what is not written as it should be is not there."""
    if CHAIN_HEADER not in headers and TRACE_HEADER not in headers:
        return NO_CHAIN, 0  # Most requests, at once.
    trace = _TRACE.fullmatch(headers.get(TRACE_HEADER, ""))
    if trace is not None and (
        _ZERO.fullmatch(trace[2]) or _ZERO.fullmatch(trace[3]) or (trace[1] == "00" and trace[5] is not None)
    ):
        trace = None
    sampled = trace is None or bool(int(trace[4], 16) & 1)
    said = _CHAIN.fullmatch(headers.get(CHAIN_HEADER, ""))
    if said is None or _ZERO.fullmatch(said[1]):
        return Chain("" if trace is None else trace[2], signed=False, sampled=sampled), 0
    depth = int(said[2])
    signed = hmac.compare_digest(said[3], _signature(said[1], depth, key))
    return Chain(said[1], signed, sampled), depth


def _signature(chain: str, depth: int, key: bytes) -> str:
    return hmac.new(key, f"chain {chain} {depth}".encode(), hashlib.sha256).hexdigest()[:SIGNATURE_DIGITS]
