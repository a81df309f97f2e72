"""The door for programs that steer: see what a reset would do, do it, change, take home."""

from http import HTTPStatus
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from refunds.api import AsyncRefunds
from refunds.ledger.access.api_keys import ApiKey
from refunds.scopes import Scope
from refunds.service import who
from refunds.service.problems import Refused, of_openapi
from refunds.service.rights import SteeringKey
from refunds.service.strict import StrictRoute
from refunds.values import Fact, Line, Name, RefundId, Value
from refunds.verify import bundles

Reader = Annotated[ApiKey, Depends(who.machine(Scope.READ))]
Decider = Annotated[ApiKey, Depends(who.machine(Scope.DECIDE))]

router = APIRouter(
    prefix="/refunds",
    tags=["steering"],
    route_class=StrictRoute,
    responses=of_openapi(401, 403, 404, 409, 413, 422, 429, 503),
)

# The longest of our steps' names is a third of it.
Step = Annotated[str, Field(pattern="^[a-z][a-z_]{0,63}$")]


class Plan(BaseModel):
    """What a reset would do or has done; `refusal` says why it cannot be done.

    `kept` are the effects that stand and are not sent again. `run_id` is the run that goes on;
    null while none was started.
    """

    refund_id: str
    to: str
    done_over: list[str] = []
    kept: list[str] = []
    asks_again: bool = False
    frees_money: bool = False
    refusal: str | None
    applied: bool
    run_id: str | None = None


class Reset(Value):
    """Back to before the step `to`, and why."""

    to: Step
    reason: Fact


class Change(Value):
    """What is to change of an open question, or to be added to the refund; at least one of them.

    `audience` is who is asked in place of those who are asked now; they get a card. `evidence` is
    a new fact: the question is put anew.
    """

    # pydantic has no word for "one of them, and not null".
    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("deadline", "priority", "audience", "note", "evidence")
            ]
        }
    )

    deadline: AwareDatetime | None = None
    priority: Literal[1, 2] | None = None
    audience: Name | None = None
    note: Fact | None = None
    evidence: Fact | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("nothing to change: give at least one field")
        return self


class Changed(BaseModel):
    """What was changed, how the question stands, and whether a card went out."""

    refund_id: str
    changes: dict[str, Any]
    question: str | None
    card_sent: bool


def name_of(key: ApiKey) -> str:
    """Who steers: the person a key belongs to, or the key."""
    return key.person_id or f"key {key.name}"


@router.get("/{refund_id}/reset")
async def plan(refund_id: RefundId, to: Annotated[Step, Query()], key: Reader) -> Plan:
    """What a reset to before a step would do; nothing is changed."""
    found = await AsyncRefunds().reset(refund_id, to, person=name_of(key))
    return Plan.model_validate(found)


@router.post("/{refund_id}/reset")
async def reset(refund_id: RefundId, body: Reset, key: SteeringKey) -> Plan:
    """Put a refund back to before a step. Nothing that was sent is sent again."""
    found = await AsyncRefunds().reset(
        refund_id, body.to, person=name_of(key), reason=body.reason, apply=True
    )
    return Plan.model_validate(found)


@router.post("/{refund_id}/updates")
async def update(refund_id: RefundId, body: Change, key: SteeringKey) -> Changed:
    """Change what a waiting refund's question says, or add to the refund."""
    found = await AsyncRefunds().update(
        refund_id, person=name_of(key), **body.model_dump(exclude_none=True)
    )
    return Changed.model_validate(found)


class Word(Value):
    """What became of a payment, how that is known, and whether to do something about it.

    `paid_as` is the reference under which it was paid; null where it was not.
    """

    paid_as: Line | None
    reason: Fact
    evidence: Fact
    apply: bool = False


class Settlement(BaseModel):
    """What a word would do; with `kept` it is in the history, with `applied` it ended the payment.

    It counts once as many people said the same as are `needed`.
    """

    refund_id: str
    key: str
    amount_minor: int
    currency: str
    is_paid: bool
    reference: str
    needed: int
    said_by: list[str]
    refusal: str | None
    kept: bool
    applied: bool


@router.post("/{refund_id}/settlement")
async def settle(refund_id: RefundId, body: Word, request: Request, key: Decider) -> Settlement:
    """End a payment that stays unknown and that no books tell of, as the key's person."""
    if key.person_id is None:
        raise Refused(HTTPStatus.FORBIDDEN, "person-needed", "this key belongs to nobody")
    said = body.model_dump()
    found = await AsyncRefunds().settle(
        refund_id, person=key.person_id, origin=who.origin(request), **said
    )
    return Settlement.model_validate(found)


@router.get(
    "/{refund_id}/export",
    response_class=Response,
    responses={
        200: {
            "description": "The evidence bundle, sealed: what `refunds verify FILE` takes.",
            "content": {"application/json": {"schema": {"type": "object"}}},
            "headers": {"Refunds-Seal": {"schema": {"type": "string"}, "required": True}},
        }
    },
)
async def export(refund_id: RefundId, _: Reader) -> Response:
    """One refund's evidence: history, decisions, digests, policies, the gateway's ids."""
    content = await AsyncRefunds().export(refund_id)
    headers = {
        "Content-Disposition": f'attachment; filename="{refund_id}.bundle.json"',
        "Refunds-Seal": bundles.seal_of(content),
    }
    return Response(content, media_type="application/json", headers=headers)
