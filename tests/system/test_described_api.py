"""Schemathesis: requests of every kind that the API's own description allows, and others that it does not (15)."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from runtime.door.openapi import document
from tests.fuzzing import LENGTH
from tests.system.harness import Server
from tests.system.load import WORK
from tests.system.partner import Partner

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    unsupported_method,
]
QUOTE = """
cycle: quotes
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: quotes-asked, methods: [GET, POST, PUT, PATCH, DELETE], fields: {n: integer}}
  answer: {respond: {body: {n: "{{ asked.n }}"}}}
"""
# What is there, so that not every request is for something that is not.
KNOWN: dict[str, list[Any]] = {
    "name": ["jobs", "quotes", "jobs-8", "quotes-1"],
    "cycle": ["jobs", "quotes"],
    "step": ["asked", "work"],
    "order": ["start", "stop", "finish", "run-once"],
    "action": ["resend", "done", "fail"],
    "identifier": ["jobs-asked", "quotes-asked"],
    "hit": [7, 0],
}
schema = schemathesis.openapi.from_dict(document())


@schema.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Let three of four requests name what is there; which one follows from what was drawn."""
    del context
    drawn = sum(map(ord, repr(path_parameters)))
    if drawn % 4 == 0:
        return path_parameters
    return {name: KNOWN[name][drawn % len(KNOWN[name])] for name in path_parameters}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, partner: Partner) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("described")
    (folder / "jobs.cycle.yaml").write_text(WORK % partner.url)
    (folder / "quotes.cycle.yaml").write_text(QUOTE)
    with Server(folder) as running:
        for job in range(3):
            running.hit("jobs-asked", {"job": job})
        yield running


@schema.parametrize()  # pyright: ignore[reportUntypedFunctionDecorator]  # It has no types for one.
@settings(
    max_examples=12 * LENGTH,
    derandomize=LENGTH == 1,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
def test_15_every_answer_is_one_that_the_description_allows(case: Any, server: Server) -> None:
    """Section 15: given any request, then no 500, and a status, a content type and a body that are described."""
    token = (server.data / "admin.token").read_text()
    case.call_and_validate(base_url=server.url, headers={"authorization": f"Bearer {token}"}, checks=CHECKS, timeout=10)
