"""What can go wrong: one name for each kind of incident, so that alerts, filters and people can rely on them.

Names are journaled, so they are only ever added: one that is no longer raised stays, for the journals that have it.
"""

from typing import Literal

Level = Literal["info", "warning", "error"]

Kind = Literal[
    "alert_failed",
    "already_answered",
    "can_not_be_split",
    "connection_failed",
    "contract_broken",
    "filtered",
    "hit_expired",
    "hold_expired",
    "invalid_answer",
    "invalid_expression",
    "invalid_header",
    "invalid_instant",
    "invalid_request",
    "invalid_response",
    "loop_detected",
    "no_answer",
    "out_of_retries",
    "rate_limited",
    "rejected",
    "remote_error",
    "required_source_empty",
    "retention_expired",
    "script_failed",
    "too_large",
    "unknown_outcome",
]

KINDS: dict[Kind, str] = {
    "alert_failed": "an alert was given up after its last attempt; no alert tells it (warning)",
    "already_answered": "a second `respond`, whose caller has an answer (info)",
    "can_not_be_split": "the source of a `split` is no list, or has too many items",
    "connection_failed": "a call never reached its remote: address, egress policy, TLS, or a secret that is not set",
    "contract_broken": "a request broke the fields of a webhook with `check: warn`, and runs (warning)",
    "filtered": "an `after_webhook` let a request run nothing more (info)",
    "hit_expired": "a request was parked, or kept for a stopped cycle, and nothing came for it",
    "hold_expired": "a hold came to its `hold_for` with `on_timeout: fail`",
    "invalid_answer": "a remote's answer breaks the declared fields of the step",
    "invalid_expression": "an expression could not be evaluated",
    "invalid_header": "a header was rendered to something that is no line",
    "invalid_instant": "a `wait_until` gave no instant, or one that is ten years away",
    "invalid_request": "a request was rendered to something that is none",
    "invalid_response": "a `respond` gave no status from 200 to 599",
    "loop_detected": "a chain is more than `max_depth` hand-overs deep: 508 (a warning where a stranger says so)",
    "no_answer": "a call left, and no answer came: a timeout, or a connection that broke",
    "out_of_retries": "the last attempt of `on_error: retry` failed",
    "rate_limited": "a remote asked for patience with 429 or 503, and is called again later (info)",
    "rejected": "an `after_webhook` refused a request, and its transaction failed",
    "remote_error": "a remote answered with anything but 2xx",
    "required_source_empty": "a value that a step needs is missing: *Required source is empty*",
    "retention_expired": "a hold that nothing else ends was held for longer than `retention` keeps what is held",
    "script_failed": "a function of the project raised, took too long, or returned what is no data",
    "too_large": "a body was rendered to more than a call may carry",
    "unknown_outcome": "the process died with a call under way that is not safe to repeat: a person must decide",
}
"""What each kind means; its level is `error`, or `warning` while another attempt follows, unless it says otherwise."""
