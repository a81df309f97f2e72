"""Reading what people send, strictly: JSON Lines as bytes, or one JSON value.

A file is one unit: all of its lines are taken or none is. Its author corrects the lines that
are named and submits the whole file again; the ids make that safe, since what was already
submitted is recognised and changes nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from refunds import money
from refunds.errors import BadInput
from refunds.models import RefundRequest

# The longest message is 20,000 characters, at most 12 bytes each when JSON escapes them
# (240,000 bytes); the rest of a request fits beside it.
MAX_LINE_BYTES = 256 * 1024
# More lines than this do not help the reader of a terminal; `problems` has them all.
_PRINTED_PROBLEMS = 20
# As many wrong fields of one line as still read as one sentence.
_PRINTED_FIELDS = 3
# Longer than any amount or limit; Python itself refuses from 4,300 digits on.
_MAX_NUMBER_DIGITS = 30

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON_SPACE = b" \t\r"

_KIND_OF_JSON: dict[type, str] = {
    list: "an array",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}

M = TypeVar("M", bound=BaseModel)


class InvalidLines(BadInput):
    """Lines of a file are wrong; none of its lines was taken.

    Fields: `source` (the file's name), `problems` (line number from 1, what to do about it).
    """

    def __init__(self, source: str, problems: tuple[tuple[int, str], ...]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        lines = "lines" if len(self.problems) > 1 else "line"
        what = f"correct {len(self.problems)} {lines} and submit the whole file again"
        report = [f"{self.source}: nothing was taken; {what}"]
        report += [f"  line {number}: {text}" for number, text in self.problems[:_PRINTED_PROBLEMS]]
        more = len(self.problems) - _PRINTED_PROBLEMS
        if more > 0:
            report.append(f"  and {more} more")
        return "\n".join(report)


def read_requests(raw: bytes, source: str) -> list[RefundRequest]:
    """The requests in a JSON Lines file, in its order. Raises BadInput naming every bad line."""
    return read_records(raw, source, RefundRequest, "refund_id")


def read_request(raw: object) -> RefundRequest:
    """One request from a decoded JSON value. Raises BadInput naming every wrong field."""
    if isinstance(raw, RefundRequest):
        return raw
    try:
        return _fit(raw, RefundRequest)
    except _Wrong as wrong:
        raise BadInput(f"not a refund request: {wrong}") from wrong


def read_records(raw: bytes, source: str, model: type[M], id_field: str) -> list[M]:
    """The records in a JSON Lines file, each id once. Raises BadInput naming every bad line.

    Blank lines are skipped and a byte-order mark at the start is accepted. The same record
    twice counts once; two records under one id are an error that names both lines.
    """
    taken: dict[str, tuple[int, M]] = {}
    problems: list[tuple[int, str]] = []
    for number, line in _lines(raw):
        try:
            record = _fit(_parse(line), model)
        except _Wrong as wrong:
            problems.append((number, str(wrong)))
            continue
        first, known = taken.setdefault(getattr(record, id_field), (number, record))
        if known != record:
            problems.append((number, _same_id(id_field, first, known, record)))
    if problems:
        raise InvalidLines(source, tuple(problems))
    if not taken:
        raise BadInput(f"{source} is empty; write one JSON object on each line")
    return [record for _, record in taken.values()]


def read_json(raw: bytes) -> object:
    """One JSON value, read as strictly as a line of a file. Raises BadInput saying what is wrong.

    A field that stands there twice, or NaN, means something else to every reader.
    """
    try:
        return _parse(raw)
    except _Wrong as wrong:
        raise BadInput(str(wrong)) from wrong


def field_problem(detail: Mapping[str, Any], raw: Mapping[Any, Any], model: type[BaseModel]) -> str:
    """What one of pydantic's findings asks the sender to do about its field."""
    kind, place = detail["type"], detail["loc"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        near = get_close_matches(str(place[-1])[:40], model.model_fields, n=1)
        return f"is unknown ({f'did you mean {near[0]}?' if near else 'remove it'})"
    return _must(kind, detail["msg"], place, raw)


class _Wrong(ValueError):
    """What is wrong with one value, and what to do about it."""


def _lines(raw: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(raw.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), start=1):
        content = line.strip(_JSON_SPACE)
        if content:
            yield number, content


def _parse(line: bytes) -> object:
    if len(line) > MAX_LINE_BYTES:
        raise _Wrong(f"{len(line):,} bytes long; a line has at most {MAX_LINE_BYTES:,}")
    if line.startswith(_BYTE_ORDER_MARK):
        raise _Wrong("starts with a byte-order mark in the middle of the file; remove it")
    try:
        return json.loads(
            line.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_whole_number,
        )
    except UnicodeDecodeError as error:
        raise _Wrong(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise _Wrong(f"not valid JSON at character {error.pos + 1}: {error.msg}") from error
    except RecursionError as error:
        raise _Wrong("nested too deeply; a record is one flat JSON object") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise _Wrong(f"the field {_quote(key, 60)} stands there twice; keep one")
        fields[key] = value
    return fields


def _refuse_constant(name: str) -> object:
    raise _Wrong(f"{name} is not JSON; write a number")


def _whole_number(text: str) -> int:
    if len(text) > _MAX_NUMBER_DIGITS:
        raise _Wrong(
            f"a number of {len(text):,} digits; the largest amount is {money.MAX_AMOUNT_MINOR:,}"
        )
    return int(text)


def _fit(raw: object, model: type[M]) -> M:
    if not isinstance(raw, dict):
        kind = _KIND_OF_JSON.get(type(raw), f"a {type(raw).__name__}")
        raise _Wrong(f"must be a JSON object such as {{...}}, not {kind}")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise _Wrong(_explain(error, raw, model)) from error


def _explain(error: ValidationError, raw: Mapping[Any, Any], model: type[BaseModel]) -> str:
    """One line that names each wrong field and what it must be."""
    details = error.errors(include_url=False, include_input=False)
    # Of a list whose parts are wrong pydantic also says that too few are left.
    blamed = {d["loc"][:depth] for d in details for depth in range(len(d["loc"]))}
    details = [d for d in details if d["type"] != "too_short" or d["loc"] not in blamed]
    unknown = [str(d["loc"][-1]) for d in details if d["type"] == "extra_forbidden"]
    missing = [_place(d["loc"]) for d in details if d["type"] == "missing"]
    wrong = [
        f"{_place(d['loc'])} {_must(d['type'], d['msg'], d['loc'], raw)}"
        for d in details
        if d["type"] not in ("extra_forbidden", "missing")
    ]
    parts = _first(missing, lambda names: f"missing: {names}")
    parts += [f"unknown: {_unknown(unknown, model)}"] if unknown else []
    parts += _first(wrong, lambda texts: texts)
    return "; ".join(parts)


def _first(texts: list[str], say: Callable[[str], str]) -> list[str]:
    more = len(texts) - _PRINTED_FIELDS
    shown = ", ".join(texts[:_PRINTED_FIELDS]) + (f" and {more} more" if more > 0 else "")
    return [say(shown)] if texts else []


def _unknown(names: list[str], model: type[BaseModel]) -> str:
    near = get_close_matches(names[0][:40], model.model_fields, n=1)
    hint = f"did you mean {near[0]}?" if near else "remove it"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{_quote(names[0], 40)}{more} ({hint})"


def _must(kind: str, message: str, place: tuple[int | str, ...], raw: Mapping[Any, Any]) -> str:
    name = str(place[-1]) if place else ""
    if name.endswith("_minor") and kind.startswith("int_"):
        given = raw.get("currency")
        currency = given if isinstance(given, str) and money.is_currency(given) else "USD"
        return (
            "must be a whole number of minor units "
            f"({currency} has {money.digits(currency)} digits)"
        )
    if kind == "string_pattern_mismatch" and name == "refund_id":
        return "must be 1 to 64 letters, digits, '_', '.' or '-', the first a letter or digit"
    if kind == "tuple_type":
        return "must be an array"
    if kind == "string_unicode":
        return "holds half a character (a lone surrogate)"
    if kind == "value_error":
        return f"is wrong: {message.removeprefix('Value error, ')}"
    text = message.replace(" after validation", "")
    return f"must{text.partition(' should')[2]}" if " should" in text else text


def _place(place: tuple[int | str, ...]) -> str:
    """A field's path; keys that are the sender's own words are cut short."""
    words = (step for step in place if step != "[key]")
    steps = (s if isinstance(s, int) or s.isidentifier() else _quote(s, 16) for s in words)
    return ".".join(str(step)[:40] for step in steps) or "a field's name"


def _same_id(id_field: str, first: int, known: BaseModel, record: BaseModel) -> str:
    name = _quote(str(getattr(record, id_field)), 60)
    other = [f for f in type(record).model_fields if getattr(known, f) != getattr(record, f)]
    return (
        f"{id_field} {name} is also on line {first}, with another {', '.join(other)}; "
        "give it an id of its own or remove one of the two"
    )


def _quote(text: str, longest: int) -> str:
    """The sender's text for an error: escaped, and never more than `longest` characters of it."""
    return repr(text if len(text) <= longest else text[:longest] + "…")
