"""The same facts always give the same digest, and only the same facts do."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refunds.digests import canonical, digest
from tests.domain.domain_cases import request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda part: (
        st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=4), part, max_size=4)
    ),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """The value with its JSON types spelled out, since Python says 1 == True."""
    if isinstance(value, dict):
        return {key: typed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [typed(part) for part in value]
    return type(value).__name__, value


def test_the_digest_is_sha_256_of_compact_sorted_json() -> None:
    assert canonical({"b": [1, True], "a": "ü"}) == '{"a":"ü","b":[1,true]}'
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_key_order_does_not_matter() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_the_order_of_a_list_matters() -> None:
    assert digest([1, 2]) != digest([2, 1])


@pytest.mark.parametrize(
    "value", [1.0, [1.5], {"a": {"b": (0.0,)}}, float("nan")], ids=["top", "list", "deep", "nan"]
)
def test_a_float_is_refused_wherever_it_stands(value: Any) -> None:
    with pytest.raises(TypeError, match="minor units"):
        digest(value)


@pytest.mark.parametrize("key", [1, 1.5, None, True])
def test_a_key_that_is_not_text_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match="use a string"):
        digest([{key: 1}])


@pytest.mark.parametrize("value", [Decimal(1), {1}, b"1"], ids=["decimal", "set", "bytes"])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        digest(value)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(JSON, JSON)
def test_two_values_share_a_digest_only_when_they_are_the_same(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (typed(one) == typed(other))


def test_every_field_of_a_request_changes_its_digest() -> None:
    changes: list[dict[str, Any]] = [
        {"refund_id": "rf_9"},
        {"kind": "cancel"},
        {"order_id": "#W9"},
        {"customer_id": "bob"},
        {"item_ids": ["lamp", "lamp"]},
        {"amount_minor": 3_001},
        {"currency": "EUR"},
        {"refund_to": "gift_1"},
        {"reason": "other"},
        {"message": "Other."},
        {"requested_by": "bob"},
        {"goodwill_minor": 1},
    ]
    assert {name for change in changes for name in change} == set(type(request()).model_fields)
    digests = {request(**change).digest() for change in changes} | {request().digest()}
    assert len(digests) == len(changes) + 1


def test_a_default_that_is_spelled_out_changes_nothing() -> None:
    assert request(goodwill_minor=0, requested_by="").digest() == request().digest()


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(JSON)
def test_the_canonical_form_is_what_json_writes_with_sorted_keys(value: Any) -> None:
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical(value) == written
