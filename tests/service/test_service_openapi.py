"""The service keeps to its own description, whatever is sent to it."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from refunds.scopes import Scope
from refunds.service import limits
from tests.service.service_world import World

# Enough to meet the edges of every field, few enough for ten seconds in all.
_EXAMPLES_COUNT = 25

# The name under which the service is reached here.
_HOST = {"Host": "127.0.0.1"}

# A signature over the body and the time cannot be described, so none that is made up is taken.
_EXCEPT: dict[str, list[Any]] = {"/webhooks/gateway": [positive_data_acceptance]}

# What a program may call; the pages are for people and have no schema.
_OPERATIONS = (
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("POST", "/webhooks/gateway"),
    ("POST", "/refunds"),
    ("GET", "/refunds"),
    ("GET", "/refunds/{refund_id}"),
    ("GET", "/refunds/{refund_id}/history"),
    ("POST", "/refunds/{refund_id}/decisions"),
    ("POST", "/refunds/{refund_id}/resume"),
    ("POST", "/refunds/resume"),
    ("POST", "/refunds/reset"),
    ("GET", "/refunds/{refund_id}/reset"),
    ("POST", "/refunds/{refund_id}/reset"),
    ("POST", "/refunds/{refund_id}/settlement"),
    ("POST", "/refunds/{refund_id}/updates"),
    ("GET", "/refunds/{refund_id}/export"),
)


def _has_a_float(body: object) -> bool:
    """JSON Schema calls 48.0 an integer; an amount is never written so here."""
    return isinstance(body, dict) and any(isinstance(value, float) for value in body.values())


def test_the_description_has_every_door_for_programs_and_no_page(desk: World) -> None:
    described = desk.client.get("/openapi.json").json()["paths"]
    found = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert found == set(_OPERATIONS)


@pytest.mark.parametrize(("method", "path"), _OPERATIONS, ids=lambda part: part)
def test_every_answer_is_one_that_the_description_promises(
    desk: World, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", desk.client.app, headers=_HOST)
    for limit in limits.ALL:
        monkeypatch.setattr(limit, "spend", lambda _: None)
    headers = desk.key(*Scope, person="ann") | _HOST
    operation = schema[path][method]

    @seed(20261125)
    @settings(
        max_examples=_EXAMPLES_COUNT,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case[Any]) -> None:
        assume(not _has_a_float(case.body))
        case.call_and_validate(headers=headers, excluded_checks=_EXCEPT.get(path, []))

    check()
