"""The mapping file of coupons and logistics: how a user's own HTTP service is spoken to.

Each section is a kind of thing, `coupons`, `holds` or `labels`. `make` creates one, `find` looks
for one by our key, `undo` takes one back. Texts in braces are filled in: `{key}`, `{id}`, the
facts of the thing, and `{amount}` as decimal text.
"""

import string
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refunds.errors import BadInput

# What may be filled in, by kind of thing.
_FACTS = {
    "coupons": {"refund_id", "customer_id", "amount_minor", "amount", "currency"},
    "holds": {"refund_id", "order_id"},
    "labels": {"refund_id", "order_id", "item_ids"},
}

_Path = Annotated[str, Field(pattern=r"^/\S*$", max_length=500)]
_Field = Annotated[str, Field(min_length=1, max_length=200)]
_Method = Literal["POST", "PUT", "PATCH", "DELETE"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Making(_Part):
    """`id` is the dotted place of the thing's own id in the answer."""

    method: _Method = "POST"
    path: _Path
    body: dict[str, Any] = Field(default_factory=dict)
    id: _Field


class Finding(_Part):
    """`list` is the dotted place of the things in the answer, `key` and `id` are in each."""

    path: _Path
    list: _Field
    key: _Field
    id: _Field


class Undo(_Part):
    """`absent` are the statuses that say that it is not there any more, which is as good."""

    method: _Method = "POST"
    path: _Path
    body: dict[str, Any] = Field(default_factory=dict)
    absent: tuple[Annotated[int, Field(ge=400, le=499)], ...] = ()


class Kind(_Part):
    """One kind of thing."""

    key_header: _Field = "Idempotency-Key"
    make: Making
    find: Finding | None = None
    undo: Undo


class SystemsMapping(_Part):
    """The file."""

    coupons: Kind | None = None
    holds: Kind | None = None
    labels: Kind | None = None

    @model_validator(mode="after")
    def _only_known_facts(self) -> "SystemsMapping":
        for name, facts in _FACTS.items():
            kind: Kind | None = getattr(self, name)
            if kind is None:
                continue
            places: dict[str, tuple[Any, set[str]]] = {
                "make": ([kind.make.path, kind.make.body], facts | {"key"}),
                "find": ([kind.find.path] if kind.find else [], {"key"}),
                "undo": ([kind.undo.path, kind.undo.body], {"key", "id", "refund_id"}),
            }
            for part, (texts, known) in places.items():
                if unknown := sorted(set(_fields(texts)) - known):
                    raise ValueError(
                        f"{name}.{part} asks for {', '.join(unknown)}; "
                        f"there are {', '.join(sorted(known))}"
                    )
        return self


def read(path: Path) -> SystemsMapping:
    """The mapping in a file. Raises BadInput naming what is wrong."""
    try:
        return SystemsMapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise BadInput(f"the mapping file {path} cannot be read: {error}") from error
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}".lstrip(": ")
            for e in error.errors(include_input=False)
        )
        raise BadInput(f"{path} is not a valid mapping: {wrong}") from error


def filled(template: Any, facts: dict[str, Any]) -> Any:
    """The template with its facts; a text that is one brace alone becomes the fact itself."""
    if isinstance(template, dict):
        return {name: filled(value, facts) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, facts) for value in template]
    if not isinstance(template, str):
        return template
    fields = list(_fields(template))
    if len(fields) == 1 and template == f"{{{fields[0]}}}":
        return facts[fields[0]]
    return template.format(**facts)


def _fields(template: Any) -> Iterator[str]:
    if isinstance(template, dict):
        template = list(template.values())
    if isinstance(template, list):
        for value in template:
            yield from _fields(value)
    elif isinstance(template, str):
        yield from (
            name for _, name, _, _ in string.Formatter().parse(template) if name is not None
        )
