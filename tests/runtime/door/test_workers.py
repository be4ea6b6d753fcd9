"""Tasks that serve connections: whoever has something to read is served, however many others are still being served."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
import trio.testing

from runtime.door.poller import Poller
from runtime.door.workers import IDLE_MAX, Workers


class Place:
    """Workers, and connections whose callers say who they are."""

    def __init__(self) -> None:
        self.poller: Poller[int] = Poller()
        self.later: set[int] = set()  # Those who are not to be served when they come.
        self.workers = Workers(self.poller, lambda number: number not in self.later, self.serve)
        self.served: list[int] = []
        self.goes_on = trio.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    def connect(self) -> int:
        """A connection, by its number."""
        self._pairs.append(socket.socketpair())
        self.poller.register(self._pairs[-1][0], len(self._pairs) - 1)
        return len(self._pairs) - 1

    def send(self, number: int) -> None:
        """Something to read."""
        self._pairs[number][1].send(b"x")

    async def serve(self, number: int) -> None:
        """Serve, which takes until it goes on."""
        self._pairs[number][0].recv(10)
        self.served.append(number)
        await self.goes_on.wait()

    def close(self) -> None:
        """Leave nothing open."""
        for pair in self._pairs:
            for one in pair:
                one.close()
        self.poller.close()


@asynccontextmanager
async def working() -> AsyncGenerator[Place]:
    """Workers at work."""
    place = Place()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.workers.run)
        yield place
        nursery.cancel_scope.cancel()
    place.close()


async def _until_served(place: Place, count: int) -> None:
    with trio.fail_after(5):
        while len(place.served) < count:
            await trio.lowlevel.checkpoint()


async def test_who_comes_is_served_while_all_others_are_still_being_served() -> None:
    """Given connections whose serving does not end, when one more comes, then it is served too."""
    async with working() as place:
        numbers = [place.connect() for _ in range(20)]
        for number in numbers[:10]:
            place.send(number)
        await _until_served(place, 10)
        for number in numbers[10:]:
            place.send(number)
            await _until_served(place, number + 1)
        assert sorted(place.served) == numbers


async def test_one_connection_is_served_as_often_as_something_comes() -> None:
    """Given one connection, when something comes again and again, then it is served each time, by the same tasks."""
    async with working() as place:
        place.goes_on.set()
        number = place.connect()
        for times in range(1, 6):
            place.send(number)
            await _until_served(place, times)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        for times in range(6, 11):
            place.send(number)
            await _until_served(place, times)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_who_is_to_be_served_later_is_when_he_is_given() -> None:
    """Given a connection that is not to be served when it comes, then it is once it is given to the workers."""
    async with working() as place:
        first, second = place.connect(), place.connect()
        place.later.add(first)
        place.send(first)
        await trio.testing.wait_all_tasks_blocked()
        place.send(second)
        await _until_served(place, 1)
        place.workers.give(first)
        await _until_served(place, 2)
        assert place.served == [second, first]


async def test_tasks_that_a_rush_has_made_do_not_stay() -> None:
    """Given many served at once, when all is done, then only so many tasks stay as are kept, and serving goes on."""
    async with working() as place:
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        numbers = [place.connect() for _ in range(IDLE_MAX + 50)]
        for number in numbers:
            place.send(number)
        await _until_served(place, len(numbers))
        place.goes_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living <= before + IDLE_MAX
        place.send(numbers[0])
        await _until_served(place, len(numbers) + 1)
