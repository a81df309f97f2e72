"""An open inbox hears of whatever changes its list, and of nothing else."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from refunds.ledger import approvals, leases, updates
from refunds.ledger.approvals import Vote
from refunds.ledger.updates import Update
from refunds.service import changes
from tests.service.service_world import World, review


def escalated(desk: World, refund_id: str) -> None:
    lease = leases.take(desk.ledger, refund_id, "run-1")
    assert lease.fence is not None
    approvals.escalate(desk.ledger, refund_id, 1, "leads", lease.fence)


def updated(change: Update) -> Callable[[World, str], object]:
    return lambda desk, refund_id: updates.update(
        desk.ledger, refund_id, change, person="ops", reason=""
    )


def rejected(desk: World, refund_id: str) -> None:
    approvals.decide(desk.ledger, refund_id, Vote("reject", "ben", "service", verified=True))


def postponed(desk: World, refund_id: str) -> None:
    later = desk.standing(refund_id).deadline + timedelta(hours=1)
    updated(Update(deadline=later))(desk, refund_id)


@pytest.mark.parametrize(
    "change",
    [
        lambda desk, _: desk.waiting(),
        rejected,
        escalated,
        postponed,
        updated(Update(priority=1)),
        updated(Update(audience="night-shift")),
        updated(Update(evidence="the parcel is back")),
    ],
    ids=["asked", "answered", "escalated", "postponed", "urgent", "others", "withdrawn"],
)
def test_an_open_inbox_hears_of_what_changes_its_list(
    desk: World, change: Callable[[World, str], object]
) -> None:
    refund_id, _ = desk.waiting(), desk.waiting()
    before = changes.mark(desk.ledger)
    change(desk, refund_id)
    assert changes.mark(desk.ledger) != before


def test_looking_and_noting_are_no_news(desk: World) -> None:
    refund_id = desk.waiting()
    before = changes.mark(desk.ledger)
    desk.browser("ann").get(review(refund_id))
    updated(Update(note="call first"))(desk, refund_id)
    assert changes.mark(desk.ledger) == before
