"""What values are made of: names, sentences, amounts, and the frozen value itself."""

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from refunds import money
from refunds.redaction import without_account_numbers

# Longest customer message any door accepts, in characters. The longest real one in the
# sample is below 2,000; ten times that leaves room and keeps a run's parameters far below
# the 512 kB that Prefect's API accepts.
MAX_MESSAGE_CHARACTERS = 20_000

# What JSON keeps and a person may have typed: the three white-space controls.
_ALLOWED_CONTROLS = frozenset("\n\r\t")

# What breaks a line or turns its direction, so that a name reads as another one on a card:
# the line and paragraph separators and the embedding, override and isolate marks of bidi.
_MISLEADING_IN_A_LINE = frozenset(
    "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def plain_text(text: str) -> str:
    """The text, without the control characters that JSON would keep."""
    for position, character in enumerate(text):
        kind = unicodedata.category(character)
        if kind == "Cs" or (kind == "Cc" and character not in _ALLOWED_CONTROLS):
            raise ValueError(f"control character U+{ord(character):04X} at position {position}")
    return text


def one_line(text: str) -> str:
    """The text, which is one line that reads as it is written."""
    plain_text(text)
    if text.strip() != text or any(c in text for c in _ALLOWED_CONTROLS):
        raise ValueError("must be one line with no space at either end")
    for position, character in enumerate(text):
        if character in _MISLEADING_IN_A_LINE:
            raise ValueError(f"misleading character U+{ord(character):04X} at position {position}")
    return text


def _currency(code: str) -> str:
    if not money.is_currency(code):
        raise ValueError(f"{code!r} is not an ISO 4217 currency code in upper case, such as USD")
    return code


# The same rules as JSON Schema can say them, so that a program can check before it sends.
_LINE_MARKS = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_ONE_LINE = {"pattern": rf"^[^\s{_LINE_MARKS}]([^{_LINE_MARKS}]*[^\s{_LINE_MARKS}])?$"}
_ONE_LINE_OR_NONE = {"pattern": rf"^([^\s{_LINE_MARKS}]([^{_LINE_MARKS}]*[^\s{_LINE_MARKS}])?)?$"}
_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_PLAIN_TEXT = {"pattern": rf"^[^{_CONTROLS}]*$"}
_SAYS_SOMETHING = {"pattern": rf"^[^{_CONTROLS}]*[^\s{_CONTROLS}][^{_CONTROLS}]*$"}
_CURRENCIES = {"enum": sorted(money.currencies())}

Name = Annotated[
    str,
    Field(min_length=1, max_length=128, json_schema_extra=_ONE_LINE),
    AfterValidator(one_line),
]
NameOrNone = Annotated[
    str, Field(max_length=128, json_schema_extra=_ONE_LINE_OR_NONE), AfterValidator(one_line)
]
# What people write. An account number in it is cut before anything else sees it, so that no
# ledger, history, card or system ever has it.
_WRITTEN = (AfterValidator(plain_text), AfterValidator(without_account_numbers))
Line = Annotated[Name, AfterValidator(without_account_numbers)]
Sentence = Annotated[str, Field(max_length=2_000, json_schema_extra=_PLAIN_TEXT), *_WRITTEN]
# A sentence that says something.
Fact = Annotated[
    str, Field(min_length=1, max_length=2_000, json_schema_extra=_SAYS_SOMETHING), *_WRITTEN
]
# What a customer wrote.
Message = Annotated[
    str, Field(max_length=MAX_MESSAGE_CHARACTERS, json_schema_extra=_PLAIN_TEXT), *_WRITTEN
]
Currency = Annotated[
    str,
    Field(min_length=3, max_length=3, json_schema_extra=_CURRENCIES),
    AfterValidator(_currency),
]
AmountMinor = Annotated[int, Field(strict=True, gt=0, le=money.MAX_AMOUNT_MINOR)]
ZeroOrMoreMinor = Annotated[int, Field(strict=True, ge=0, le=money.MAX_AMOUNT_MINOR)]
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
# A short word of the model's, such as claims_non_delivery.
Signal = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
RefundId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Value(BaseModel):
    """A frozen value; unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def plain(self) -> dict[str, Any]:
        """The value as JSON types."""
        return self.model_dump(mode="json")
