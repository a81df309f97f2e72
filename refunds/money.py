"""Money is an integer in minor units with its currency; nothing is ever rounded."""

from decimal import Decimal

from babel.core import get_global
from babel.numbers import format_currency, get_currency_precision

# The largest amount any door accepts, in minor units: ten billion in a two-digit currency.
# It keeps sums of many refunds far inside a 64-bit integer.
MAX_AMOUNT_MINOR = 10**12


def is_currency(code: str) -> bool:
    """Whether `code` is an ISO 4217 code, upper case (source: CLDR, by Babel)."""
    return code in get_global("all_currencies")


def digits(currency: str) -> int:
    """How many minor-unit digits the currency has: 0 for JPY, 2 for USD, 3 for KWD."""
    return get_currency_precision(currency)


def show(amount_minor: int, currency: str) -> str:
    """The amount as people write it: `show(123456, "USD") == "$1,234.56"`."""
    major = Decimal(amount_minor).scaleb(-digits(currency))
    return str(format_currency(major, currency, locale="en_US"))
