"""The line before the mailbox, in virtual time."""

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from runtime.line import PATIENCE_S, Line


class Guest:
    """One who waits, and who runs when he is let in."""

    def __init__(self, mailbox: "Mailbox", number: int) -> None:
        self.mailbox = mailbox
        self.number = number
        self.gone = False

    def enter(self) -> bool:
        """He goes in, unless he has gone away."""
        if not self.gone:
            self.mailbox.entered.append(self.number)
        return not self.gone


class Mailbox:
    """A mailbox of so many places, and the line before it."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0
        self.entered: list[int] = []  # Those who were let in and have not run yet.
        self.line = Line(lambda: self.places - self.taken, self.wake)
        self.awake = False

    def wake(self) -> None:
        """The engine looks at the line after all who run now."""
        self.awake = True

    def come(self, *numbers: int) -> list[Guest]:
        """Guests come, one after the other, and those who have no turn at once join the line."""
        guests = [Guest(self, number) for number in numbers]
        for guest in guests:
            if self.line.enter():
                guest.enter()
            else:
                self.line.join(guest)
        return guests

    def arrive(self, *, empty: bool = False) -> list[int]:
        """All who were let in run, and each takes a place, unless he comes with nothing; their numbers."""
        ran = []
        while self.entered:
            ran += [self.run(empty=empty)]
        return ran

    def run(self, *, empty: bool = False) -> int:
        """The next one who was let in runs; then the engine looks, if it was woken."""
        number = self.entered.pop(0)
        self.line.arrived()
        self.taken += not empty
        if self.awake:
            self.awake = False
            self.line.call()
        return number

    def take(self, count: int) -> None:
        """Turns are taken, so that there are places again."""
        self.taken -= count
        self.line.call()


def test_4_1_who_comes_first_is_let_in_first_as_places_come() -> None:
    """4.1: given two places, when five come, then two are let in at once, and the others in order as places come."""

    async def main() -> None:
        mailbox = Mailbox(2)
        mailbox.come(0, 1, 2, 3, 4)
        assert mailbox.arrive() == [0, 1]
        assert len(mailbox.line) == 3
        mailbox.take(2)
        assert mailbox.arrive() == [2, 3]
        mailbox.come(5)
        mailbox.take(1)
        assert mailbox.arrive() == [4]
        mailbox.take(3)
        assert mailbox.arrive() == [5]
        assert not mailbox.line.busy

    trio.run(main)


def test_4_1_who_comes_with_nothing_leaves_his_turn_to_the_next() -> None:
    """4.1: given guests who put nothing into the mailbox, then all who wait are let in, though no turn is taken."""

    async def main() -> None:
        mailbox = Mailbox(2)
        mailbox.come(0, 1, 2, 3, 4)
        assert mailbox.arrive(empty=True) == [0, 1, 2, 3, 4]

    trio.run(main)


async def test_4_1_who_has_waited_for_long_enough_waits_no_longer(autojump_clock: trio.testing.MockClock) -> None:
    """4.1: given no place at all, then each is let in when he has waited for as long as one waits."""
    mailbox = Mailbox(0)
    mailbox.come(1)
    await trio.sleep(PATIENCE_S / 2)
    mailbox.come(2)
    mailbox.take(0)
    assert mailbox.arrive() == []
    autojump_clock.jump(PATIENCE_S / 2)
    mailbox.take(0)
    assert mailbox.arrive() == [1]
    autojump_clock.jump(PATIENCE_S / 2)
    mailbox.take(0)
    assert mailbox.arrive() == [2]


async def test_4_1_a_task_has_its_turn_among_the_others() -> None:
    """4.1: given a line, when a task waits in it, then it goes on in its turn; without a line it goes on at once."""
    mailbox, went = Mailbox(1), list[str]()
    with trio.testing.assert_no_checkpoints():
        await mailbox.line.turn()
    mailbox.come(0)
    assert mailbox.arrive() == [0]

    async def wait() -> None:
        await mailbox.line.turn()
        mailbox.taken += 1
        went.append("task")

    async with trio.open_nursery() as nursery:
        mailbox.come(1)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.come(2)
        mailbox.take(1)
        assert mailbox.arrive() == [1]
        await trio.testing.wait_all_tasks_blocked()
        assert went == []
        mailbox.take(1)
        assert mailbox.arrive() == []
        await trio.testing.wait_all_tasks_blocked()
        assert went == ["task"]
        mailbox.take(1)
        assert mailbox.arrive() == [2]


async def test_4_1_who_hangs_up_leaves_the_line() -> None:
    """4.1: given a task and a guest who wait and go away, then the one behind them has the place."""
    mailbox = Mailbox(1)
    mailbox.come(0)
    mailbox.arrive()
    async with trio.open_nursery() as waiting:
        waiting.start_soon(mailbox.line.turn)
        await trio.testing.wait_all_tasks_blocked()
        gone, _ = mailbox.come(1, 2)
        gone.gone = True
        waiting.cancel_scope.cancel()
    mailbox.take(1)
    assert mailbox.arrive() == [2]
    assert len(mailbox.line) == 0


STEPS = st.sampled_from(["come", "arrive", "arrive with nothing", "take"])


@given(st.lists(STEPS, max_size=60), st.integers(1, 3))
def test_4_1_never_more_are_let_in_than_there_is_room_for_and_nobody_is_forgotten(
    steps: list[str], places: int
) -> None:
    """4.1: given any order of coming, running and taking, then order and room are kept, and in the end all were in."""

    async def main() -> None:
        mailbox, came, ran = Mailbox(places), 0, list[int]()
        for step in steps:
            if step == "come":
                mailbox.come(came)
                came += 1
            elif step == "take" and mailbox.taken:
                mailbox.take(1)
            elif step.startswith("arrive") and mailbox.entered:
                ran.append(mailbox.run(empty=step != "arrive"))
            assert len(mailbox.entered) + mailbox.taken <= places
        while mailbox.entered or mailbox.taken:
            ran += mailbox.arrive()
            mailbox.take(mailbox.taken)
        assert ran == list(range(came))

    trio.run(main)
