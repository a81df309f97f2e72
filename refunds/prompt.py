"""What a model is asked about a case: the prompt, and the least that it has to be shown.

Pure: the same case gives the same text, so that a history says what a model saw.
"""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from refunds import money
from refunds.digests import digest
from refunds.models import Assessment, Case, RiskFeatures
from refunds.redaction import without_last_four

_FILE = Path(__file__).with_name("prompts") / "opinion-1.md"

INSTRUCTIONS = _FILE.read_text(encoding="utf-8")
VERSION = f"{_FILE.stem}+{digest(INSTRUCTIONS)[:12]}"

OPENING, CLOSING = "<case>\n", "\n</case>"

# Twice the longest real message. Of a longer one the model sees the beginning and the end.
MESSAGE_CHARACTERS = 4_000
_END_CHARACTERS = 1_000
# As many items and records as an order has at most in practice, twenty times over.
_LISTED = 100

# Format characters that ordinary writing needs: joiners in Hindi, Persian and emoji, direction
# marks in Arabic and Hebrew, and the soft hyphen.
_ORDINARY_FORMAT = frozenset("\u200c\u200d\u200e\u200f\u061c\u00ad")
# Variation selectors that no writing needs, fillers and joiners that show nothing: any text can be
# written in them unseen.
_UNSEEN = frozenset(
    [chr(code) for code in (*range(0xE0100, 0xE01F0), *range(0xFE03, 0xFE0E))]
    + list("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
)
# What ordinary writing needs of the unseen it needs one by one; more in a row spell something.
_UNSEEN_IN_A_ROW = re.compile(
    "[\u00ad\u061c\u180b-\u180d\u180f\u200c-\u200f\ufe00-\ufe02\ufe0e\ufe0f]{4,}"
)

# What is shorter stands in ordinary words, and taking it out would spoil them.
_ID_CHARACTERS = 4
# Bounded, so that no text makes the search slow.
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w.-]{1,255}")
# Cards, accounts, telephones and most ids; an amount or a postal code is shorter.
_LONG_NUMBER = re.compile(r"\d(?:[ ().+-]?\d){6,}")
_NAME_IN_AN_ID = re.compile(r"[^\W\d_]{3,}")


def question(case: Case, risk: RiskFeatures, rules: Assessment) -> str:
    """The user's turn: one JSON object between delimiters that nothing in it can imitate."""
    shown = json.dumps(_facts(case, risk, rules), ensure_ascii=False, indent=1)
    for character in "<>&":
        shown = shown.replace(character, f"\\u{ord(character):04x}")
    return f"{OPENING}{shown}{CLOSING}"


def noticed(message: str) -> tuple[str, ...]:
    """The signals that code finds in a customer's text, whatever the model says of it."""
    found = {
        "hidden_text": any(map(_is_unseen, message)) or bool(_UNSEEN_IN_A_ROW.search(message)),
        "message_cut": len(message) > MESSAGE_CHARACTERS,
    }
    return tuple(signal for signal, is_there in found.items() if is_there)


def visible(text: str) -> str:
    """The text with every character that is not seen written out, as in `[U+E0041]`."""
    text = _UNSEEN_IN_A_ROW.sub(lambda found: "".join(map(_named, found.group())), text)
    return "".join(_named(c) if _is_unseen(c) else c for c in text)


def _named(character: str) -> str:
    return f"[U+{ord(character):04X}]"


def _facts(case: Case, risk: RiskFeatures, rules: Assessment) -> dict[str, Any]:
    """No name, no id and no destination, but for what the customer's own text repeats."""
    request, order, charge = case.request, case.order, case.charge
    items = order.items if order else ()
    methods = order.payment_methods if order else {}
    currency = request.currency
    return {
        "request": {
            "kind": str(request.kind),
            "reason": visible(_without_identity(request.reason, case)),
            "amount": money.show(request.amount_minor, currency),
            "goodwill": money.show(request.goodwill_minor, currency),
            "items": [
                {"name": visible(item.name), "price": money.show(item.price_minor, currency)}
                for item in items
                if item.item_id in request.item_ids
            ][:_LISTED],
            "goes_to": methods.get(request.refund_to, "unknown"),
            "goes_to_what_paid": bool(charge and charge.payment_method_id == request.refund_to),
        },
        "order": {"status": order.status if order else "unknown", "items_count": len(items)},
        "earlier_after_sales": [
            {
                "kind": visible(record.kind),
                "status": visible(record.status),
                "amount": money.show(record.amount_minor, currency),
            }
            for record in case.after_sales[:_LISTED]
        ],
        "other_requests_on_the_order": len(case.rivals),
        "customer": {
            "orders_total": risk.orders_total,
            "orders_cancelled": risk.orders_cancelled,
            "other_refunds": risk.other_refunds,
            "spent": money.show(risk.spent_minor, currency),
            "refunded": money.show(risk.refunded_minor, currency),
        },
        "rules": {
            "verdict": str(rules.verdict),
            "because": [reason.rule for reason in rules.reasons],
        },
        "customer_message": _message(case),
    }


def _message(case: Case) -> dict[str, Any]:
    text = case.request.message
    left_out = max(0, len(text) - MESSAGE_CHARACTERS)
    if left_out:
        beginning = text[: MESSAGE_CHARACTERS - _END_CHARACTERS]
        text = f"{beginning} [{left_out} characters left out] {text[-_END_CHARACTERS:]}"
    return {"text": visible(_without_identity(text, case)), "left_out_characters": left_out}


def _without_identity(text: str, case: Case) -> str:
    """A customer's text without the ids we know, what looks like one, and e-mail addresses.

    Shops often make a customer's id of the name, so that its words are taken for names.
    """
    request = case.request
    known = {
        request.refund_id: "[refund]",
        request.order_id: "[order]",
        request.customer_id: "[customer]",
        request.refund_to: "[payment method]",
    }
    for identifier, word in sorted(known.items(), key=lambda pair: -len(pair[0])):
        if len(identifier) >= _ID_CHARACTERS:
            text = text.replace(identifier, word)
    text = _EMAIL.sub("[e-mail]", text)
    text = without_last_four(_LONG_NUMBER.sub("[number]", text))
    names = "|".join(map(re.escape, _NAME_IN_AN_ID.findall(request.customer_id)))
    return re.sub(rf"\b(?:{names})\b", "[name]", text, flags=re.IGNORECASE) if names else text


def _is_unseen(character: str) -> bool:
    if character in _ORDINARY_FORMAT or character in "\n\r\t":
        return False
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp") or character in _UNSEEN
