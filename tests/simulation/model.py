"""What must come of a program: predicted from its steps and the requests that were sent, knowing nothing of journals.

1. A request that was answered with 2xx is there, once, and has run, is held, is kept, or has expired with an incident.
2. A transaction took effect exactly where its steps say, each effect under one key of its own.
3. A caller is told what his pass came to, and told the same again.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec

from protocol.memory import MemoryState
from protocol.state import HitRow, TransactionRow
from tests.simulation.partner import Breach, Partner
from tests.simulation.programs import BACK, EVERY_TIDIED, TRIGGER, Program, Request, Step


@dataclass
class Outcome:
    """What one pass comes to: how it ends, what it did, and what its caller is told by a respond step."""

    ends: str = "completed"
    effects: list[str] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    gathered: int = 0
    fails: bool = False


def first_pass(program: Program, given: Request) -> Outcome:
    """What the pass of a trigger comes to."""
    if program.hooked and given.id % EVERY_TIDIED == 0:
        return Outcome()
    return walk(program.steps, given, 0)


def walk(steps: tuple[Step, ...], given: Request, n: int, item: int | None = None) -> Outcome:
    """Run the steps of a pass, in the head."""
    done = Outcome()
    for at, step in enumerate(steps):
        body: dict[str, Any] = {"step": step.name, "id": given.id, "n": n}
        if item is not None:
            body["item"] = item
        match step.kind:
            case "call":
                done.effects.append(effect(body))
            case "link":
                done.effects.append(effect({"item": None, **body}))
            case "respond":
                done.said.append(msgspec.json.encode(body))
            case "refuse" if not step.argument:
                done.ends, done.fails = "failed", True
                return done
            case "decide" if given.id % step.argument == 0:
                return done
            case "hold":
                done.ends = "held"
                return done
            case "split":
                for one in given.items:
                    part = walk(steps[at + 1 :], given, n, one)
                    done.effects += part.effects
                    done.said += part.said
                    done.gathered += part.gathered
                    done.fails |= part.fails
                return done
            case "wait_all":
                done.gathered = 1
                return done
            case _:
                pass
    return done


def effect(body: dict[str, Any]) -> str:
    """An effect as the partner writes it down."""
    return msgspec.json.encode(body, order="sorted").decode()


@dataclass
class Judge:
    """Compares what is with what must be.

    Attributes:
        programs: by the hash of their definition.
        lenient: transactions may have been stopped, so less may have happened; never more.
        past: transactions that retention has taken something from.
    """

    state: MemoryState
    partner: Partner
    programs: dict[str, Program]
    requests: list[Request]
    lenient: bool = False
    past: Collection[int] = ()
    saw: Counter[str] = field(default_factory=Counter)

    def judge(self) -> None:
        """Raise `Breach` at the first thing that is not as it must be."""
        self.by_key = {request.key: request for request in self.requests}
        must: Counter[str] = Counter()
        may: Counter[str] = Counter()
        gathered = 0
        known = all(program.is_predicted for program in self.programs.values())
        self.lenient |= not known
        for row in self.state.transactions.values():
            if row.cycle == "main" and row.trigger and known:
                passes = self._transaction(row)
                effects = Counter(name for one in passes for name in one.effects)
                may += effects
                resumed = row.lineage is not None and row.lineage.action == "resume"
                must += Counter() if self.lenient or resumed else effects
                gathered += sum(one.gathered for one in passes)
        for request in self.requests:
            self._request(request)
        if known:
            self._effects(must, may, gathered)

    def _request(self, request: Request) -> None:
        hits = [self.state.hits[one] for one in self.state.find("delivery", ("main", request.step, request.key), 10)]
        told = f"request {request.key} for {request.step}, told {[reply.status for reply in request.answers]}"
        if len(hits) > 1:
            raise Breach(f"{told}, is there {len(hits)} times")
        if not hits:
            if request.accepted:
                raise Breach(f"{told}, is lost")
            return
        hit = hits[0]
        self.saw[f"hit {hit.status}"] += 1
        built = {(reply.status, reply.body) for reply in request.answers if reply.status not in (409, 429, 503, 504)}
        if len(built) > 1 and hit.wants_reply and not hit.parked:
            raise Breach(f"{told}, was told {built}")
        if hit.status == "expired":
            kinds = [one for one in self.state.incidents.values() if f"hit {hit.id} " in one.message]
            if not kinds or not self._may_expire(request):
                raise Breach(f"{told}, expired as hit {hit.id}, incidents {kinds}")
        elif hit.status in ("parked", "collected"):
            if not self._may_expire(request):
                raise Breach(f"{told}, is still {hit.status} as hit {hit.id}, though its transaction is there")
        elif hit.status == "ignored":
            self._ignored(request, hit)
        elif hit.status != "done":
            raise Breach(f"{told}, is {hit.status} as hit {hit.id} when all is quiet")
        else:
            self._ran(request, hit)

    def _may_expire(self, request: Request) -> bool:
        """Whether nothing ever waited for it, as far as the model can tell."""
        if self.lenient:
            return True
        rows = [row for row in self.state.transactions.values() if row.cycle == "main" and row.trigger]
        rows = [row for row in rows if self._id(row) == request.id]
        if any(row.id in self.past for row in rows):
            return True  # It had gone when the request came, or has since.
        return request.step == BACK and not any(BACK in row.reached for row in rows)

    def _ignored(self, request: Request, hit: HitRow) -> None:
        """Only one that is older than what its transaction was given before."""
        before = [one for one in self._backs(hit.transaction) if one.id < hit.id or one.parked]
        if not any(self._given(one).n > request.n for one in before):
            raise Breach(f"request {request.key} was ignored as hit {hit.id}, and nothing newer came before it")

    def _backs(self, transaction: int) -> list[HitRow]:
        """The callbacks that a transaction ran, in order."""
        hits = [one for one in self.state.hits.values() if one.transaction == transaction and one.step == BACK]
        return sorted((one for one in hits if one.status != "ignored"), key=lambda hit: (hit.number, hit.id))

    def _given(self, hit: HitRow) -> Request:
        """The request that a hit is, or was when it came first."""
        while hit.lineage is not None and hit.lineage.hit:
            hit = self.state.hits[hit.lineage.hit]
        return self.by_key[hit.delivery]

    def _ran(self, request: Request, hit: HitRow) -> None:
        row = self.state.transactions[hit.transaction]
        if self._id(row) != request.id:
            raise Breach(f"request {request.key} with id {request.id} ran {row.id}, whose id is {self._id(row)}")
        if request.step == TRIGGER and row.trigger != hit.id:
            raise Breach(f"hit {hit.id} of the trigger ran {row.id}, which another hit began")

    def _id(self, row: TransactionRow) -> int:
        found: int = row.data[TRIGGER]["id"]
        return found

    def _transaction(self, row: TransactionRow) -> list[Outcome]:
        """The passes that a transaction must have had; raises if it is not where they lead."""
        program = self.programs[row.definition_hash]
        steps = program.steps
        given = self._given(self.state.hits[row.trigger])
        passes = [first_pass(program, given)]
        place = next((at for at, step in enumerate(steps) if step.kind == "hold"), 0)
        called = [self._given(hit) for hit in self._backs(row.id)]
        passes += [walk(steps[place + 1 :], given, one.n) for one in called]
        ends = passes[-1].ends
        if ends == "held" and self.programs[row.definition_hash].hold_hours:
            ends = "completed"  # By then its time is over.
        if row.lineage is not None and row.lineage.action == "resume":
            return passes  # It went on somewhere: it may have done all of that, and need not.
        said = f"{row.cycle}-{row.id} of {given.key} after {len(passes)} passes"
        if row.status != ends and not (self.lenient and row.status in ("stopped", "held", "completed")):
            raise Breach(f"{said} is {row.status} at {row.step} ({row.reason}), and must be {ends}")
        if called and row.data.get(BACK, {}).get("n") != called[-1].n and not self.lenient:
            raise Breach(f"{said} has {row.data.get(BACK)}, not what the last callback brought")
        if program.ordered and [one.n for one in called] != sorted(one.n for one in called):
            raise Breach(f"{said} ran {[one.n for one in called]}, of which some were older than the last")
        for request, one in zip([given, *called], passes, strict=True):
            self._answers(request, one)
        return passes

    def _answers(self, request: Request, outcome: Outcome) -> None:
        """A respond step's answer is one that the pass can give."""
        for reply in request.answers:
            if reply.status == 201 and reply.body not in outcome.said:
                raise Breach(f"{request.key} was answered with {reply.body!r}, and its pass says {outcome.said}")
            if reply.status == 204 and (outcome.said or outcome.fails) and not self.lenient:
                raise Breach(f"{request.key} was answered with 204, and its pass says {outcome.said}")
            if reply.status == 500 and not outcome.fails:
                raise Breach(f"{request.key} was answered with 500, and nothing of its pass fails")

    def _effects(self, must: Counter[str], may: Counter[str], gathered: int) -> None:
        counted, what = 0, self.partner.what()
        for name, keys in what.items():
            body = msgspec.json.decode(name)
            if "count" in body:
                counted += body["count"] * len(keys)
            elif len(keys) > may[name]:
                raise Breach(f"{name} happened under the keys {keys}, and must happen {may[name]} times")
        for name, times in must.items():
            if len(what.get(name, ())) < times:
                raise Breach(f"{name} never happened, or not {times} times: {what.get(name)}")
        if not self.lenient and counted != gathered:
            raise Breach(f"{gathered} transactions were gathered, and the steps behind count {counted}")
