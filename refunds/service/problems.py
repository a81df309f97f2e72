"""What went wrong, as RFC 9457 has it for programs and as a page for people."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from refunds import intake
from refunds.errors import (
    ApproverRefused,
    BadInput,
    Conflict,
    ContentConflict,
    RefundError,
    StepRetryable,
    UnknownRefund,
)
from refunds.models import RefundRequest

# How soon it is worth asking again after an outage, in seconds: a restart takes about as long.
_RETRY_AFTER_SECONDS = 10


class Wrong(BaseModel):
    """One field, and what is wrong with it."""

    field: str
    problem: str


class Problem(BaseModel):
    """What went wrong and what to do about it (RFC 9457)."""

    type: str = Field(description="Names the kind of problem; it stays the same.")
    title: str
    status: int
    detail: str
    what_to_do: str = ""
    problems: list[Wrong] = []


class Refused(RefundError):
    """A request that a door turns away. Fields: `status`, `kind`, `detail`, `what_to_do`."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        what_to_do: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, kind, detail, what_to_do, headers)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.what_to_do = what_to_do
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return self.detail


# What a page of people's does with a problem is set by the pages' own module.
PAGE = "page_of_problem"

_STATUS: tuple[tuple[type[RefundError], HTTPStatus, str], ...] = (
    (UnknownRefund, HTTPStatus.NOT_FOUND, "Ask `GET /refunds` for those there are."),
    (ContentConflict, HTTPStatus.CONFLICT, "Give a different refund a refund_id of its own."),
    (BadInput, HTTPStatus.UNPROCESSABLE_ENTITY, "Correct it and send it again."),
    (ApproverRefused, HTTPStatus.FORBIDDEN, "Somebody else has to decide this one."),
    (Conflict, HTTPStatus.CONFLICT, "Look at the refund again before deciding."),
    (StepRetryable, HTTPStatus.SERVICE_UNAVAILABLE, "Send the same request again."),
    (RefundError, HTTPStatus.CONFLICT, ""),
)


def of_openapi(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may end in these problems."""
    return {code: _documented(code) for code in codes}


def _documented(code: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": HTTPStatus(code).phrase,
        "content": {"application/problem+json": {"schema": schema}},
    }


def install(app: FastAPI) -> None:
    """Answer every error of this application in one form."""
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(RefundError)(_ours)
    app.exception_handler(HTTPException)(_http)


def _kind(error: RefundError) -> str:
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(error).__name__)
    return words.strip("-")


async def _ours(request: Request, error: RefundError) -> Response:
    if isinstance(error, Refused):
        problem = _problem(error.status, error.kind, error.detail, error.what_to_do)
        return _answer(request, problem, error.headers)
    for kind, status, what_to_do in _STATUS:
        if isinstance(error, kind):
            late = status is HTTPStatus.SERVICE_UNAVAILABLE
            headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if late else {}
            problem = _problem(status, _kind(error), str(error), what_to_do)
            return _answer(request, problem, headers)
    raise error


async def _http(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    kind = status.phrase.lower().replace(" ", "-").replace("'", "")
    return _answer(request, _problem(status, kind, str(error.detail)), dict(error.headers or {}))


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    body = error.body if isinstance(error.body, dict) else {}
    problems = []
    for detail in error.errors():
        place = tuple(detail["loc"])
        inside = place[1:] if place and place[0] in ("body", "query", "path") else place
        text = intake.field_problem({**detail, "loc": inside}, body, RefundRequest)
        problems.append(Wrong(field=".".join(map(str, inside)) or str(place[0]), problem=text))
    problem = _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "bad-input",
        "; ".join(f"{wrong.field} {wrong.problem}" for wrong in problems),
        "Correct every field that is named and send it again; nothing was stored.",
    )
    return _answer(request, problem.model_copy(update={"problems": problems}), {})


def _problem(status: HTTPStatus, kind: str, detail: str, what_to_do: str = "") -> Problem:
    return Problem(
        type=f"urn:durable-refunds:{kind}",
        title=status.phrase,
        status=int(status),
        detail=detail,
        what_to_do=what_to_do,
    )


def _answer(request: Request, problem: Problem, headers: Mapping[str, str]) -> Response:
    page = getattr(request.app.state, PAGE, None)
    if page is not None and "text/html" in request.headers.get("accept", ""):
        shown: Response = page(request, problem, headers)
        return shown
    return JSONResponse(
        problem.model_dump(),
        status_code=problem.status,
        headers=dict(headers),
        media_type="application/problem+json",
    )
