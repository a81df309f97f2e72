"""One way in for a decision, whichever page or program it comes from."""

from refunds.api import AsyncRefunds
from refunds.errors import Conflict
from refunds.ledger.approvals import Choice
from refunds.origin import Origin
from refunds.recovering import Status
from refunds.service import metrics


async def decide(
    refund_id: str,
    choice: Choice,
    *,
    person_id: str,
    digest: str,
    reason: str,
    origin: Origin,
    on_behalf_of: str | None = None,
    link: str | None = None,
    amount_minor: int | None = None,
) -> Status:
    """Take a decision of somebody whose identity was checked, on exactly what they saw.

    An `amount_minor` below what is asked is proposed: it is asked anew, and not paid by this.

    Raises UnknownRefund or one of the Conflicts.
    """
    try:
        found = await AsyncRefunds().decide(
            refund_id,
            choice,
            person=person_id,
            reason=reason,
            digest=digest,
            origin=origin,
            on_behalf_of=on_behalf_of,
            link=link,
            amount_minor=amount_minor,
        )
    except Conflict as refusal:
        metrics.decisions.labels(choice, type(refusal).__name__).inc()
        raise
    metrics.decisions.labels(choice, "taken").inc()
    return found
