"""Whatever bytes or values come in: requests, or BadInput, and nothing else."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refunds.errors import BadInput
from refunds.intake import InvalidLines, read_request, read_requests
from refunds.models import RefundRequest
from refunds.shop_data import read_customers, read_orders
from tests.domain.domain_cases import FIELDS

T = TypeVar("T")

thorough = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

ANY_TEXT = st.text(st.characters(), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**29, 10**31)
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(["\x00", "\ud800", "\u202e", "USD", "cancel", " ", ""])
)
VALUES = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(ANY_TEXT, part, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*FIELDS, "requested_by", "goodwill_minor"]) | ANY_TEXT
SPOILT = st.dictionaries(NAMES, VALUES, max_size=3).map(lambda changes: FIELDS | changes)
SNIPPETS = st.binary(max_size=8) | st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"{",
        b"}",
        b'"',
        b"\\ud800",
        b"NaN",
        b"1e999",
        b",",
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with a few cuts and insertions."""
    raw = b"\n".join(json.dumps(FIELDS | {"refund_id": f"rf_{n}"}).encode() for n in range(3))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(raw)))
        raw = raw[:start] + draw(SNIPPETS) + raw[start + draw(st.integers(0, 30)) :]
    return raw


def attempt(read: Callable[[], T]) -> T | BadInput:
    """What was read, or the refusal; any other error fails the test."""
    try:
        return read()
    except BadInput as refusal:
        return refusal


def check(raw: bytes) -> None:
    """Either requests that are as good as their own JSON, or an error with lines of the file."""
    result = attempt(lambda: read_requests(raw, "f"))
    if isinstance(result, InvalidLines):
        numbers = [number for number, _ in result.problems]
        assert numbers == sorted(set(numbers))
        assert 1 <= numbers[0] <= numbers[-1] <= raw.count(b"\n") + 1
        assert str(result).replace("\n", "").isprintable()
    elif isinstance(result, BadInput):
        assert "empty" in str(result)
    else:
        assert result
        assert len({request.refund_id for request in result}) == len(result)
        for request in result:
            assert RefundRequest.model_validate_json(request.model_dump_json()) == request
            assert len(request.digest()) == 64


@thorough
@given(st.binary(max_size=200) | st.lists(SNIPPETS, max_size=12).map(b"".join))
def test_any_bytes_give_requests_or_bad_input(raw: bytes) -> None:
    check(raw)


@thorough
@given(damaged())
def test_a_damaged_file_gives_requests_or_bad_input(raw: bytes) -> None:
    check(raw)


@thorough
@given(st.lists(SPOILT | VALUES, min_size=1, max_size=3))
def test_any_json_gives_requests_or_bad_input(values: list[Any]) -> None:
    check("\n".join(json.dumps(value) for value in values).encode())


@thorough
@given(SPOILT | VALUES)
def test_any_value_gives_a_request_or_bad_input(value: Any) -> None:
    result = attempt(lambda: read_request(value))
    assert isinstance(result, RefundRequest) or str(result).isprintable()


@thorough
@given(st.binary(max_size=100) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_shop_data_or_bad_input(raw: bytes) -> None:
    for result in (
        attempt(lambda: read_orders(raw, "f")),
        attempt(lambda: read_customers(raw, "f")),
    ):
        assert isinstance(result, BadInput)
        assert str(result).replace("\n", "").isprintable()
