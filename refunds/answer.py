"""What a model answered, read strictly: an answer that is not quite one is none."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from refunds import prompt
from refunds.models import Recommendation
from refunds.values import Percent, Signal

# Ten times a full answer of the longest reasons; more is not an answer to our question.
ANSWER_CHARACTERS = 40_000

# The prompt asks for five; ten leave room for a talkative model.
_MOST_REASONS = 10
# The prompt asks for 300; a sentence three times as long is still one.
_REASON_CHARACTERS = 1_000
_MOST_SIGNALS = 10

_Reason = Annotated[str, Field(min_length=1, max_length=_REASON_CHARACTERS)]


class NotAnAnswer(ValueError):
    """The answer cannot be used; says why in words without any of its text."""


class Answer(BaseModel):
    """The form that a model fills in; its schema is sent with the question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recommendation: Recommendation
    confidence_percent: Percent
    reasons: Annotated[tuple[_Reason, ...], Field(min_length=1, max_length=_MOST_REASONS)]
    signals: Annotated[tuple[Signal, ...], Field(max_length=_MOST_SIGNALS)]

    @field_validator("reasons")
    @classmethod
    def _as_seen(cls, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """One line each; what was not seen takes room once it is."""
        lines = (" ".join(prompt.visible(reason).split()) for reason in reasons)
        return tuple(line[:_REASON_CHARACTERS] for line in lines)


# What servers with structured output are given; they know no lengths, so that those are ours alone.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["recommendation", "confidence_percent", "reasons", "signals"],
    "properties": {
        "recommendation": {"type": "string", "enum": [str(each) for each in Recommendation]},
        "confidence_percent": {"type": "integer"},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "signals": {"type": "array", "items": {"type": "string"}},
    },
}


def read(text: str) -> Answer:
    """The answer in a model's text, which may stand in a code fence. Raises NotAnAnswer."""
    if len(text) > ANSWER_CHARACTERS:
        raise NotAnAnswer(f"its answer has {len(text):,} characters")
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise NotAnAnswer("its answer holds no JSON object")
    try:
        found = json.loads(
            text[start : end + 1], object_pairs_hook=_once_each, parse_constant=_refuse
        )
        return Answer.model_validate(found)
    except ValidationError as error:
        fields = sorted({str(e["loc"][0])[:40] for e in error.errors() if e["loc"]} & _FIELDS)
        raise NotAnAnswer(f"its answer has a wrong {', '.join(fields) or 'form'}") from error
    except (ValueError, RecursionError) as error:
        raise NotAnAnswer("its answer is not valid JSON") from error


_FIELDS = set(Answer.model_fields)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
