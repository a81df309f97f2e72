"""The pages for people: an index of the sandbox, and the inbox where messages arrive."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from sandbox.identifiers import to_id, to_number
from sandbox.notices import Audience, shown

# A screenful to scroll; older messages are one click away.
_PAGE_SIZE = 50
# Whatever slips through the escaping still runs no script and loads nothing.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_AUDIENCES = get_args(Audience)
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
)


def inbox_page(reader: sqlite3.Connection, query: Mapping[str, str]) -> HTMLResponse:
    """Return the messages newest first; an unknown audience or message is as if not given."""
    audience = query.get("audience")
    audience = audience if audience in _AUDIENCES else None
    before = to_number("msg", query.get("before", ""))
    rows = reader.execute(
        "SELECT * FROM messages WHERE (:audience IS NULL OR audience = :audience)"
        " AND (:before IS NULL OR number < :before) ORDER BY number DESC LIMIT :limit",
        {"audience": audience, "before": before, "limit": _PAGE_SIZE + 1},
    ).fetchall()
    page = rows[:_PAGE_SIZE]
    older = to_id("msg", page[-1]["number"]) if len(rows) > _PAGE_SIZE else None
    return _page(
        "inbox.html",
        messages=[shown(row) for row in page],
        audiences=_AUDIENCES,
        audience=audience,
        older=older,
    )


def index_page() -> HTMLResponse:
    """Return the page that links everything there is to see."""
    return _page("index.html")


def _page(template: str, **values: Any) -> HTMLResponse:
    html = _PAGES.get_template(template).render(**values)
    return HTMLResponse(html, headers=_SECURITY_HEADERS)
