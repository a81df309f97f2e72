"""Strict values that the JSON systems accept, and how a bad body is explained."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sandbox.answers import Answer, Refused

# Printable ASCII without spaces covers all ids in use; the length keeps rows and logs small.
Id = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=200)]
# Ten thousand million in a two-digit currency: above any refund, far below 64 bits.
AMOUNT_LIMIT_MINOR = 10**12
Amount = Annotated[int, Field(ge=1, le=AMOUNT_LIMIT_MINOR)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=500)]
# Room for a long approval card and still far below the body limit.
Text = Annotated[str, StringConstraints(max_length=50_000)]

# An error text names the field, it does not echo a hostile one in full.
_EXPLANATION_LENGTH = 500


class Record(BaseModel):
    """A JSON object with exactly the fields named, none converted from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(Record):
    """The empty body of a POST that only names a thing in its path."""


R = TypeVar("R", bound=BaseModel)


def error(status: int, code: str, message: str) -> Answer:
    """Return the error body that all JSON systems share."""
    return Answer.of(status, {"error": {"code": code, "message": message}})


def explain(problem: ValidationError) -> str:
    """Return one line that names each bad field and what is wrong with it."""
    parts = []
    for detail in problem.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(step) for step in detail["loc"])
        parts.append(f"{place}: {detail['msg']}" if place else detail["msg"])
    return "; ".join(parts)[:_EXPLANATION_LENGTH]


def reader_of(model: type[R]) -> Callable[[bytes], R]:
    """Return a parser of bodies into `model`: 400 when it is not JSON, 422 when it does not fit."""

    def parse(body: bytes) -> R:
        try:
            return model.model_validate_json(body)
        except ValidationError as problem:
            raise Refused(_refusal(problem)) from problem

    return parse


def parse_nothing(body: bytes) -> Nothing:
    """Accept no body at all, or an empty object."""
    return reader_of(Nothing)(body or b"{}")


def _refusal(problem: ValidationError) -> Answer:
    if problem.errors(include_url=False)[0]["type"] == "json_invalid":
        return error(400, "invalid_json", explain(problem))
    return error(422, "invalid_request", explain(problem))
