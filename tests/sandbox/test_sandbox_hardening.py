"""No input makes the sandbox fail."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.testing import AUTHORIZATION, World, customer_record, order_record

JSON_ENDPOINTS = [
    "POST /shop/customers",
    "POST /shop/orders",
    "PUT /faults",
    "PUT /gateway/settle",
    "POST /crm/v1/cases",
    "POST /coupons/v1/coupons",
    "POST /coupons/v1/coupons/x/void",
    "POST /logistics/v1/holds",
    "POST /logistics/v1/labels",
    "POST /notices/v1/messages",
]
FORM_ENDPOINTS = [
    "/gateway/v1/refunds",
    "/gateway/v1/refunds/re_0000000000000001",
    "/gateway/v1/refunds/re_0000000000000001/cancel",
]
READINGS = [
    "/effects",
    "/inbox",
    "/crm/v1/cases",
    "/notices/v1/messages",
    "/gateway/v1/refunds",
    "/gateway/v1/charges",
    "/gateway/v1/events",
    "/gateway/v1/refunds/x",
]
FIELDS = [
    "refund_id",
    "customer_id",
    "order_id",
    "amount_minor",
    "currency",
    "item_ids",
    "audience",
    "to",
    "subject",
    "body",
    "link",
    "seed",
    "rules",
    "kind",
    "endpoint",
    "refund",
    "status",
    "payments",
    "items",
    "options",
    "ship_to",
    "name",
]
PARAMETERS = [
    "charge",
    "payment_intent",
    "amount",
    "currency",
    "reason",
    "metadata",
    "metadata[refund_to]",
    "metadata[",
    "limit",
    "after",
    "before",
    "starting_after",
    "ending_before",
    "created[gte]",
    "created",
    "refund_id",
    "audience",
]

ABOUT = {"refund_id": "rf_1", "order_id": "#W1"}
MONEY = {"amount_minor": 400, "currency": "USD", "customer_id": "ada_1"}
WORDS = {"to": "ada", "subject": "s", "body": "b", "link": "https://example.com"}
RULE = {"kind": "pending", "endpoint": "POST /gateway/v1/refunds", "times": 1, "probability": 0.5}
VALID: dict[str, Any] = {
    "POST /shop/customers": [customer_record("bob_1")],
    "POST /shop/orders": [order_record("#W2", paid_minor=9, refunded_minor=9)],
    "PUT /faults": {"seed": 1, "rules": [RULE | {"settle_after_seconds": 1, "match": {}}]},
    "PUT /gateway/settle": {"refund": "re_1", "status": "failed", "failure_reason": "declined"},
    "POST /crm/v1/cases": ABOUT | MONEY | {"outcome": "PAID", "note": "n"},
    "POST /coupons/v1/coupons": MONEY | {"refund_id": "rf_1"},
    "POST /logistics/v1/labels": ABOUT | {"item_ids": ["i1"]},
    "POST /notices/v1/messages": WORDS | {"refund_id": "rf_1", "audience": "customer"},
}

texts = st.one_of(
    st.text(alphabet=st.characters(), max_size=12),
    st.sampled_from(["ch_W1", "pi_W1", "re_0000000000000102", "9" * 25, "-1", "\ud800", "\x00"]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), inner, max_size=6),
    ),
    max_leaves=12,
)
bodies = st.one_of(st.binary(max_size=40), values.map(lambda value: json.dumps(value).encode()))

# In-process requests take a millisecond or two; the run is bounded by the number of examples.
quick = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
    database=None,
)


@pytest.fixture(autouse=True)
def _open_world(world: World) -> Iterator[None]:
    world.client.headers.update(AUTHORIZATION | {"Idempotency-Key": "k"})
    yield
    assert world.get("/health").json() == {"status": "ok"}


def answered(world: World, method: str, path: str, **request: Any) -> int:
    status: int = world.client.request(method, path, **request).status_code
    assert status < 500
    return status


@given(endpoint=st.sampled_from(JSON_ENDPOINTS), body=bodies)
@quick
def test_no_json_body_is_a_server_error(world: World, endpoint: str, body: bytes) -> None:
    method, path = endpoint.split()
    answered(world, method, path, content=body)
    world.client.delete("/faults")


@given(data=st.data(), endpoint=st.sampled_from(sorted(VALID)), odd=values)
@quick
def test_no_odd_value_in_a_good_body_is_a_server_error(
    world: World, data: st.DataObject, endpoint: str, odd: Any
) -> None:
    body = copy.deepcopy(VALID[endpoint])
    place = body
    while True:
        steps = list(place) if isinstance(place, dict) else list(range(len(place)))
        step = data.draw(st.sampled_from(steps))
        if not isinstance(place[step], dict | list) or not place[step] or data.draw(st.booleans()):
            break
        place = place[step]
    place[step] = odd
    method, path = endpoint.split()
    answered(world, method, path, content=json.dumps(body).encode())
    world.client.delete("/faults")


@given(
    path=st.sampled_from(FORM_ENDPOINTS),
    fields=st.dictionaries(st.one_of(st.sampled_from(PARAMETERS), texts), texts, max_size=5),
)
@quick
def test_no_form_is_a_server_error(world: World, path: str, fields: dict[str, str]) -> None:
    encodable = {
        name.encode("utf-8", "replace"): value.encode("utf-8", "replace")
        for name, value in fields.items()
    }
    answered(world, "POST", path, data=encodable)


@given(path=st.sampled_from(FORM_ENDPOINTS), body=st.binary(max_size=60))
@quick
def test_no_bytes_in_place_of_a_form_are_a_server_error(
    world: World, path: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answered(world, "POST", path, content=body, headers=headers)


@given(
    path=st.sampled_from(READINGS),
    query=st.dictionaries(st.one_of(st.sampled_from(PARAMETERS), texts), texts, max_size=3),
)
@quick
def test_no_query_is_a_server_error(world: World, path: str, query: dict[str, str]) -> None:
    encodable = {
        name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
        for name, value in query.items()
    }
    answered(world, "GET", path, params=encodable)


@pytest.mark.parametrize("endpoint", [*JSON_ENDPOINTS, f"POST {FORM_ENDPOINTS[0]}"])
def test_a_body_that_is_too_long_is_refused_as_such(world: World, endpoint: str) -> None:
    method, path = endpoint.split()
    limit = 4 * 1024 * 1024 if path.startswith("/shop") else 256 * 1024
    assert answered(world, method, path, content=b" " * (limit + 1)) == 413
    assert answered(world, method, path, content=b" " * limit) != 413


@pytest.mark.parametrize("endpoint", JSON_ENDPOINTS)
@pytest.mark.parametrize("body", [b"{", b'"\xff"', b"\xfe\xff", b"[" * 100_000, b"{} {}"])
def test_what_is_not_json_in_utf_8_is_refused_as_such(
    world: World, endpoint: str, body: bytes
) -> None:
    method, path = endpoint.split()
    assert answered(world, method, path, content=body) == 400


def test_a_path_or_method_that_does_not_exist_is_answered_in_json(world: World) -> None:
    assert world.get("/nowhere").json()["error"]["code"] == "not_found"
    answer = world.client.delete("/effects")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
