"""Requests to the draft's webhooks: those of the record, and those that cycles of the draft hand to each other.

A link is handed over with the request that the draft makes, at the moment at which the record handed its own over; its
answer is the one of the draft's target, brought when the record brought its own. Where the record has no such link,
both happen at once.
"""

from collections import deque
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from protocol import events as e
from protocol.admission import Incoming, admit, handed_over
from protocol.chain import Chain
from protocol.inputs import Accepted, CallAnswer, CallEnded, Duplicate, Refused, Resumed, Verdict
from protocol.outbox import awaits_reply
from protocol.program import WebhookPlan
from protocol.redrive_items import item_of, redrive_of
from protocol.state import OpenCall, Reply, TransactionRow
from protocol.verdicts import first_verdict, verdict_reply
from runtime.store import StoredState
from runtime.whatif.differences import Ledger
from runtime.whatif.record import Came, CameAgain, Ended, Redrives, pass_of
from runtime.whatif.shadow import Shadow
from runtime.whatif.views import Refusal


class Requests:
    """What comes to the webhooks of a shadow.

    Args:
        shadow: the run of the draft.
        ledger: takes refusals.
        original: reads an accepted request from the journal again.
    """

    def __init__(self, shadow: Shadow, ledger: Ledger, original: Callable[[int], e.HitAccepted]) -> None:
        self._shadow = shadow
        self._ledger = ledger
        self._original = original
        self._numbers: dict[int, deque[tuple[str, int]]] = {}  # Of requests that the record's links made, by parent.
        self._scripted: dict[int, e.HitAccepted] = {}  # Those of them that a `before_webhook` let pass.
        self._handed: dict[int, tuple[str, int]] = {}  # The attempt at a link that was handed over, by parent.
        self._answers: dict[int, CallAnswer] = {}
        shadow.look_at_link = self.look
        shadow.link_answered = self._answered
        shadow.status_url = lambda hit: f"/status/{hit}"

    def began(self, row: TransactionRow, call: OpenCall) -> None:
        """A link is open when the draft begins: its answer is the recorded one."""
        self._handed[row.id] = (call.idempotency_key, call.attempt)

    def came(self, given: Came) -> None:
        """A request of the record."""
        event = given.event
        if event.origin is not None and self._is_linked(event.origin):
            parent = event.origin.transaction
            self._numbers.setdefault(parent, deque()).append((event.origin.step, given.hit))
            if event.script:
                self._scripted[given.hit] = event
            self._shadow.touch("transaction", parent)
        else:
            self._request(given.hit, event.cycle, event.step, _incoming(event, event.at))

    def _is_linked(self, origin: e.Origin) -> bool:
        """Whether the draft hands a request over by itself: not an alert, nor what found its webhook by a URL."""
        row = self._shadow.row(self._shadow.recorded, origin.transaction) if origin.number else None
        return row is not None and (row.call is None or row.call.link is not None)

    def came_again(self, given: CameAgain) -> None:
        """A repeat of the record is one in the draft too, unless that remembers deliveries otherwise."""
        cycle = given.event.cycle
        before = self._shadow.recorded.hit(given.hit)
        if before.origin is not None:
            parent = before.origin.transaction
            if not self._is_linked(before.origin):
                return
            self._numbers.setdefault(parent, deque()).append((before.origin.step, self._shadow.names.next_free()))
            self._shadow.touch("transaction", parent)
            return
        ours = _webhook(self._shadow.state, cycle, before.step)
        theirs = _webhook(self._shadow.recorded, cycle, before.step)
        if ours is None or theirs is None or ours.step.dedupe != theirs.step.dedupe:
            request = _incoming(self._original(given.hit), given.event.at)
            self._request(self._shadow.names.next_free(), cycle, before.step, request)

    def redriven(self, given: Redrives) -> None:
        """An item that an order of the record redrove, as the draft has it now."""
        state = self._shadow.state
        came = given.came
        number = self._shadow.names.next_free() if came is None else came.hit
        step = "" if came is None else came.event.step
        try:
            item = item_of(state, given.action, given.item, current=given.current)
            event = None if came is None else came.event
            order, action = given.order, given.action
            redrive = redrive_of(state, item, event, given.at, order=order, action=action, again=True)
            verdict: Verdict = redrive if isinstance(redrive, Refused) else self._shadow.run(redrive, number)
        except KeyError:
            verdict = Refused(404, "Nothing to redrive", f"the draft has no item {given.item}")
        if isinstance(verdict, Refused):
            self._refused(Refusal(number, given.cycle, step, verdict.status, verdict.title, verdict.detail))

    def _request(self, number: int, cycle: str, step: str, request: Incoming) -> Reply | Verdict:
        """A request comes to a webhook of the draft: the answer that refuses it, or the verdict on it."""
        state = self._shadow.state
        try:
            admitted = admit(state.program(state.cycle(cycle).definition_hash), step, request)
        except KeyError:
            verdict: Verdict = Refused(404, "No such webhook", f"there is no webhook {cycle}/{step}")
        else:
            if isinstance(admitted, Reply):
                said = admitted.body.decode("utf-8", "replace")
                self._refused(Refusal(number, cycle, step, admitted.status, "The request is refused", said))
                return admitted
            verdict = self._shadow.run(admitted, number)
        if isinstance(verdict, Refused):
            self._refused(Refusal(number, cycle, step, verdict.status, verdict.title, verdict.detail))
        return verdict

    def _refused(self, refusal: Refusal) -> None:
        self._shadow.names.refused(refusal.hit)
        self._shadow.touch("hit", refusal.hit)
        self._ledger.refused(refusal)

    # ------------------------------------------------------------------ links

    def look(self, row: TransactionRow, call: OpenCall) -> None:
        """Carry an open link on as far as the record allows."""
        attempt = (call.idempotency_key, call.attempt)
        if self._handed.get(row.id) != attempt:
            number = self._number(row, call)
            if number is None:
                return
            self._handed[row.id] = attempt
            self._answers.pop(row.id, None)
            answer = self._hand_over(row, call, number)
            if answer is not None:
                self._answers[row.id] = answer
        ours = self._answers.get(row.id)
        theirs = self._shadow.take_answer(row, call)
        if theirs is None and (ours is None or self._shadow.can_bring(row)):
            return
        if ours is not None and (theirs is None or not _alike(ours, theirs)):
            theirs = Ended(
                row.id, call.step, pass_of(self._shadow.state, row), self._shadow.at, ours, call.request.method
            )
        assert theirs is not None, "one of both has an answer"
        self._answers.pop(row.id, None)
        self._handed.pop(row.id, None)
        self._shadow.end_call(row, call, theirs)

    def _number(self, row: TransactionRow, call: OpenCall) -> int | None:
        """The number of a link's request, as the record has it; None while the record may still give one."""
        known = self._numbers.get(row.id, deque())
        for one in known:
            if one[0] == call.step:
                known.remove(one)
                if not known:
                    del self._numbers[row.id]
                return one[1]
        return None if self._shadow.can_bring(row) else self._shadow.names.next_free()

    def _hand_over(self, row: TransactionRow, call: OpenCall, number: int) -> CallAnswer | None:
        """Hand a request to another cycle; its answer, unless that is built later."""
        assert call.link is not None, "only links are handed over"
        said = self._request(number, *call.link, self._linked(row, call, self._scripted.pop(number, None)))
        if isinstance(said, Reply):
            return CallAnswer(said.status, said.headers, said.body)
        state, child, cycle = self._shadow.state, 0, call.link[0]
        if isinstance(said, Duplicate):
            before = state.hit(said.hit)
            child = before.transaction
            if before.wants_reply and not before.parked and before.status != "expired":
                built = before.reply
                return None if built is None else CallAnswer(built.status, built.headers, built.body, child, cycle)
            said = first_verdict(before)
        elif awaits_reply(state, said):
            return None
        if isinstance(said, Accepted | Resumed):
            child = said.transaction
        reply = verdict_reply(state, said, self._shadow.status_url)
        return CallAnswer(reply.status, reply.headers, reply.body, child, cycle if child else "")

    def _linked(self, row: TransactionRow, call: OpenCall, scripted: e.HitAccepted | None) -> Incoming:
        """The request of a link; where the draft makes the one of the record, what a `before_webhook` made of that."""
        request = call.request
        found = handed_over(row, call.step, request, call.idempotency_key, self._shadow.at)
        before = self._shadow.row(self._shadow.recorded, row.id)
        theirs = None if before is None or before.call is None else before.call.request
        if scripted is None or theirs != request:
            return found
        came = _incoming(scripted, found.at)
        return replace(came, origin=found.origin, depth=found.depth, chain=found.chain, delivery=found.delivery)

    def _answered(self, ended: CallEnded) -> None:
        """The target of a link has built its answer."""
        if isinstance(ended.outcome, CallAnswer):
            self._answers[ended.transaction] = ended.outcome


def _incoming(event: e.HitAccepted, at: int) -> Incoming:
    headers = {"content-type": event.content_type, **event.headers} if event.content_type else event.headers
    return Incoming(
        method=event.method,
        headers=headers,
        query=event.query,
        body=event.body,
        at=at,
        origin=event.origin,
        depth=event.depth,
        chain=Chain(event.chain, event.signed, event.sampled),
        delivery="" if event.origin is None else event.delivery,
        script=event.script,
        digest=event.digest if event.script else "",
    )


def _webhook(state: StoredState, cycle: str, step: str) -> WebhookPlan | None:
    try:
        return state.program(state.cycle(cycle).definition_hash).webhook(step)
    except KeyError:
        return None


def _alike(ours: CallAnswer, theirs: Ended) -> bool:
    """Whether two answers say the same, but for the address at which a request can be followed: only one was signed."""
    other = theirs.outcome
    if not isinstance(other, CallAnswer):
        return False
    return _plain(ours) == _plain(other)


def _plain(answer: CallAnswer) -> tuple[object, ...]:
    headers = {name: value for name, value in answer.headers.items() if name != "location"}
    try:
        body = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        body = answer.body
    if isinstance(body, dict):
        body.pop("status_url", None)
    return answer.status, headers, body, answer.child, answer.child_cycle
