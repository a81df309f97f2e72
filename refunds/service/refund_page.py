"""One refund: every fact that its digest binds, and the form that decides on exactly that."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form
from fastapi.responses import Response
from pydantic import BaseModel, Field

from refunds import differences, links
from refunds.errors import BadInput, Conflict, DigestStale, UnknownPerson, UnknownRefund
from refunds.ledger import (
    approvals,
    audit,
    effects,
    history,
    people,
    requests,
    spent_links,
    waits,
)
from refunds.ledger.approvals import Standing
from refunds.service import amounts, deciding, limits, pages
from refunds.service.who import Person, Visitor, Writer
from refunds.values import RefundId, Sentence
from tasks import books

router = APIRouter()

# The newest events say where it stands; all of them are one click further.
_EVENTS_SHOWN = 12


# A card's facts and their signature come to some hundreds of characters.
_Link = Annotated[str, Field(max_length=2_000)]


class Given(BaseModel):
    """What the form sends: the decision, and the digest of what its page showed."""

    decision: Literal["approve", "reject", "propose"]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    reason: Sentence = ""
    on_behalf_of: Annotated[str, Field(max_length=128)] = ""
    link: _Link = ""
    # With propose: a smaller amount, as people write it.
    amount: Annotated[str, Field(max_length=40)] = ""


@router.get("/refunds/{refund_id}/review")
def refund(refund_id: RefundId, visitor: Person, link: _Link = "") -> Response:
    """Look at one refund, perhaps by a card's link; looking decides nothing and is on record.

    Raises LinkRefused for a link that is forged, expired, used or somebody else's.
    """
    limits.people.spend(visitor.person_id)
    ledger = books.ledger()
    if link:
        found = links.read(link, ledger.clock())
        spent_links.check(ledger, found, refund_id, visitor.person_id)
    standing = approvals.standing(ledger, refund_id)
    digest = standing.digest if standing else None
    audit.saw(ledger, refund_id, visitor.person_id, visitor.origin, digest)
    return _page(refund_id, visitor, link=link)


@router.post("/refunds/{refund_id}/review")
async def decide(refund_id: RefundId, visitor: Writer, given: Annotated[Given, Form()]) -> Response:
    """Decide on what the page showed; a refusal says why, what changed, and how to go on."""
    try:
        await _take(refund_id, visitor, given)
    except UnknownRefund:
        raise
    except (BadInput, Conflict) as error:
        refusal = error
    else:
        return pages.see(f"/refunds/{quote(refund_id)}/review#decisions")
    return await asyncio.to_thread(
        _page, refund_id, visitor, refusal=refusal, reason=given.reason, status=_status_of(refusal)
    )


async def _take(refund_id: str, visitor: Visitor, given: Given) -> None:
    if given.decision == "reject" and not given.reason.strip():
        raise BadInput("say why it is rejected; nothing was decided")
    amount_minor = None
    if given.decision == "propose":
        row = await asyncio.to_thread(requests.read, books.ledger(), refund_id)
        amount_minor = amounts.minor(given.amount, row["currency"])
        if not 0 < amount_minor < row["amount_minor"]:
            raise BadInput("propose an amount below the one that is asked; nothing was decided")
    await deciding.decide(
        refund_id,
        "reject" if given.decision == "reject" else "approve",
        person_id=visitor.person_id,
        digest=given.digest,
        reason=given.reason,
        origin=visitor.origin,
        on_behalf_of=given.on_behalf_of or None,
        link=given.link or None,
        amount_minor=amount_minor,
    )


def _status_of(refusal: Exception) -> int:
    return 422 if isinstance(refusal, BadInput) else 409


def _page(
    refund_id: str,
    visitor: Visitor,
    *,
    refusal: Exception | None = None,
    reason: str = "",
    link: str = "",
    status: int = 200,
) -> Response:
    ledger = books.ledger()
    row = requests.read(ledger, refund_id)
    standing = approvals.standing(ledger, refund_id)
    events = history.read(ledger, refund_id)
    is_open = (
        standing is not None
        and standing.status == approvals.OPEN
        and ledger.clock() < standing.deadline
    )
    return pages.show(
        "refund.html",
        visitor,
        status=status,
        row=row,
        request=row["request"],
        standing=standing,
        facts=standing.facts if standing else None,
        is_open=is_open,
        mine=_decision_of(standing, visitor.person_id),
        stands_in_for=_stands_in_for(visitor.person_id) if is_open else [],
        assessed=_assessed(events),
        effects=effects.of_refund(ledger, refund_id),
        waits=waits.open_waits(ledger, refund_id),
        events=list(reversed(events))[:_EVENTS_SHOWN],
        events_count=len(events),
        refusal=refusal,
        changes=_changes(refusal),
        reason=reason,
        link=link,
    )


def _assessed(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What the rules looked at last: order, risk, rivals."""
    found = [event["data"] for event in events if event["event"] == "refund.assessed"]
    return found[-1] if found else None


def _decision_of(standing: Standing | None, person_id: str) -> Mapping[str, Any] | None:
    """What this person said already."""
    said = standing.decisions if standing else ()
    return next((d for d in said if approvals.same_person(d["person"], person_id)), None)


def _stands_in_for(person_id: str) -> list[str]:
    try:
        found = people.acts_for(books.ledger(), person_id)
    except UnknownPerson:
        return []
    return [person.person_id for person in found]


def _changes(refusal: Exception | None) -> list[dict[str, str]]:
    """What is different now, as text."""
    if not isinstance(refusal, DigestStale):
        return []
    return [
        {
            "field": str(change["field"]),
            "then": differences.shown(change["then"]),
            "now": differences.shown(change["now"]),
        }
        for change in refusal.changes
    ]
