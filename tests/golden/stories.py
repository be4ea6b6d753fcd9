"""What the golden journals tell. A story is told once, by the build of its day; afterwards only its journal counts.

A new kind of event needs a story of its own here, and a run of `python -m tests.golden.make NAME`: journals that were
written are never written again.
"""

from collections.abc import Callable

from protocol.chain import Chain
from protocol.events import WriterStarted
from protocol.events_redrive import RedriveAction
from protocol.inputs import Accepted, AlertDone, Hit, OrderRedrive, Parked, ReplySettled, RunOnce, Settle
from protocol.outbox import AnswerLink
from tests.protocol.story import Story, cycle

ORDERS = """
cycle: orders
connectors: {shop: {}, remote: {base_url: "https://remote.example"}}
settings: {on_error: stop_transaction, while_stopped: collect}
steps:
  placed: {webhook: shop, fields: {id: {type: text, required: true}, total: decimal}}
  dear: {decide: {left: placed.total, is: greater, right: 10}, else: book}
  ask: {post: remote, path: /ask, safe_to_repeat: no}
  book:
    post: remote
    path: /book
    body: {id: "{{ placed.id }}"}
    on_error: {retry: [1 minute]}
    fields: {job: {type: integer, required: true}}
  changed:
    webhook: shop
    fields: {job: {type: integer, required: true}, status: text}
    match: {job: book.job}
    hold_for: 2 days
    on_timeout: end
    park: 10 minutes
  pause: {delay: 5 minutes}
  hand: {post: shop, url: "cycle:quotes/asked", body: {n: 2}}
  answer: {respond: {status: 201, body: {status: "{{ changed.status }}", price: "{{ hand.body.price }}"}}}
"""
QUOTES = """
cycle: quotes
connectors: {shop: {}}
steps:
  asked: {webhook: shop, fields: {n: {type: integer, required: true}}}
  answer: {respond: {body: {price: "{{ asked.n * 2 }}"}}}
"""
LINES = cycle(
    "  t: {webhook: shop}\n"
    "  line: {split: hit.body}\n"
    "  price: {script: 'prices:price'}\n"
    "  all: {wait_all: true}\n"
    "  tell: {post: remote, path: /all, body: {count: '{{ all.count }}'}}\n",
    name="lines",
)


def first() -> Story:
    """Every kind of event of schema 2: orders that go well and badly, quotes by links, lists that are split."""
    story = Story(ORDERS, QUOTES, LINES)
    _writer(story, 1)
    _orders(story)
    _restart(story)
    _lists(story)
    story.stop("finish", cycle="quotes")
    return story


def _writer(story: Story, epoch: int) -> None:
    story.journal.append(WriterStarted("", story.at, epoch, "0.1.0", 2))


def _latest(story: Story) -> int:
    return max(story.state.transactions)


def _orders(story: Story) -> None:
    """One early callback, one repeat, one that is retried, one that nobody calls back."""
    story.hit("changed", {"job": 7, "status": "Early"})
    asked = story.hit("placed", {"id": "A1", "total": "9.90"}, headers={"idempotency-key": "k1"})
    story.hit("placed", {"id": "A1", "total": "9.90"}, headers={"idempotency-key": "k1"})
    assert isinstance(asked, Accepted)
    story.no_answer(transaction=asked.transaction)
    story.later(60)
    story.answer({"job": 7}, transaction=asked.transaction)
    story.later(300)
    _link(story)
    story.hit("changed", {"job": 7, "status": "Despatched"})
    story.later(300)
    _link(story)
    reply = max(hit.id for hit in story.state.hits.values() if hit.cycle == "orders" and hit.reply is not None)
    story.put(ReplySettled("orders", story.at, reply, "sent"))
    story.hit("changed", {"job": 99, "status": "Lost"})
    story.later(700)
    story.hit("placed", {"id": "A2"})
    story.answer({"job": 8}, transaction=_latest(story))
    story.later(2 * 86_400)
    story.hit("placed", {"id": "A3"})
    story.answer({"job": "none"}, transaction=_latest(story))
    story.later(60)
    story.answer(None, 500, transaction=_latest(story))


def _link(story: Story) -> None:
    """The call that is open hands over to a quote, and has its answer."""
    call = story.calls()[-1]
    hit = story.admit(
        "asked",
        call.request.body,
        cycle="quotes",
        origin=story.origin(call),
        delivery=call.idempotency_key,
        depth=1,
    )
    assert isinstance(hit, Hit)
    story.put(hit)
    (answer,) = (effect for effect in story.effects if isinstance(effect, AnswerLink))
    story.put(answer.ended)


def _restart(story: Story) -> None:
    """Two calls are open when the process dies; a person settles the one that must not be made twice."""
    story.hit("placed", {"id": "A4", "total": 11})
    dear = _latest(story)
    story.hit("placed", {"id": "A5"})
    plain = _latest(story)
    story.hit("asked", {"n": 3}, cycle="quotes")
    _writer(story, 2)
    story.restart()
    story.put(Settle("orders", story.at, dear, "done"))
    story.answer({"job": 10}, transaction=plain)
    story.hit("placed", {"id": "A6"})
    story.stop()
    kept = story.hit("placed", {"id": "A7"})
    assert isinstance(kept, Parked)
    story.start()


def _lists(story: Story) -> None:
    """Three items, each priced by a function, gathered when all have come."""
    story.hit("t", [{"sku": "tea"}, {"sku": "pot"}, "note"], cycle="lines")
    for row in list(story.state.transactions.values()):
        if row.cycle == "lines" and row.call is not None:
            story.script({"price": 2}, transaction=row.id)
    story.answer({"ok": True}, transaction=_latest(story))


def redriven() -> Story:
    """An order of three: a request delivered again, a run from the start, and one that goes on at an unknown call."""
    story = Story(ORDERS, QUOTES)
    for order in ("B1", "B2", "B3"):
        story.hit("placed", {"id": order, "total": 11})
        story.no_answer(transaction=_latest(story))
    first, second, third = sorted(story.state.transactions)
    ids = {"redeliver": (story.state.transaction(first).hit,), "rerun": (second,), "resume": (third,)}
    actions: tuple[RedriveAction, ...] = ("redeliver", "rerun", "resume")
    for action in actions:
        story.put(OrderRedrive("", story.at, f"o-{action}", "", action, "digest", ids[action]))
        story.redrive(action, *ids[action], f"o-{action}")
    story.put(Settle("orders", story.at, _latest(story), "done"))
    return story


def moved() -> Story:
    """A held transaction moves to another version at its next pass; a stopped cycle runs one request."""
    story = Story(ORDERS, QUOTES)
    story.hit("placed", {"id": "C1"})
    story.answer({"job": 7})
    story.deploy(ORDERS.replace("pause: {delay: 5 minutes}", "pause: {delay: 6 minutes}"))
    story.hit("changed", {"job": 7, "status": "Picked"})
    story.stop(cycle="quotes")
    story.put(RunOnce("quotes", story.at))
    story.hit("asked", {"n": 4}, cycle="quotes")
    return story


WEBHOOKS = cycle(
    """
  placed: {webhook: shop, fields: {id: text, rows: list}, after_webhook: "work:tidy"}
  poll: {get: remote, path: /orders, query: {since: "{{ last_success }}"}}
  changed: {webhook: shop, fields: {id: text, at: integer}, match: {id: placed.id}, newer_than: at}
""",
    name="webhooks",
    rules="{split: trigger}",
)


def webhooks() -> Story:
    """A function tidies a request with a list, which is parted; a poll notes its success; a late request is ignored."""
    story = Story(WEBHOOKS)
    story.hit("placed", {"id": "D1", "rows": [1, 2]})
    story.script({"data": {"id": "D1", "rows": [1, 2]}})
    for row in list(story.state.transactions.values()):
        if row.call is not None:
            story.answer({}, transaction=row.id)
    story.hit("changed", {"id": "D1", "at": 5})
    story.hit("changed", {"id": "D1", "at": 4})
    return story


LEAVING = cycle(
    """
  t: {webhook: shop}
  pay: {post: bank, path: /pay, safe_to_repeat: no}
  tell: {post: remote, path: /tell}
""",
    name="leaving",
    rules="{alerts: {url: 'https://ops.example/', level: error}}",
).replace("other: {}", "bank: {base_url: 'https://bank.example', rate: 10/second}")


def leaving() -> Story:
    """Calls that leave once and are left to a person; a bank that asks for patience; alerts told and given up."""
    story = Story(LEAVING)
    for trace in ("a" * 32, "b" * 32):
        story.hit("t", {}, depth=2, chain=Chain(trace, signed=True, sampled=False))
    first, second = list(story.state.transactions)
    story.leave()
    story.answer(None, 429, transaction=first, headers={"retry-after": "60"})
    story.hit("t", {})
    story.restart()
    story.put(Settle("leaving", story.at, second, "done"))
    story.later(60)
    for reason in ("", "it was answered with 500"):
        alert = story.state.cycle("leaving").alert
        assert alert is not None
        story.put(AlertDone("leaving", story.at, alert.incidents[0], reason))
        story.answer(None, 500, transaction=second) if not reason else None
    story.restart(queued=True)
    story.hit("t", {}, depth=99, chain=Chain("c" * 32))
    return story


def retention() -> Story:
    """Two orders are over: the data of one is dropped, then all of it; the other still holds, past its age."""
    story = Story(ORDERS, QUOTES)
    for order in ("E1", "E2"):
        story.hit("placed", {"id": order}, headers={"idempotency-key": order})
        story.answer({"job": int(order[1])}, transaction=_latest(story))
    story.hit("changed", {"job": 1, "status": "Picked"})
    story.later(300)
    _link(story)
    day = 86_400
    story.later(day)
    story.retain(completed=3 * day, bodies=day // 2)
    story.hit("changed", {"job": 1, "status": "Late"})
    story.later(3 * day)
    story.retain(completed=3 * day, failed=9 * day, bodies=day // 2)
    story.later(10 * day)
    story.retain(completed=3 * day, failed=9 * day, bodies=day // 2)
    return story


STORIES: dict[str, Callable[[], Story]] = {
    "first": first,
    "redriven": redriven,
    "moved": moved,
    "webhooks": webhooks,
    "leaving": leaving,
    "retention": retention,
}
