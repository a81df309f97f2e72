"""How pages are made: templates that escape everything, amounts and times as people read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from refunds import money
from refunds.ledger import people
from refunds.nights import page
from refunds.service import who
from refunds.service.problems import PAGE, Problem
from refunds.service.who import NotSignedIn, Visitor
from tasks import books

_environment = Environment(
    loader=FileSystemLoader([Path(__file__).with_name("templates"), page.TEMPLATES]),
    # What a customer wrote is text, in every file and whatever its name ends in.
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Result:
    """What became of one of several that were ticked."""

    refund_id: str
    is_taken: bool
    said: str


def show(
    name: str,
    visitor: Visitor | None = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A page from a template."""
    html = _environment.get_template(name).render(
        visitor=visitor,
        shown_name=name_of(visitor.person_id) if visitor else "",
        now=books.ledger().clock(),
        **values,
    )
    return HTMLResponse(html, status_code=status, headers=dict(headers or {}))


def results(visitor: Visitor, done: str, found: Sequence[Result]) -> HTMLResponse:
    """What became of each of several; `done` says in a word what was asked for."""
    return show("results.html", visitor, done=done, results=found)


def name_of(person_id: str) -> str:
    """A person's name as colleagues know it; the id where nobody is registered under it."""
    found = people.find(books.ledger(), person_id)
    return found.name if found is not None else person_id


def see(target: str) -> RedirectResponse:
    """On to a page after a form: going back must not send the form again."""
    return RedirectResponse(target, status_code=HTTPStatus.SEE_OTHER)


def install(app: FastAPI) -> None:
    """Lead whoever is not signed in to the sign-in, and show people their problems as a page."""
    app.exception_handler(NotSignedIn)(_to_sign_in)
    setattr(app.state, PAGE, _problem_page)


async def _to_sign_in(_: Request, error: NotSignedIn) -> Response:
    return see(f"/sign-in?next={error.target}")


def _problem_page(request: Request, problem: Problem, headers: Mapping[str, str]) -> Response:
    found = who.session(request)
    visitor = Visitor(found, who.origin(request)) if found else None
    return show("problem.html", visitor, status=problem.status, headers=headers, problem=problem)


# --- What templates use ---


def amount(minor: int, currency: str) -> str:
    """`amount(123456, "USD")` is $1,234.56."""
    return money.show(minor, currency)


def moment(at: datetime | str) -> str:
    """To the minute; every time in this service is UTC and says so."""
    known = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{known:%Y-%m-%d %H:%M} UTC"


def left(until: datetime, now: datetime) -> str:
    """How long there is still: 2 d 4 h, 3 h 20 min, 12 min, or that it is over."""
    minutes = int((until - now) / timedelta(minutes=1))
    if minutes < 0:
        return "over"
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def words(name: str) -> str:
    """A name of ours in words: awaiting_approval is awaiting approval."""
    return name.replace("_", " ")


_environment.filters |= page.FILTERS
for _filter in (amount, moment, left, words):
    _environment.filters[_filter.__name__] = _filter
_environment.filters["name_of"] = name_of
