"""The GitHub example: signed deliveries as GitHub sends them, calls to its API, slash commands that are answered."""

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.tour import EXAMPLES, Tour, running

PAYLOADS = EXAMPLES / "github-issues" / "payloads"
ISSUE = "/repos/octo-org/hello/issues/{}"


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    """The running example; each test uses an issue of its own."""
    with running("github-issues", tmp_path_factory.mktemp("github")) as example:
        yield example


def deliver(tour: Tour, event: str, payload: Any, *, secret: str = "") -> httpx.Response:
    """Deliver an event with the headers of GitHub's documentation."""
    body = json.dumps(payload).encode()
    signed = hmac.new((secret or tour.secrets["GITHUB_SECRET"]).encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "accept": "*/*",
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "x-github-delivery": str(uuid.uuid4()),
        "x-github-event": event,
        "x-github-hook-id": "292430182",
        "x-github-hook-installation-target-id": "3001",
        "x-github-hook-installation-target-type": "repository",
        "x-hub-signature-256": f"sha256={signed}",
    }
    return httpx.post(f"{tour.server.url}/webhook/github-events", content=body, headers=headers, timeout=30)


def payload(name: str, number: int, **changed: Any) -> dict[str, Any]:
    """A documented payload about an issue of this number, with some fields of its issue or comment changed."""
    found: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text())
    found["issue"]["number"] = number
    found["comment" if "comment" in found else "issue"].update(changed)
    return found


def on_github(tour: Tour, number: int, more: str = "") -> Any:
    """What the partner has of an issue."""
    return tour.ask_partner(ISSUE.format(number) + more, authorization=f"Bearer {tour.secrets['GITHUB_TOKEN']}")


def test_given_the_example_when_the_tour_is_pasted_then_an_issue_is_triaged_and_a_command_obeyed(
    tmp_path: Path,
) -> None:
    """Sections 4, 5, 7: the lines of its README, openssl for GitHub."""
    with running("github-issues", tmp_path) as tour:
        assert tour.paste() == ""
        assert tour.paste() == "204"
        issue = json.loads(tour.paste())
        assert [one["name"] for one in issue["labels"]] == ["bug", "urgent"]
        assert (issue["assignees"], issue["comments"], issue["state"]) == ([{"login": "octocat"}], 1, "open")
        first, again = tour.paste().splitlines()
        assert first == again == '{"command":"/close","issue":42,"state":"closed"}200'
        assert on_github(tour, 42)["state_reason"] == "completed"
        assert tour.server.settled("triage")["completed"] == 2
        assert not tour.left


@pytest.mark.parametrize(
    ("number", "title", "own", "labels"),
    [
        (1, "Data loss after a restart", [], ["bug", "urgent"]),
        (2, "How do I say hello twice", [], ["question"]),
        (3, "Is this a bug?", [], ["question"]),
        (4, "Say hello in Danish", [], ["triage"]),
        (5, "Crash on startup", [{"name": "wontfix"}], []),
    ],
)
def test_9_given_a_new_issue_then_its_title_and_labels_say_what_becomes_of_it(
    tour: Tour, number: int, title: str, own: Any, labels: list[str]
) -> None:
    """Section 9: a condition on a list, a switch on what an expression gives; one welcome, whatever the way."""
    answer = deliver(tour, "issues", payload("issues.opened", number, title=title, labels=own))
    assert (answer.status_code, answer.content) == (204, b"")
    assert [one["name"] for one in on_github(tour, number)["labels"]] == labels
    (comment,) = on_github(tour, number, "/comments")
    assert comment["body"].startswith("Thank you, @ann.")


@pytest.mark.parametrize(
    ("number", "comment", "by", "status", "answer"),
    [
        (11, "/close", "OWNER", 200, {"command": "/close", "issue": 11, "state": "closed"}),
        (12, "/label good-first-issue\r\n", "COLLABORATOR", 200,
         {"command": "/label", "issue": 12, "labels": [{"name": "good-first-issue"}]}),
        (13, "/open", "MEMBER", 422, {"error": "no such command: /open", "commands": ["/close", "/label NAME"]}),
        (14, "/close", "NONE", 204, None),
        (15, "I see this too", "OWNER", 204, None),
    ],
)  # fmt: skip
def test_5_given_a_comment_then_a_command_of_a_member_is_answered_in_the_delivery(
    tour: Tour, number: int, comment: str, by: str, status: int, answer: Any
) -> None:
    """Section 5: what the pass responds; 204 for who says no command, or may not give one."""
    said = deliver(tour, "issue_comment", payload("issue_comment.created", number, body=comment, author_association=by))
    assert said.status_code == status, said.text
    assert (said.json() if said.content else None) == answer
    if status == 204:
        assert on_github(tour, number)["state"] == "open"


def test_5_2_given_a_command_without_its_argument_then_500_names_the_step(tour: Tour) -> None:
    """5.2, section 3: a required source is empty."""
    said = deliver(tour, "issue_comment", payload("issue_comment.created", 21, body="/label"))
    assert (said.status_code, said.json()["step"]) == (500, "add_label")
    assert on_github(tour, 21)["labels"] == []


def test_4_given_the_ping_of_a_new_webhook_then_it_is_answered(tour: Tour) -> None:
    """Section 4: GitHub sends it first, and it has neither an action nor an issue."""
    pong = deliver(tour, "ping", {"zen": "Keep it logically awesome.", "hook_id": 292430182, "hook": {}})
    assert (pong.status_code, pong.json()) == (200, {"zen": "Keep it logically awesome."})


def test_4_given_a_delivery_that_is_not_signed_with_the_secret_then_401(tour: Tour) -> None:
    """Section 4: and nothing reaches the API."""
    refused = deliver(tour, "issues", payload("issues.opened", 31), secret="guessed")
    assert refused.status_code == 401
    assert on_github(tour, 31)["comments"] == 0
