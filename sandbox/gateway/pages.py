"""Stripe's lists: newest first, in pages, from `starting_after` or before `ending_before`."""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.answers import Answer
from sandbox.gateway import expansion
from sandbox.gateway.dialect import invalid, missing

# Stripe's numbers.
_PAGE_LIMIT = 100
_PAGE_DEFAULT = 10

# Whole seconds against stored milliseconds: the condition and how many seconds its bound moves.
_CREATED = {
    "created": ("created_ms BETWEEN ? AND ? + 999", 0),
    "created[gte]": ("created_ms >= ?", 0),
    "created[gt]": ("created_ms >= ?", 1),
    "created[lt]": ("created_ms < ?", 0),
    "created[lte]": ("created_ms < ?", 1),
}
# Twelve digits of seconds are thirty thousand years.
_SECONDS_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeList:
    """One list: its address, its table, the columns it filters by and how a row is shown."""

    kind: str
    url: str
    table: str
    filters: Mapping[str, str]
    shown: Callable[[sqlite3.Row], dict[str, Any]]
    number_of: Callable[[sqlite3.Connection, str], int | None]

    def page(self, reader: sqlite3.Connection, query: Mapping[str, str]) -> Answer:
        """Answer one page; raises Refused 400 for a bad parameter."""
        limit = _page_size(query.get("limit"))
        conditions, values = self._conditions(query)
        backwards = "ending_before" in query
        if backwards and "starting_after" in query:
            message = "You may only specify one of these parameters: starting_after, ending_before."
            raise invalid(message)
        for name, comparison in (("starting_after", "<"), ("ending_before", ">")):
            if name in query:
                conditions.append(f"number {comparison} ?")
                values.append(self._cursor(reader, name, query[name]))
        rows = reader.execute(
            f"SELECT * FROM {self.table}"  # noqa: S608  names from the code, values are bound
            f" WHERE {' AND '.join(conditions) or 'TRUE'}"
            f" ORDER BY number {'ASC' if backwards else 'DESC'} LIMIT ?",
            (*values, limit + 1),
        ).fetchall()
        shown = [self.shown(row) for row in rows[:limit]]
        shown = expansion.expanded_list(reader, shown, expansion.asked_for(query))
        if backwards:
            shown.reverse()
        return Answer.of(
            200,
            {"object": "list", "url": self.url, "has_more": len(rows) > limit, "data": shown},
        )

    def _conditions(self, query: Mapping[str, str]) -> tuple[list[str], list[str | int]]:
        conditions: list[str] = []
        values: list[str | int] = []
        for name, value in query.items():
            if name in ("limit", "starting_after", "ending_before") or expansion.is_expansion(name):
                continue
            if name in self.filters:
                conditions.append(f"{self.filters[name]} = ?")
                values.append(value)
            elif name in _CREATED:
                condition, moved_seconds = _CREATED[name]
                bound_ms = (_seconds(name, value) + moved_seconds) * 1_000
                conditions.append(condition)
                values.extend([bound_ms] * condition.count("?"))
            else:
                message = f"Received unknown parameter: {name[:100]}"
                raise invalid(message, code="parameter_unknown", param=name[:100])
        return conditions, values

    def _cursor(self, reader: sqlite3.Connection, name: str, identifier: str) -> int:
        number = self.number_of(reader, identifier)
        if number is None:
            raise missing(self.kind, identifier, status=400, param=name)
        return number


def _page_size(text: str | None) -> int:
    if text is None:
        return _PAGE_DEFAULT
    # Three digits hold the limit; more would only be a long number to refuse.
    digits = text.isascii() and text.isdigit() and len(text) <= 3  # noqa: PLR2004
    if not digits or not 1 <= int(text) <= _PAGE_LIMIT:
        message = f"Invalid integer: limit must be between 1 and {_PAGE_LIMIT}."
        raise invalid(message, code="parameter_invalid_integer", param="limit")
    return int(text)


def _seconds(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _SECONDS_DIGITS:
        return int(text)
    message = "Invalid timestamp: must be an integer Unix timestamp in seconds."
    raise invalid(message, code="parameter_invalid_integer", param=name)
