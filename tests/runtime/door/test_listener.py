"""Listening: who connects is accepted soon, however busy the loop is."""

import socket

import trio
import trio.testing

from runtime.door.listener import ACCEPTED_AT_ONCE, EagerListener


async def test_all_who_wait_are_accepted_at_once_up_to_a_bound() -> None:
    """Given more who connect than are accepted at once, then so many are in one turn, the others in another."""
    plain = socket.create_server(("127.0.0.1", 0), backlog=2 * ACCEPTED_AT_ONCE)
    listener = EagerListener(plain, lambda: 1000)
    callers = [socket.create_connection(plain.getsockname()) for _ in range(ACCEPTED_AT_ONCE + 3)]
    streams = []
    for turn in (ACCEPTED_AT_ONCE, 3):
        with trio.testing.assert_checkpoints():
            streams.append(await listener.accept())
        for _ in range(turn - 1):
            with trio.testing.assert_no_checkpoints():
                streams.append(await listener.accept())
    with trio.move_on_after(0.01) as nobody:
        await listener.accept()
    assert nobody.cancelled_caught
    ends = {one.socket.getpeername() for one in streams}
    assert ends == {caller.getsockname() for caller in callers}
    for stream, caller in zip(streams, callers, strict=True):
        await stream.aclose()
        caller.close()
    await listener.aclose()


async def test_one_a_turn_is_accepted_where_there_is_little_room() -> None:
    """Given hardly any room for connections, then each is accepted in a turn of its own, to be counted."""
    plain = socket.create_server(("127.0.0.1", 0))
    listener = EagerListener(plain, lambda: ACCEPTED_AT_ONCE)
    callers = [socket.create_connection(plain.getsockname()) for _ in range(3)]
    for caller in callers:
        with trio.testing.assert_checkpoints():
            stream = await listener.accept()
        await stream.aclose()
        caller.close()
    await listener.aclose()
