"""The door for programs that steer many refunds: shown first, and done on request."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from refunds.api import AsyncRefunds
from refunds.models import State
from refunds.service.problems import of_openapi
from refunds.service.rights import SteeringKey
from refunds.service.steering_api import Plan, Step, name_of
from refunds.service.strict import StrictRoute
from refunds.values import Fact, RefundId, Sentence, Value

# How many are steered in one call at most: each asks Prefect, and a reset the gateway.
_MOST_AT_ONCE = 200

router = APIRouter(
    prefix="/refunds",
    tags=["steering"],
    route_class=StrictRoute,
    responses=of_openapi(401, 403, 413, 422, 429, 503),
)


class Many(Value):
    """Which refunds: in key order, those in a state whose need for a person has the text `needs`.

    What would be done is shown; with `apply` and a reason it is done.
    """

    # pydantic has no word for "with this, that".
    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"apply": {"const": False}}},
                {"required": ["reason"], "properties": {"reason": {"not": {"type": "null"}}}},
            ]
        }
    )

    needs: Sentence = ""
    reason: Fact | None = None
    apply: Annotated[bool, Field(strict=True)] = False
    cursor: RefundId | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=_MOST_AT_ONCE)] = 100

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.apply and self.reason is None:
            raise ValueError("apply needs a reason; it is kept in each history")
        return self

    def which(self) -> dict[str, Any]:
        """As the Python API takes it."""
        return {
            "needs": self.needs,
            "reason": self.reason or "",
            "apply": self.apply,
            "after": self.cursor or "",
            "limit": self.limit,
        }

    def following(self, told: Sequence[Mapping[str, Any]]) -> str | None:
        """Where the next call begins."""
        return told[-1]["refund_id"] if len(told) == self.limit else None


class ResumeMany(Many):
    """Which refunds to resume; those that need attention, if nothing else is said."""

    state: State = State.NEEDS_ATTENTION


class ResetMany(Many):
    """Which refunds to put back to before the step `to`."""

    state: State
    to: Step


class Resumed(BaseModel):
    """One that is meant, with the need it had; `applied` once it was resumed."""

    refund_id: str
    state: State
    attention: str | None
    applied: bool
    goes_on: Literal["now", "later"] | None
    refusal: str | None


class ResumedMany(BaseModel):
    """Those that are meant; `next_cursor` is null where there are no more."""

    refunds: list[Resumed]
    next_cursor: str | None


class Plans(BaseModel):
    """Those that are meant; `next_cursor` is null where there are no more."""

    refunds: list[Plan]
    next_cursor: str | None


@router.post("/resume")
async def resume_many(body: ResumeMany, key: SteeringKey) -> ResumedMany:
    """Show which refunds are stuck for a reason; with `apply`, put them back on their feet."""
    told = await AsyncRefunds().resume_all(person=name_of(key), state=body.state, **body.which())
    found = [Resumed.model_validate(one) for one in told]
    return ResumedMany(refunds=found, next_cursor=body.following(told))


@router.post("/reset")
async def reset_many(body: ResetMany, key: SteeringKey) -> Plans:
    """Show what a reset of many would do; with `apply`, do it where it is not refused."""
    told = await AsyncRefunds().reset_all(
        body.to, person=name_of(key), state=body.state, **body.which()
    )
    found = [Plan.model_validate(one) for one in told]
    return Plans(refunds=found, next_cursor=body.following(told))
