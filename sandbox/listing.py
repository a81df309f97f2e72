"""Pages of rows, oldest first, for the JSON systems and the record of effects."""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.answers import Answer, Refused
from sandbox.identifiers import to_id, to_number
from sandbox.records import error

# A page of a thousand is about 500 kB: ten thousand effects in ten requests.
_PAGE_LIMIT = 1_000
_PAGE_DEFAULT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is listed: `source` is a table (or a join) with a column `number`.

    `filters` are the parameters that must equal the column of the same name.
    """

    name: str
    prefix: str
    source: str
    filters: tuple[str, ...]
    shown: Callable[[sqlite3.Row], dict[str, Any]]

    def page(self, reader: sqlite3.Connection, query: Mapping[str, str]) -> Answer:
        """Answer one page; `next_after` names its last row.

        Raises Refused 422 for an unknown parameter, a bad `limit` or a bad `after`.
        """
        self._check(query)
        limit = _page_size(query.get("limit"))
        conditions: list[str] = ["number > ?"]
        values: list[str | int] = [self._after(query.get("after"))]
        for column in self.filters:
            if column in query:
                conditions.append(f"{column} = ?")
                values.append(query[column])
        rows = reader.execute(
            f"SELECT * FROM {self.source}"  # noqa: S608  names from the code, values are bound
            f" WHERE {' AND '.join(conditions)} ORDER BY number LIMIT ?",
            (*values, limit + 1),
        ).fetchall()
        shown = [self.shown(row) for row in rows[:limit]]
        last = to_id(self.prefix, rows[:limit][-1]["number"]) if rows else query.get("after")
        return Answer.of(200, {self.name: shown, "has_more": len(rows) > limit, "next_after": last})

    def _check(self, query: Mapping[str, str]) -> None:
        known = {*self.filters, "after", "limit"}
        unknown = sorted(set(query) - known)
        if unknown:
            text = f"{unknown[0][:40]}: not a parameter; there are {', '.join(sorted(known))}"
            raise Refused(error(422, "invalid_request", text))

    def _after(self, text: str | None) -> int:
        if text is None:
            return 0
        number = to_number(self.prefix, text)
        if number is None:
            raise Refused(error(422, "invalid_request", "after: write the id of a listed row"))
        return number


def _page_size(text: str | None) -> int:
    if text is None:
        return _PAGE_DEFAULT
    # Four digits hold the limit; more would only be a long number to refuse.
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _PAGE_LIMIT:  # noqa: PLR2004
        return int(text)
    raise Refused(error(422, "invalid_request", f"limit: write an integer from 1 to {_PAGE_LIMIT}"))
