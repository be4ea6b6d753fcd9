"""What the doctor says of settings and cycles."""

from protocol.ages import Retention
from protocol.loading import Source, load_project
from runtime.config import Settings
from runtime.doctor.advice import cycles_checks, settings_check

SIGNED = """
cycle: signed
connectors: {shop: {}, bank: {base_url: "https://bank.example", headers: {authorization: "Bearer {{ env.BANK }}"}}}
steps:
  asked: {webhook: shop, fields: {id: text}, verify: {scheme: github, secrets: [env.NEW, env.OLD]}}
  pay: {post: bank, path: /pay}
  back: {webhook: shop, identifier: signed-back, fields: {id: text}, match: {id: asked.id}, answer_within: 2 minutes}
  told: {respond: {body: {ok: true}}}
"""


def found(settings: Settings, **environment: str) -> str:
    """What is said of settings."""
    return " ".join(settings_check(settings, environment).found)


def test_given_the_defaults_then_there_is_nothing_to_say() -> None:
    """They listen on loopback only."""
    assert settings_check(Settings(), {}).level == "ok"


def test_given_an_address_beyond_the_machine_then_tls_or_a_proxy_is_asked_for() -> None:
    """The admin token travels with every order."""
    assert "can be read" in found(Settings(bind="0.0.0.0:8080"))
    assert not found(Settings(bind="0.0.0.0:8080", public_url="https://hooks.example"))
    assert not found(Settings(bind="0.0.0.0:8080", tls_certificate="cert.pem"))
    assert "not https" in found(Settings(public_url="http://hooks.example"))


def test_given_a_short_token_or_a_long_grace_then_it_is_told() -> None:
    """And the token itself is not."""
    said = found(Settings(), CYCLEWRIGHT_TOKEN="abc123")
    assert "6 characters" in said
    assert "abc123" not in said
    assert "supervisors kill" in found(Settings(grace="40 seconds"))


def test_given_variables_that_are_not_set_then_what_fails_for_it_is_told() -> None:
    """One of two live secrets is enough; a stopped project's environment is not known."""
    (definition,) = load_project([Source("a.cycle.yaml", SIGNED)])[0].values()
    checks = {one.name: one for one in cycles_checks([definition], Settings(), {})}
    assert len(checks["secrets"].found) == 2
    assert "401" in checks["secrets"].found[0]
    assert "env.BANK" in checks["secrets"].found[1]
    checks = {one.name: one for one in cycles_checks([definition], Settings(), {"OLD": "x" * 20, "BANK": "y" * 20})}
    assert checks["secrets"].level == "ok"
    assert next(iter(cycles_checks([definition], Settings(), None))).level == "skipped"


def test_given_cycles_then_holds_without_end_and_guessable_urls_are_notes() -> None:
    """Nothing to act on: an exit code is for what is wrong."""
    (definition,) = load_project([Source("a.cycle.yaml", SIGNED)])[0].values()
    notes = list(cycles_checks([definition], Settings(), None))[1]
    assert notes.level == "note"
    assert len(notes.found) == 3
    short = Settings(retention=Retention(held="3 days"))
    assert len(list(cycles_checks([definition], short, None))[1].found) == 2
