"""What is given on the command line, checked before anything else sees it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from refunds.errors import BadInput, UnknownRefund
from refunds.values import Name, RefundId, Sentence

File = Annotated[str, typer.Argument(metavar="FILE.jsonl", help='"-" reads standard input.')]
Id = Annotated[str, typer.Argument(metavar="ID", help="The refund's id.")]

_REFUND_ID: TypeAdapter[str] = TypeAdapter(RefundId)
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_SENTENCE: TypeAdapter[str] = TypeAdapter(Sentence)


def read(file: str) -> tuple[bytes, str]:
    """The file's bytes and its name. Raises BadInput when it cannot be read."""
    if file == "-":
        return sys.stdin.buffer.read(), "standard input"
    try:
        return Path(file).read_bytes(), file
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{file!r} cannot be read: {why}") from error


def refund_id(given: str) -> str:
    """An id that a refund may have. Raises UnknownRefund."""
    try:
        return _REFUND_ID.validate_python(given)
    except (ValidationError, UnicodeError) as error:
        raise UnknownRefund(given) from error


def person(given: str) -> str:
    """A person's name. Raises BadInput."""
    return _checked(_NAME, given.strip(), "--as")


def sentence(given: str, option: str = "--reason") -> str:
    """A reason, or what another option says. Raises BadInput."""
    return _checked(_SENTENCE, given, option)


def _checked(kind: TypeAdapter[Any], given: str, option: str) -> str:
    try:
        return str(kind.validate_python(given))
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise BadInput(f"{option}: {what.removeprefix('Value error, ')}") from error
