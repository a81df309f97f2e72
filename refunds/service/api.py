"""The door for programs: submit, list, look, decide, resume. JSON in, JSON out."""

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from refunds import views
from refunds.api import AsyncRefunds
from refunds.errors import BadInput, ContentConflict
from refunds.ledger import listing, requests
from refunds.ledger.access.api_keys import ApiKey
from refunds.ledger.listing import RefundFilter
from refunds.models import Outcome, RefundRequest, State, Verdict
from refunds.scopes import Scope
from refunds.service import deciding, who
from refunds.service.problems import Refused, of_openapi
from refunds.service.strict import StrictRoute
from refunds.values import AmountMinor, RefundId, Sentence, Value
from tasks import books

# A page that a program works through in a second, and that a proxy does not choke on.
_LARGEST_PAGE = 500

Reader = Annotated[ApiKey, Depends(who.machine(Scope.READ))]
Submitter = Annotated[ApiKey, Depends(who.machine(Scope.WRITE))]
Decider = Annotated[ApiKey, Depends(who.machine(Scope.DECIDE))]


router = APIRouter(
    prefix="/refunds",
    tags=["refunds"],
    route_class=StrictRoute,
    responses=of_openapi(401, 403, 413, 422, 429, 503),
)


class Taken(BaseModel):
    """A request that is safe in the ledger; `run_id` is null until a run was started for it."""

    refund_id: str
    run_id: str | None
    state: State


class Line(BaseModel):
    """One refund in a list; amounts in minor units of `currency`."""

    refund_id: str
    state: State
    outcome: Outcome | None
    verdict: Verdict | None
    order_id: str
    customer_id: str
    amount_minor: int
    currency: str
    run_id: str | None
    submitted_at: datetime
    attention: str | None = Field(description="What a person has to mend, if anything.")


class Lines(BaseModel):
    """A page in key order; `next_cursor` is null on the last one."""

    refunds: list[Line]
    next_cursor: str | None


class Wanted(RefundFilter):
    """Which refunds, and which page of them."""

    cursor: RefundId | None = None
    limit: Annotated[int, Field(ge=1, le=_LARGEST_PAGE)] = 100

    def filter(self) -> RefundFilter:
        """Without the page."""
        return RefundFilter(**self.model_dump(exclude={"cursor", "limit"}))


class DecisionMade(BaseModel):
    """What one person said."""

    person: str
    decision: str
    reason: str
    channel: str
    verified: bool
    at: datetime


class Approval(BaseModel):
    """What people are asked, and where it stands. `digest` names exactly what would be paid."""

    approval_id: str
    status: str
    digest: str
    needed: int
    verified_needed: bool
    escalate_at: datetime
    deadline: datetime
    decisions: list[DecisionMade]


class Status(Line):
    """Everything known of one refund."""

    reasons: list[str]
    request: dict[str, Any]
    approval: Approval | None
    effects: list[dict[str, Any]]
    waits: list[dict[str, Any]]
    run_ids: list[str]
    carried_by: str | None = Field(
        description="The batch that carries it with others; null where a run of its own does."
    )
    completed_at: datetime | None
    goes_on: Literal["now", "later"] | None = Field(
        default=None,
        description="After a decision or a resume: later, when Prefect is away; it is kept.",
    )


class Event(BaseModel):
    """One event; `digest` covers it and the digest of the one before."""

    refund_id: str
    sequence: int
    at: datetime
    event: str
    data: dict[str, Any]
    previous_digest: str
    digest: str


class History(BaseModel):
    """All that happened to one refund, oldest first."""

    events: list[Event]


class Decide(Value):
    """A decision on exactly what `digest` names, as `GET /refunds/{refund_id}` shows it."""

    decision: Literal["approve", "reject"]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    reason: Sentence = ""


class Propose(Value):
    """A smaller amount, which is asked anew under a new digest and not paid by this."""

    decision: Literal["propose"]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    reason: Sentence = ""
    amount_minor: AmountMinor


class Resume(Value):
    """Why a refund that needs attention can go on."""

    reason: Sentence = ""


@router.post("", status_code=202, responses=of_openapi(409))
async def submit(
    body: RefundRequest,
    response: Response,
    _: Submitter,
    lane: Literal["now", "nightly"] = "now",
) -> Taken:
    """Take a refund request; the same one again changes nothing and is answered the same."""
    try:
        [taken] = await AsyncRefunds().submit([body], lane=lane)
    except ContentConflict:
        raise
    except BadInput as error:
        raise Refused(
            HTTPStatus.CONFLICT,
            "unknown-order",
            str(error),
            "Correct the order or the currency, or send it again once the shop knows the order.",
        ) from error
    response.headers["Location"] = f"/refunds/{taken.refund_id}"
    return Taken(refund_id=taken.refund_id, run_id=taken.run_id, state=taken.state)


@router.get("")
async def listed(
    wanted: Annotated[Wanted, Query()],
    _: Reader,
) -> Lines:
    """List refunds in key order; follow `next_cursor` for the rest."""
    limit, after = wanted.limit, wanted.cursor or ""
    rows = await asyncio.to_thread(
        listing.refunds_after, books.ledger(), wanted.filter(), after, limit + 1
    )
    shown = [Line.model_validate(views.summary(row)) for row in rows[:limit]]
    more = shown[-1].refund_id if len(rows) > limit else None
    return Lines(refunds=shown, next_cursor=more)


@router.get("/{refund_id}", responses=of_openapi(404))
async def status(refund_id: RefundId, _: Reader) -> Status:
    """Everything known of one refund."""
    return Status.model_validate(await AsyncRefunds().status(refund_id))


@router.get("/{refund_id}/history", responses=of_openapi(404))
async def history(refund_id: RefundId, _: Reader) -> History:
    """All that happened to one refund; each event carries the digest of the one before."""
    events = await AsyncRefunds().history(refund_id)
    return History(events=[Event.model_validate(event) for event in events])


@router.post("/{refund_id}/decisions", responses=of_openapi(404, 409))
async def decide(
    refund_id: RefundId,
    body: Annotated[Decide | Propose, Field(discriminator="decision")],
    request: Request,
    key: Decider,
) -> Status:
    """Decide as the person that the key belongs to, on what `digest` names."""
    if key.person_id is None:
        raise Refused(HTTPStatus.FORBIDDEN, "person-needed", "this key belongs to nobody")
    found = await deciding.decide(
        refund_id,
        "reject" if body.decision == "reject" else "approve",
        person_id=key.person_id,
        digest=body.digest,
        reason=body.reason,
        origin=who.origin(request),
        amount_minor=body.amount_minor if isinstance(body, Propose) else None,
    )
    return Status.model_validate(found)


@router.post("/{refund_id}/resume", responses=of_openapi(404, 409))
async def resume(refund_id: RefundId, body: Resume, key: Submitter) -> Status:
    """Put a refund that needs attention back on its feet."""
    row = await asyncio.to_thread(requests.read, books.ledger(), refund_id)
    if row["outcome"] is not None:
        raise Refused(HTTPStatus.CONFLICT, "refund-over", f"{refund_id} is over: {row['outcome']}")
    person = key.person_id or f"key {key.name}"
    found = await AsyncRefunds().resume(refund_id, person=person, reason=body.reason)
    return Status.model_validate(found)
