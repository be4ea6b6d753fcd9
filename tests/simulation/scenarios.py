"""Stories told by hand, each around one promise; they are run with a crash at every call of a port."""

from dataclasses import replace

from tests.simulation.life import Ordered, Plan, Sent, Told, simulate
from tests.simulation.programs import BACK, TRIGGER, Program, Request, program
from tests.simulation.strangers import DEEP, STRANGERS, Stranger


def begins(number: int, at: float = 0.0, items: tuple[int, ...] = (), *, hurried: bool = False) -> Sent:
    """A request that begins a transaction."""
    return Sent(at, Request(TRIGGER, number, items=list(items), key=f"t{number}"), hurried)


def back(number: int, at: float, turn: int = 1) -> Sent:
    """A callback for it."""
    return Sent(at, Request(BACK, number, 10 * number + turn, key=f"b{number}.{turn}"))


def part(number: int, item: int, at: float) -> Sent:
    """A callback for one part of its list."""
    return Sent(at, Request(BACK, number, 10 * number, key=f"p{number}.{item}", item=item))


HELD = program("call", "hold", "call")


def newer(one: Program) -> Program:
    """The same in another version."""
    return replace(one, version=2)


SCENARIOS: dict[str, Plan] = {
    "accept": Plan(program("script"), (begins(1), begins(2, hurried=True), begins(3, 1.0))),
    "step": Plan(program(("decide", 5), "script", ("decide", 3), "call"), (begins(1), begins(3))),
    "outbound": Plan(program(("call", 1), "call"), (begins(1), begins(2, 0.3))),
    "hold": Plan(HELD, (begins(1), back(1, 5.0))),
    "early callback": Plan(HELD, (begins(1),), early=True),
    "parked": Plan(HELD, (back(1, 0.0), begins(1, 3.0))),
    "parked in vain": Plan(program(("decide", 2), "hold", park_minutes=10), (begins(2), back(2, 1.0))),
    "match": Plan(HELD, (begins(1), begins(2, 0.1), back(2, 4.0), back(1, 4.1))),
    "repeated pass": Plan(HELD, (begins(1), back(1, 3.0, 1), back(1, 3.2, 2), back(1, 9.0, 3))),
    "synchronous": Plan(program("call", "respond", "call"), (begins(1), begins(2, 0.2, hurried=True))),
    "answered late": Plan(program(("call", 2), "respond"), (begins(1),)),
    "link": Plan(program("link", "call"), (begins(1),)),
    "split": Plan(program("split", "call", "respond"), (begins(1, items=(11, 12, 13)),)),
    "wait_all": Plan(program("split", "call", "wait_all", "call"), (begins(1, items=(11, 12)), begins(2, 0.2, (21,)))),
    "kept before wait_all": Plan(
        program(("delay", 20), "split", "call", "wait_all", "call", collects=True),
        (begins(1, items=(11, 12)), begins(2, 10.0, (21,)), begins(3, 27.0, (31,))),
        (Ordered(25, "stop"), Ordered(40, "start")),
    ),
    "parts that hold": Plan(
        program("split", ("part_skips", 3), "part_hold", ("delay", 9000), "respond", hold_hours=2),
        (begins(1, items=(11, 12, 13)), part(1, 13, 4.0), begins(2, items=(21, 22))),
    ),
    "timer": Plan(program(("delay", 20), "call"), (begins(1), begins(2, 1.0))),
    "hold expires": Plan(program("hold", hold_hours=2), (begins(1), begins(2, 1.0), back(2, 9.0))),
    "stop": Plan(
        program(("delay", 20), "call"), (begins(1), begins(2, 1.0)), (Ordered(2, "stop"), Ordered(9, "start"))
    ),
    "finish": Plan(
        program(("delay", 5), "call", collects=True),
        (begins(1), begins(2, 3.0)),
        (Ordered(2, "finish"), Ordered(30, "start")),
    ),
    "deploy while held": Plan(HELD, (begins(1), back(1, 9.0)), (Ordered(4, "deploy"),), newer(HELD)),
    "rotation": Plan(program("script"), tuple(begins(at, at * 1.0, tuple(range(1500))) for at in range(1, 10))),
    "retention": Plan(
        program("call", "hold", "call", keeps="5 minutes"),
        (
            *(begins(at, at * 1.0, tuple(range(1500))) for at in range(1, 9)),
            back(1, 20.0),
            back(2, 30.0),
            back(3, 400.0),
        ),
    ),
    "snapshot": Plan(
        program("script", keeps="5 minutes"),
        tuple(begins(at, at * 40.0, tuple(range(2500))) for at in range(1, 14)),
    ),
    "redrive": Plan(
        program("call", ("refuse", 0), "call"),
        (begins(1), begins(2, 1.0)),
        (Ordered(60, "redrive"), Ordered(91, "redrive")),
    ),
    "redrive in vain": Plan(
        program(("decide", 2), "hold", park_minutes=10), (begins(2), back(2, 1.0)), (Ordered(1200, "redrive"),)
    ),
    "run once": Plan(
        program("call", ("delay", 5), collects=True),
        (begins(1), begins(2, 4.0), begins(3, 5.0)),
        (Ordered(2, "stop"), Ordered(3, "once"), Ordered(60, "start")),
    ),
    "hooks": Plan(
        program("call", hooked=True),
        (begins(1), begins(3), begins(5)),
        strangers=(Stranger(400, body=b"{"), Stranger(422, body=b"{}")),
    ),
    "newer than": Plan(
        program("hold", "call", ordered=True), (begins(1), back(1, 5.0, 2), back(1, 6.0, 1), back(1, 7.0, 3))
    ),
    "alerts": Plan(program("call", ("refuse", 0), alerts=True), (begins(1), begins(2, 2.0), begins(3, 2.1))),
    "limits": Plan(program("call", "call", limited=1), tuple(begins(at, 0.01 * at) for at in range(1, 7))),
    "limits across crashes": Plan(
        program("call", limited=60), (begins(1), *(begins(at, 12.0 + at) for at in range(3, 8)))
    ),
    "patience": Plan(program(("call", 2), "call"), (begins(1), begins(2, 5.0))),
    "no hold": Plan(program("hold", "call", rejects=True), (back(1, 0.0), begins(1, 3.0), back(1, 5.0, 2))),
    "strangers": Plan(program("call", "respond"), (begins(1),), strangers=STRANGERS),
    "quota": Plan(program("script", quota=3), (begins(1), begins(2, 1.0), begins(3, 2.0))),
    "too deep": Plan(program("call"), (begins(1),), strangers=(DEEP,)),
    "a rival": Plan(program("call"), (begins(1), begins(2, 5.0)), (Ordered(3, "rival"),)),
}


def crashed(name: str, points: tuple[int, ...], seed: int = 1) -> Told:
    """A scenario, in which the machine stops at these calls of its ports."""
    return simulate(seed, SCENARIOS[name], crash_at=points, faulty=False)


def length(name: str) -> int:
    """How many calls of ports a scenario makes when nothing stops it."""
    return crashed(name, ()).calls
