"""A decision at a door: checked as input, compared with the world, then left to the ledger."""

import asyncio

from pydantic import TypeAdapter, ValidationError

from refunds import links
from refunds.errors import BadInput, DigestStale
from refunds.ledger import approvals, requests
from refunds.ledger.approvals import Choice, Standing, Vote
from refunds.models import RefundRequest
from refunds.origin import Origin
from refunds.values import Name, Sentence
from tasks import books, records

_PERSON: TypeAdapter[str] = TypeAdapter(Name)
_REASON: TypeAdapter[str] = TypeAdapter(Sentence)


def vote(
    choice: Choice,
    person: str,
    *,
    reason: str,
    digest: str | None,
    origin: Origin,
    on_behalf_of: str | None,
    link: str | None,
) -> Vote:
    """A vote as a door may hand it on.

    Raises BadInput for what the ledger could not keep, LinkRefused for a link that is not ours.
    """
    if choice not in ("approve", "reject"):
        raise BadInput(f"a decision is 'approve' or 'reject', not {choice!r}")
    check_person(person, reason)
    if on_behalf_of is not None:
        check_person(on_behalf_of, "")
    return Vote(
        choice=choice,
        person=person.strip(),
        channel=origin.channel,
        verified=origin.channel in books.policy().approval.verified_channels,
        reason=reason,
        digest=digest,
        on_behalf_of=on_behalf_of,
        link=None if link is None else links.read(link, books.ledger().clock()),
        ip=origin.ip,
        user_agent=origin.user_agent,
    )


def check_person(person: str, reason: str) -> None:
    """Raise BadInput for a name or a reason that the ledger could not keep as it is."""
    try:
        _PERSON.validate_python(person.strip())
        _REASON.validate_python(reason)
    except ValidationError as error:
        said = error.errors(include_input=False)[0]["msg"]
        raise BadInput(f"the person's name and the reason must be plain text: {said}") from error


async def decide(refund_id: str, given: Vote) -> Standing:
    """Compare the facts with the world once more, then let the ledger take the decision."""
    return await asyncio.to_thread(_decide, refund_id, given)


def _decide(refund_id: str, given: Vote) -> Standing:
    ledger = books.ledger()
    row = requests.read(ledger, refund_id)
    standing = approvals.standing(ledger, refund_id)
    if given.choice == "approve" and standing is not None and standing.status == approvals.OPEN:
        request = RefundRequest.model_validate(row["request"])
        changes = records.changes_since(standing.facts, request, standing.round)
        if changes:
            why = records.because_of(changes)
            approvals.refuse(ledger, refund_id, given, why)
            approvals.supersede(ledger, refund_id, standing.approval_id, why)
            raise DigestStale(f"{refund_id}: {why}. It is assessed and asked again", changes)
    return approvals.decide(ledger, refund_id, given)
