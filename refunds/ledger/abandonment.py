"""Giving a refund up: only while nothing of it was paid, may have been paid, or is being told."""

import sqlalchemy as sa

from refunds.errors import BadInput, CannotGiveUp
from refunds.ledger import approvals, charges, effects, leases, questions, schema, waits
from refunds.ledger.book import Ledger, Page
from refunds.ledger.effects import PAYMENT_STEP
from refunds.models import State

# What each state of a payment says against giving the refund up; one that is blocked is not made.
_PAYMENT = {
    "intended": "its payment may have been sent; the sweep asks the gateway",
    "unknown": "its payment may have been made; the sweep asks the gateway, or somebody says so "
    "(`refunds settle`)",
    "pending": "its payment is pending at the gateway",
    "succeeded": "it is paid",
    "refused": "the gateway has refused it for good, so it ends FAILED when it is resumed",
}

# Once these have begun, it is settled how the refund ends.
_TELLING = ("sync_crm", "notify_customer", "notify_service")


def abandon(ledger: Ledger, refund_id: str, person: str, reason: str) -> None:
    """Give the refund up: its money is free again, and its next run undoes what was done.

    Whoever runs it is fenced off, and nobody is asked any more. Doing it again changes nothing.
    Raises UnknownRefund, BadInput when the refund is over, CannotGiveUp when it is not stuck or
    money may have moved.
    """
    with ledger.page(refund_id) as page:
        if page.row["outcome"] is not None:
            raise BadInput(f"{refund_id} is over: {page.row['outcome']}")
        if page.row["given_up"] is not None:
            return
        why_not = _why_not(page, ledger)
        if why_not is not None:
            raise CannotGiveUp(f"{refund_id} cannot be given up: {why_not}")
        page.append("refund.given_up", {"person": person, "reason": reason})
        current = questions.read(page.connection, refund_id)
        if current is not None and current.status == approvals.OPEN:
            approvals.withdraw(page, current, "the refund was given up")
        effects.refuse_blocked(page)
        charges.book_released(page, charges.reservation_of(page))
        page.change(
            given_up=f"Given up by {person}: {reason}",
            attention=None,
            fence=page.row["fence"] + 1,
            lease_holder=None,
            lease_expires_at=None,
        )
        waits.end(page, ("attention", "outage"), "given up by a person")


def _why_not(page: Page, ledger: Ledger) -> str | None:
    """What stands against it, or None."""
    row = schema.effects.c
    query = sa.select(row.step, row.state).where(row.refund_id == page.refund_id)
    states = dict(page.connection.execute(query).tuples().all())
    state = states.get(PAYMENT_STEP, "blocked")
    if state != "blocked":
        return _PAYMENT.get(state, f"its payment is {state}")
    if any(step in states for step in _TELLING):
        return "how it ends is settled and is being told; `refunds resume` goes on with it"
    if leases.is_held(page.row, ledger):
        return "it is being carried on at this moment; try again when it waits"
    if page.row["state"] != State.NEEDS_ATTENTION and not _waits_for_a_system(page):
        return f"it is not stuck but {page.row['state']}; what waits for a person can be rejected"
    return None


def _waits_for_a_system(page: Page) -> bool:
    row = schema.waits.c
    query = sa.select(row.name).where(
        row.refund_id == page.refund_id,
        row.passed_at.is_(None),
        row.name.startswith("outage-"),
    )
    return page.connection.execute(query).first() is not None
