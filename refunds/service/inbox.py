"""The inbox: what waits for a person, urgent first, then the oldest deadline; kept up to date."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from refunds import money
from refunds.errors import BadInput, RefundError
from refunds.ledger import approvals
from refunds.ledger.approvals import Filters, Waiting
from refunds.service import amounts, changes, cursors, deciding, limits, pages
from refunds.service.pages import Result
from refunds.service.who import Person, Visitor, Writer
from refunds.values import Sentence
from tasks import books

router = APIRouter()

# As many lines as a person works through before the list has changed anyway.
_PAGE_LINES = 50

# What is sent back at once is what a page shows.
_MOST_AT_ONCE = _PAGE_LINES


_Short = Annotated[str, Field(max_length=128)]


class Wanted(BaseModel):
    """What the inbox is narrowed to, and after which line it begins, as in the address."""

    currency: _Short = ""
    least: _Short = ""
    level: _Short = ""
    urgent: _Short = ""
    order: _Short = ""
    customer: _Short = ""
    whose: _Short = ""
    after: Annotated[str, Field(max_length=400)] = ""

    def filters(self) -> Filters:
        """For the ledger. Raises BadInput for an amount that cannot be compared."""
        return Filters(
            currency=self.currency or None,
            at_least_minor=self._least_minor(),
            level=self.level or None,
            is_urgent=True if self.urgent else None,
            order_id=self.order or None,
            customer_id=self.customer or None,
        )

    def address(self, after: str = "") -> str:
        """The address of a page with what is set here."""
        set_here = {**self.model_dump(), "after": after}
        known = {name: value for name, value in set_here.items() if value}
        return f"/inbox?{urlencode(known)}" if known else "/inbox"

    def _least_minor(self) -> int | None:
        if not self.least:
            return None
        if not money.is_currency(self.currency):
            raise BadInput("choose a currency to compare the amount with")
        return amounts.minor(self.least, self.currency)


@router.get("/inbox")
def inbox(visitor: Person, wanted: Annotated[Wanted, Query()]) -> Response:
    """What waits for this person, or with `whose=all` for anybody."""
    limits.people.spend(visitor.person_id)
    problem, lines = "", list[Waiting]()
    person = None if wanted.whose == "all" else visitor.person_id
    ledger = books.ledger()
    try:
        found = approvals.waiting_for(
            ledger, person, wanted.filters(), cursors.read(wanted.after), limit=_PAGE_LINES + 1
        )
        lines = found[:_PAGE_LINES]
    except BadInput as error:
        problem, found = str(error), []
    more = cursors.write(lines[-1].cursor) if len(found) > len(lines) else ""
    return pages.show(
        "inbox.html",
        visitor,
        lines=lines,
        wanted=wanted,
        problem=problem,
        next_page=wanted.address(more) if more else "",
        is_first=not wanted.after,
        count=approvals.count_waiting(ledger),
        currencies=sorted(books.policy().approve_without_a_person.amounts_minor),
        levels=[level.name for level in books.policy().approval.levels],
    )


@router.get("/changes", response_class=EventSourceResponse)
async def what_changed(_: Person) -> AsyncIterator[ServerSentEvent]:
    """A word whenever the list is not what it was; the page then asks for it anew."""
    async for mark in changes.watch():
        yield ServerSentEvent(event="changed", data=mark)


@router.post("/rejections")
async def reject_several(
    visitor: Writer,
    reason: Annotated[Sentence, Form()] = "",
    chosen: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Reject what was ticked, each bound to the digest of its line. There is no such approval."""
    wanted = chosen or []
    if not wanted or len(wanted) > _MOST_AT_ONCE or not reason.strip():
        raise BadInput(
            f"tick one to {_MOST_AT_ONCE} refunds and say why; nothing was rejected, go back"
        )
    results = [await _rejected(visitor, each, reason) for each in wanted]
    return await asyncio.to_thread(pages.results, visitor, "rejected", results)


async def _rejected(visitor: Visitor, chosen: str, reason: str) -> Result:
    refund_id, _, digest = chosen.partition(" ")
    try:
        await deciding.decide(
            refund_id,
            "reject",
            person_id=visitor.person_id,
            digest=digest,
            reason=reason,
            origin=visitor.origin,
        )
    except RefundError as refusal:
        return Result(refund_id[:64], is_taken=False, said=str(refusal))
    return Result(refund_id, is_taken=True, said="")
