"""Journal folders as a server leaves them, made from stories, for commands to look into."""

from pathlib import Path

from journal import LOCAL_PARTITION, LocalLog
from protocol.events import encode_event
from protocol.inputs import Deploy
from tests.protocol.story import Story

PAY = """
cycle: pay
connectors: {shop: {}, bank: {base_url: "https://bank.example"}}
settings: {on_error: stop_transaction}
steps:
  asked:
    webhook: shop
    identifier: pay-asked
    fields: {order: text, card: {type: text, required: true, sensitive: true}}
  charge:
    post: bank
    path: /charges
    body: {card: "{{ asked.card }}"}
    fields: {id: {type: integer, required: true}}
  settled:
    webhook: shop
    identifier: pay-settled
    fields: {id: {type: integer, required: true}, state: text}
    match: {id: charge.id}
    hold_for: 2 days
  answer: {respond: {body: {state: "{{ settled.state }}"}}}
"""


def journaled(folder: Path, story: Story) -> Path:
    """A data folder with the journal of a story, an event to a group; returns the data folder."""
    with LocalLog.open(folder / "journal") as log:
        owner = log.own(LOCAL_PARTITION)
        owner.append([[encode_event(event)] for event in story.journal], at=story.at)
        owner.close()
    return folder


def payments() -> Story:
    """Two payments under one number, settled by a request that came early and by a later one; a third is being made."""
    story = Story(PAY)
    packed = story.state.definitions["hash-pay"].definition
    story.put(Deploy("pay", story.at, packed, "hash-pay", {"asked": "pay-asked", "settled": "pay-settled"}))
    story.hit("settled", {"id": 7, "state": "early"})
    for order in ("A1", "A2"):
        story.hit("asked", {"order": order, "card": "secret-4111"})
        story.answer({"id": 7}, transaction=max(story.state.transactions))
        story.later(1)
    story.hit("settled", {"id": 7, "state": "done"})
    story.hit("asked", {"order": "A3", "card": "secret-4111"})
    return story
