"""What must not be kept: card and account numbers that somebody typed, and what opens a door."""

import re
from typing import Any

# 13 to 19 digits with the usual gaps: the lengths of card numbers (ISO/IEC 7812).
_LIKE_A_CARD = re.compile(r"(?<![\d-])\d(?:[ \u00a0-]?\d){12,18}(?![\d-])")

# How long each country's account numbers are (the register of ISO 13616).
_REGISTER = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22
DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28
HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25
MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29
RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29
VA22 VG24 XK20 YE30
"""
_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _REGISTER.split()}
# Country, two check digits, and what may follow, with the usual gaps; its length is known then.
_LIKE_AN_IBAN = re.compile(
    rf"(?<![a-z0-9])({'|'.join(_LENGTHS)})\d{{2}}(?:[ \u00a0-]?[a-z0-9]){{11,29}}",
    re.ASCII | re.IGNORECASE,
)

# What is left of a number that was cut.
_CUT = re.compile(r"\[(card|account) …\w{4}\]")

_SECRET = re.compile(
    r"authorization|password|passwd|secret|token|api_?key|card_?number|cvc|cvv", re.IGNORECASE
)
_HIDDEN = "[not kept]"


def without_account_numbers(text: str) -> str:
    """The text with each card number and IBAN cut to its last four, as a receipt shows it."""
    if len(text) <= 12:  # noqa: PLR2004 - as above
        return text
    return _LIKE_A_CARD.sub(_last_four, _LIKE_AN_IBAN.sub(_account, text))


def without_last_four(text: str) -> str:
    """The text with what `without_account_numbers` left of each number taken out as well."""
    return _CUT.sub(r"[\1]", text)


def redacted(value: Any) -> Any:
    """A JSON value without account numbers in its texts and the values of secret fields."""
    if isinstance(value, str):
        return without_account_numbers(value)
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
    start, end = found.span()
    beside = found.string[max(start - 1, 0) : start], found.string[end : end + 1]
    # Between letters it is a piece of a longer word, as in a hexadecimal one.
    if all(letter.isalpha() for letter in beside) or not _passes_luhn(digits):
        return found.group()
    return "[card …" + "".join(map(str, digits[-4:])) + "]"


def _passes_luhn(digits: list[int]) -> bool:
    """Every card number's last digit checks the others (ISO/IEC 7812, annex B)."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _account(found: re.Match[str]) -> str:
    """What follows an IBAN may be words of the sentence; its country says where it ends."""
    text = found.group()
    length = _LENGTHS[found[1].upper()]
    places = [place for place, character in enumerate(text) if character.isalnum()]
    if len(places) < length:
        return text
    rest = text[places[length - 1] + 1 :]
    characters = "".join(text[place] for place in places[:length])
    if rest[:1].isalnum() or not _passes_mod_97(characters):
        return text
    return f"[account …{characters[-4:]}]{rest}"


def _passes_mod_97(characters: str) -> bool:
    """An IBAN's check digits (ISO 13616): letters count from 10, the first four go last."""
    turned = characters[4:] + characters[:4]
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1
