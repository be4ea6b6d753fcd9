"""Alerts (section 10): which incidents are told, together with which others; none is lost, or told in circles."""

import msgspec
import pytest

from protocol.alert_settings import Alerts
from protocol.chain import Chain
from protocol.events import Origin
from protocol.events_leaving import AlertEnded, AlertIntended, AlertsSet
from protocol.inputs import Accepted, AlertDone, Deploy, Hit
from protocol.loading import Source, encode_definition, load_project
from protocol.outbox import AnswerLink, SendAlert
from tests.protocol.story import Story, cycle

STEPS = (
    "  t: {webhook: shop, fields: {n: integer}}\n  work: {post: remote, path: /x}\n  more: {post: remote, path: /y}\n"
)
TOLD = "{alerts: {url: 'https://ops.example/', level: %s}}"


def story(level: str = "error", steps: str = STEPS) -> Story:
    """A cycle whose incidents are told."""
    return Story(cycle(steps, rules=TOLD % level))


def broken(told: Story, *, step: str = "work") -> int:
    """A run whose call fails at a step; the number of the incident."""
    verdict = told.hit("t", {"n": 1})
    assert isinstance(verdict, Accepted)
    if step == "more":
        told.answer({}, transaction=verdict.transaction)
    told.answer(None, 500, transaction=verdict.transaction)
    return max(told.state.incidents)


def alerts(told: Story) -> list[list[int]]:
    """What each alert so far tells."""
    return [event.incidents for event in told.journal if isinstance(event, AlertIntended)]


def done(told: Story, incident: int, reason: str = "") -> None:
    """An alert has ended so."""
    told.put(AlertDone("c", told.at, incident, reason))


def test_10_an_incident_is_told_in_the_turn_that_raises_it() -> None:
    """Section 10: the alert is journaled with it, so no crash comes between."""
    told = story()
    incident = broken(told)
    assert told.names()[-1] == "AlertIntended"
    assert alerts(told) == [[incident]]
    assert [effect.incidents for effect in told.all_effects if isinstance(effect, SendAlert)] == [[incident]]
    done(told, incident)
    assert told.names() == ["AlertEnded"]
    row = told.state.cycle("c")
    assert (row.alert, row.untold) == (None, 0)
    assert not told.state.find("alert", ("c",), 1)


def test_10_nothing_is_told_where_nobody_asked() -> None:
    """Section 10: nor does anything wait for somebody to ask."""
    told = Story(cycle(STEPS))
    broken(told)
    assert not alerts(told)
    assert not told.state.find("alert", ("c",), 1)


@pytest.mark.parametrize(
    ("level", "kinds"), [("warning", ["remote_error", "out_of_retries"]), ("error", ["out_of_retries"])]
)
def test_10_the_level_says_which_incidents_are_told(level: str, kinds: list[str]) -> None:
    """Section 10: an attempt that failed and is tried again is a warning; what is of level info is never told."""
    rules = (TOLD % level).replace("{alerts", "{on_error: {retry: [1 second]}, alerts")
    told = Story(cycle(STEPS, rules=rules))
    told.hit("t", {"n": 1})
    told.answer(None, 429)
    told.later(60)
    told.answer(None, 500)
    told.later(1)
    told.answer(None, 500)
    for kind in kinds:
        (first,) = [one.id for one in told.state.incidents.values() if one.kind == kind]
        assert alerts(told)[-1] == [first]
        done(told, first)
    assert len(alerts(told)) == len(kinds)


def test_10_a_storm_is_one_alert_at_a_time_and_alike_ones_are_told_together() -> None:
    """Section 10: what comes up while an alert is under way waits; one alert tells all of one step, kind and level."""
    told = story()
    first = broken(told)
    rest = [broken(told, step=step) for step in ("work", "more", "work", "more", "work")]
    assert alerts(told) == [[first]]
    done(told, first)
    assert alerts(told)[1:] == [[rest[0], rest[2], rest[4]]]
    done(told, rest[0])
    assert alerts(told)[2:] == [[rest[1], rest[3]]]
    done(told, rest[1])
    assert len(alerts(told)) == 3
    assert sorted(one for alert in alerts(told) for one in alert) == sorted([first, *rest]), "each is told once"


def test_10_an_alert_is_bounded() -> None:
    """Section 10: of a thousand incidents one alert tells two hundred, and the next one the next."""
    told = story()
    first = broken(told)
    for _ in range(250):
        broken(told)
    done(told, first)
    assert len(alerts(told)[1]) == 200
    done(told, alerts(told)[1][0])
    assert len(alerts(told)[2]) == 50


def test_10_an_alert_that_is_given_up_is_an_incident_that_nobody_is_told() -> None:
    """Section 10: of its own kind, a warning, and never told: it would bring the next one."""
    told = story("warning")
    first = broken(told)
    done(told, first, "it was answered with 500")
    assert told.names() == ["AlertEnded", "IncidentRaised"]
    incident = list(told.state.incidents.values())[-1]
    assert (incident.kind, incident.level) == ("alert_failed", "warning")
    assert "it was answered with 500" in incident.message
    assert incident.detail == {"incident": first, "count": 1}
    assert len(alerts(told)) == 1
    again = broken(told)
    assert alerts(told)[1] == [again], "the next one is tried"


def test_10_an_outcome_that_comes_twice_or_late_changes_nothing() -> None:
    """Section 10: after a restart two sendings may report."""
    told = story()
    first = broken(told)
    done(told, first)
    for incident in (first, first + 1):
        done(told, incident, "late")
        assert told.names() == []


def test_10_what_an_alert_tells_survives_a_restart() -> None:
    """Section 10: the same incidents, and those that wait."""
    told = story()
    first, second = broken(told), broken(told, step="more")
    told.restart()
    row = told.state.cycle("c")
    assert row.alert is not None
    assert (row.alert.incidents, row.untold) == ([first], 1)
    done(told, first)
    assert alerts(told) == [[first], [second]]


def test_10_alerts_set_anew_count_from_then_on() -> None:
    """Section 10: by a deploy; the server's word is for cycles that say nothing themselves."""
    told = Story(cycle(STEPS))
    (definition,) = load_project([Source("0.cycle.yaml", cycle(STEPS))])[0].values()
    packed = encode_definition(definition)
    server = Alerts(url="https://ops.example/", level="warning")
    told.put(Deploy("c", told.at, packed, "hash-c", {}, server))
    assert told.latest == [AlertsSet("c", told.at, "warning")]
    told.put(Deploy("c", told.at, packed, "hash-c", {}, server))
    assert told.latest == []
    incident = broken(told)
    told.put(Deploy("c", told.at, packed, "hash-c", {}))
    assert told.latest == [AlertsSet("c", told.at, "")]
    broken(told)
    done(told, incident)
    assert alerts(told) == [[incident]]
    told.deploy(cycle(STEPS, rules="{alerts: {url: ''}}"))
    assert not [event for event in told.latest if isinstance(event, AlertsSet)]
    assert told.replayed().cycle("c").alerts == ""


def test_10_the_cycle_that_is_told_is_not_told_of_itself() -> None:
    """Section 10: an incident of the alerts' own cycle would bring the next one."""
    told = Story(cycle(STEPS, rules="{alerts: {url: 'cycle:c/t'}}"))
    broken(told)
    assert not alerts(told)


def test_10_who_is_handed_an_alert_answers_nobody() -> None:
    """Section 10: its transaction names the one that the alert is about, and no step waits for it."""
    told = Story(cycle(STEPS + "  r: {respond: {body: {ok: true}}}\n"))
    verdict = told.hit("t", {"n": 1})
    assert isinstance(verdict, Accepted)
    hit = told.admit(
        "t", {"n": 2}, origin=Origin("c", verdict.transaction, "work", 0), delivery="c.incident.7", depth=1
    )
    assert isinstance(hit, Hit)
    handed = told.put(msgspec.structs.replace(hit, chain=Chain("a" * 32)))
    assert isinstance(handed, Accepted)
    for _ in range(2):
        told.answer({}, transaction=handed.transaction)
    assert told.state.transaction(handed.transaction).status == "completed"
    assert not [effect for effect in told.all_effects if isinstance(effect, AnswerLink)]
    assert told.state.transaction(verdict.transaction).call is not None
    assert not [event for event in told.journal if isinstance(event, AlertEnded)]
