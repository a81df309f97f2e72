"""How a refund of a batch lies down: for a person in a run of its own, for a clock in none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from refunds.errors import StaleRunner, StepRetryable
from refunds.ledger import Ledger, Page, effects, leases, storage, waits
from refunds.ledger.effects import PAYMENT_STEP, key_of
from refunds.models import Answer, Standstill, State
from tasks import books, found_before, outages
from tasks.batch.chunk import Road
from tasks.batch.journaling import Step
from tasks.batch.writer import write


@dataclass(frozen=True)
class Rest:
    """A wait for a person: its name, until when, and the step of the chain that begins it.

    `done` are the results, by key, of what the batch did for the question after the assessment.
    """

    wait: str
    until: datetime | None
    step: Step
    output: Answer | Standstill
    attention: str | None = None
    done: Mapping[str, Any] = field(default_factory=dict)


async def lie_down(road: Road, rest: Rest) -> None:
    """Wait in the run of its own, which is asleep already."""
    try:
        await write(_lie_down, road, rest)
    except StaleRunner:
        road.leave("another runner has it")
    else:
        road.leave(rest.attention or "it is for a person to decide")


def wait_out(ledger: Ledger, road: Road, step: Step, outage: StepRetryable) -> str | None:
    """Wait until a system may be back; returns why not, when patience is over."""
    following = outages.next_try(ledger, road.refund_id, outage.system, str(outage))
    if isinstance(following, str):
        return following
    name, due_at = following
    _wait_without_a_run(ledger, road, name, reason="timer", due_at=due_at, step=step)
    return None


def wait_for_gateway(ledger: Ledger, road: Road, step: Step) -> str | None:
    """Wait for the gateway's word; returns why a person has to look, when it is late."""
    effect = effects.read(ledger, key_of(road.refund_id, PAYMENT_STEP))
    if effect is None or effect.is_final:
        return None
    due_at = effect.first_sent_at + timedelta(hours=books.policy().patience.settle_within_hours)
    if ledger.clock() >= due_at:
        return f"payment not settled by {due_at:%Y-%m-%d %H:%M} UTC"
    if _wait_without_a_run(
        ledger, road, "settlement-1", reason="callback", due_at=due_at, step=step
    ):
        road.leave("the payment is not settled yet")
    return None


def _lie_down(ledger: Ledger, road: Road, rest: Rest) -> None:
    """The refund's own run, its wait and the lease given back: all of it or nothing."""
    found = found_before.results(ledger, road.request) | found_before.as_stored(rest.done)
    with ledger.page(road.refund_id, road.fence) as page:
        storage.keep(page.connection, found, page.now)
        if rest.attention is not None:
            page.append("attention.needed", {"why": rest.attention})
            page.change(attention=rest.attention)
            page.enter(State.NEEDS_ATTENTION)
        run_id = str(road.own_run_id)
        waits.begin(page, rest.wait, reason="person", run_id=run_id, due_at=rest.until)
        road.journal.ended(page, rest.step, rest.output)
        # Handed over, not lost.
        page.change(lease_holder=None, lease_expires_at=None)
        leases.assign(page, run_id, road.next_run_number)
    books.let_go(road.refund_id)


def _wait_without_a_run(
    ledger: Ledger,
    road: Road,
    name: str,
    *,
    reason: waits.WaitReason,
    due_at: datetime,
    step: Step,
) -> int:
    def closing(page: Page, begun: int) -> None:
        road.journal.ended(page, step, Standstill(name=name, begun=begun))

    return waits.open_wait(
        ledger,
        road.refund_id,
        name,
        reason=reason,
        run_id=None,
        fence=road.fence,
        due_at=due_at,
        closing=closing,
    )
