"""Amounts as people type them, exactly or not at all."""

from decimal import Decimal, InvalidOperation

from refunds import money
from refunds.errors import BadInput


def minor(text: str, currency: str) -> int:
    """`minor("1,250.00", "USD")` is 125000. Raises BadInput; nothing is ever rounded."""
    places = money.digits(currency)
    try:
        exact = Decimal(text.replace(",", "").strip()).scaleb(places)
    except InvalidOperation as error:
        raise BadInput(f"{text!r} is not an amount such as 1250.00") from error
    if not exact.is_finite() or not 0 <= exact <= money.MAX_AMOUNT_MINOR:
        raise BadInput(f"{text!r} is not an amount that a refund can have")
    if exact != int(exact):
        raise BadInput(f"{text!r} is finer than {currency}, which has {places} digits")
    return int(exact)
