"""Amounts as banks count them and as people read them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refunds import money


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("USD", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("KRW", 0), ("HUF", 2)],
)
def test_a_currency_has_the_minor_digits_of_iso_4217(currency: str, digits: int) -> None:
    assert money.digits(currency) == digits


@pytest.mark.parametrize(("currency", "digits"), [("LBP", 2), ("MGA", 2), ("RSD", 2), ("IQD", 3)])
def test_digits_that_people_no_longer_write_still_count(currency: str, digits: int) -> None:
    assert money.digits(currency) == digits


@pytest.mark.parametrize(
    ("amount_minor", "currency", "shown"),
    [
        (123_456, "USD", "$1,234.56"),
        (5, "USD", "$0.05"),
        (123_456, "JPY", "¥123,456"),
        (1_234_567, "KWD", "KWD1,234.567"),
        (150, "LBP", "LBP1.50"),
        (0, "EUR", "€0.00"),
        (-5, "USD", "-$0.05"),
    ],
)
def test_an_amount_is_shown_with_all_its_digits(
    amount_minor: int, currency: str, shown: str
) -> None:
    assert money.show(amount_minor, currency).replace("\xa0", "") == shown


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.integers(0, money.MAX_AMOUNT_MINOR),
    st.sampled_from(["USD", "JPY", "KWD", "CLF", "LBP", "IQD", "EUR", "MGA"]),
)
def test_showing_an_amount_never_rounds_it(amount_minor: int, currency: str) -> None:
    shown = money.show(amount_minor, currency)
    assert int("".join(c for c in shown if c.isdigit())) == amount_minor


@pytest.mark.parametrize("code", ["USD", "EUR", "KWD"])
def test_a_currency_code_is_known(code: str) -> None:
    assert money.is_currency(code)


@pytest.mark.parametrize("code", ["usd", "US", "ZZZ", "", "USD ", "$"])
def test_anything_else_is_no_currency(code: str) -> None:
    assert not money.is_currency(code)
