"""Money is an integer in minor units with its currency; nothing is ever rounded."""

from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

from babel.core import get_global
from babel.numbers import format_currency, get_currency_precision

# The largest amount any door accepts, in minor units: ten billion in a two-digit currency.
# It keeps sums of many refunds far inside a 64-bit integer.
MAX_AMOUNT_MINOR = 10**12

# Where CLDR counts the digits that people write and ISO 4217 the digits that banks and
# gateways count: minor units are ISO's, so LBP 123456 is 1,234.56 pounds, not 123,456.
_ISO_DIGITS = {
    **dict.fromkeys(("AFN", "ALL", "IRR", "KPW", "LAK", "LBP", "MGA", "MMK"), 2),
    **dict.fromkeys(("RSD", "SLL", "SOS", "SYP", "YER"), 2),
    "IQD": 3,
}


def is_currency(code: str) -> bool:
    """Whether `code` is an ISO 4217 code, upper case (source: CLDR, by Babel)."""
    return code in get_global("all_currencies")


def currencies() -> frozenset[str]:
    """Every code that `is_currency` takes."""
    return frozenset(get_global("all_currencies"))


def digits(currency: str) -> int:
    """How many minor-unit digits the currency has: 0 for JPY, 2 for USD, 3 for KWD."""
    return _ISO_DIGITS.get(currency, get_currency_precision(currency))


def decimal_text(amount_minor: int, currency: str) -> str:
    """The amount in whole units as machines write it: `decimal_text(500, "USD") == "5.00"`."""
    return str(Decimal(amount_minor).scaleb(-digits(currency)))


def minor_of(value: Any, places: int) -> int | None:
    """A decimal number or text in minor units of so many digits; None unless it is so exactly."""
    minor = Decimal("NaN")
    if not isinstance(value, bool | float):
        with suppress(TypeError, ValueError, InvalidOperation):
            minor = Decimal(value).scaleb(places)
    is_exact = minor.is_finite() and 0 <= minor <= MAX_AMOUNT_MINOR and minor == int(minor)
    return int(minor) if is_exact else None


def show(amount_minor: int, currency: str) -> str:
    """The amount as people write it: `show(123456, "USD") == "$1,234.56"`."""
    places = digits(currency)
    pattern = f"¤#,##0.{'0' * places}" if places else "¤#,##0"
    major = Decimal(amount_minor).scaleb(-places)
    return str(format_currency(major, currency, pattern, locale="en_US", currency_digits=False))
