"""What cannot go on without somebody: narrowed, looked at, and many of them resumed at once."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Form, Query
from fastapi.responses import Response
from pydantic import Field

from refunds import steering
from refunds.api import AsyncRefunds
from refunds.errors import BadInput, RefundError
from refunds.models import State
from refunds.service import pages
from refunds.service.pages import Result
from refunds.service.rights import Looker, Steerer
from refunds.values import RefundId, Sentence

router = APIRouter()

# More than a person reads through; what is narrowed down further is shown whole.
_MOST_SHOWN = 200

_Needs = Annotated[str, Field(max_length=200)]


@router.get("/stuck")
async def stuck(visitor: Looker, needs: Annotated[_Needs, Query()] = "") -> Response:
    """Refunds that need somebody to put them back on their feet, perhaps for one reason alone."""
    rows = await steering.chosen(State.NEEDS_ATTENTION, needs.strip())
    return await asyncio.to_thread(
        lambda: pages.show(
            "stuck.html", visitor, rows=rows[:_MOST_SHOWN], count=len(rows), needs=needs.strip()
        )
    )


@router.post("/stuck")
async def resume_several(
    visitor: Steerer,
    reason: Annotated[Sentence, Form()] = "",
    chosen: Annotated[list[RefundId] | None, Form()] = None,
) -> Response:
    """Resume what was ticked on the page, in this person's name; each says how it went."""
    wanted = chosen or []
    if not wanted or len(wanted) > _MOST_SHOWN or not reason.strip():
        raise BadInput(
            f"tick one to {_MOST_SHOWN} refunds and say what was mended; nothing was done, go back"
        )
    results = [await _resumed(refund_id, visitor.person_id, reason) for refund_id in wanted]
    return await asyncio.to_thread(pages.results, visitor, "resumed", results)


async def _resumed(refund_id: str, person: str, reason: str) -> Result:
    try:
        done = await AsyncRefunds().resume(refund_id, person=person, reason=reason)
    except RefundError as refusal:
        return Result(refund_id, is_taken=False, said=str(refusal))
    later = "" if done["goes_on"] == "now" else "it goes on when Prefect is back"
    return Result(refund_id, is_taken=True, said=later)
