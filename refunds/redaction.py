"""What must not be kept: card numbers that somebody typed, and anything that opens a door."""

import re
from typing import Any

# 13 to 19 digits with the usual gaps: the lengths of card numbers (ISO/IEC 7812).
_LIKE_A_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")

_SECRET = re.compile(
    r"authorization|password|passwd|secret|token|api_?key|card_?number|cvc|cvv", re.IGNORECASE
)
_HIDDEN = "[not kept]"


def without_card_numbers(text: str) -> str:
    """The text with each card number cut to its last four digits, as a receipt shows it."""
    return _LIKE_A_CARD.sub(_last_four, text) if len(text) > 12 else text  # noqa: PLR2004 - as above


def redacted(value: Any) -> Any:
    """A JSON value without card numbers in its texts and without the values of secret fields."""
    if isinstance(value, str):
        return without_card_numbers(value)
    if isinstance(value, dict):
        return {
            name: _HIDDEN if part and _SECRET.search(name) else redacted(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [redacted(part) for part in value]
    return value


def _last_four(found: re.Match[str]) -> str:
    digits = [int(digit) for digit in found.group() if digit.isdigit()]
    if not _passes_luhn(digits):
        return found.group()
    return "[card …" + "".join(map(str, digits[-4:])) + "]"


def _passes_luhn(digits: list[int]) -> bool:
    """Every card number's last digit checks the others (ISO/IEC 7812, annex B)."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
