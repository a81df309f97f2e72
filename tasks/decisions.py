"""A person's decision, compared with the world before the ledger takes it."""

import asyncio
from contextlib import suppress

from refunds.errors import DigestStale, StepRetryable
from refunds.ledger import approvals, requests
from refunds.ledger.approvals import Standing, Vote
from refunds.models import RefundRequest
from tasks import books, disputes, records


async def take(refund_id: str, vote: Vote) -> Standing:
    """Take one vote, from whatever door it came.

    An approval of what is not so any more is refused with what changed, and the question is put
    anew. Raises what `approvals.decide` raises.
    """
    standing = await asyncio.to_thread(approvals.standing, books.ledger(), refund_id)
    if vote.choice == "approve" and standing is not None and standing.status == approvals.OPEN:
        charge_id = standing.facts.get("charge_id")
        # A gateway that is away keeps nobody from deciding: it is asked again before it pays.
        with suppress(StepRetryable):
            if charge_id:
                await disputes.look(charge_id)
        await asyncio.to_thread(_compare, refund_id, vote, standing)
    return await asyncio.to_thread(approvals.decide, books.ledger(), refund_id, vote)


def _compare(refund_id: str, vote: Vote, standing: Standing) -> None:
    ledger = books.ledger()
    request = RefundRequest.model_validate(requests.read(ledger, refund_id)["request"])
    changes = records.changes_since(standing.facts, request, standing.round)
    if changes:
        why = records.because_of(changes)
        approvals.refuse(ledger, refund_id, vote, why)
        approvals.supersede(ledger, refund_id, standing.approval_id, why)
        raise DigestStale(f"{refund_id}: {why}. It is assessed and asked again", changes)
