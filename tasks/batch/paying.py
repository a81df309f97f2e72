"""The second half of the chain for a chunk: goods, coupons, money, and taking it all back."""

from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.ledger import Page, grouped
from refunds.ledger.effects import PAYMENT_STEP, key_of
from refunds.models import Kind, PaymentStatus, Receipt
from tasks import coupons, logistics, payments
from tasks.batch import asides
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.journaling import Step, every_time, once
from tasks.batch.performing import Doing, perform, receipt_of
from tasks.batch.writer import write
from tasks.effect import Action


@task(name="hold_or_label", cache_policy=NO_CACHE, persist_result=False)
async def hold_or_label(chunk: Chunk) -> int:
    """Keep cancelled orders in the warehouse, and have the other goods sent back."""

    def parcel(road: Road) -> Action:
        if road.request.kind is Kind.CANCEL:
            return logistics.shipment_hold(road.case)
        return logistics.return_label(road.case)

    def step(road: Road) -> Step:
        name = "hold_shipment" if road.request.kind is Kind.CANCEL else "create_return_label"
        return once(road.refund_id, name, case=road.case)

    done = await _do(chunk, chunk.at(Turn.PAY), Doing(parcel, step, receipt_of))
    for refund_id, found in done.items():
        chunk.roads[refund_id].parcel = found
    return len(done)


@task(name="issue_coupons", cache_policy=NO_CACHE, persist_result=False)
async def issue_coupons(chunk: Chunk) -> int:
    """Give the goodwill coupons that were asked for."""
    doing = Doing(
        lambda road: coupons.coupon(road.case),
        lambda road: once(road.refund_id, "issue_coupon", case=road.case),
        receipt_of,
    )
    asked = [road for road in chunk.at(Turn.PAY) if road.request.goodwill_minor]
    done = await _do(chunk, asked, doing)
    for refund_id, found in done.items():
        chunk.roads[refund_id].coupon = found
    return len(done)


@task(name="issue_refunds", cache_policy=NO_CACHE, persist_result=False)
async def issue_refunds(chunk: Chunk) -> int:
    """Pay, each once; returns for how many the gateway has had its last word.

    What it says later is waited for without a run.
    """
    doing = Doing(
        lambda road: payments.payment(road.case),
        lambda road: once(road.refund_id, PAYMENT_STEP, case=road.case),
        lambda road, effect: payments.payment_of(effect, road.case.request),
        refusal_is_output=True,
    )
    for refund_id, payment in (await _do(chunk, chunk.at(Turn.PAY), doing)).items():
        chunk.roads[refund_id].payment = payment
    await _note_settled(chunk)
    pending = [r for r in chunk.at(Turn.PAY) if r.payment.status is PaymentStatus.PENDING]
    await asides.wait_for_settlement(pending)
    return len(chunk.at(Turn.PAY))


@task(name="take_back", cache_policy=NO_CACHE, persist_result=False)
async def take_back(chunk: Chunk) -> int:
    """Undo what was done for payments that will never be made."""
    voiding = Doing(
        lambda road: coupons.voiding(road.case, _done(road.coupon)),
        lambda road: once(road.refund_id, "void_coupon", case=road.case, coupon=road.coupon),
        receipt_of,
    )
    undoing = Doing(_undo_parcel, _undoing_step, receipt_of)
    await _do(chunk, [road for road in chunk.at(Turn.TAKE_BACK) if road.coupon], voiding)
    return len(await _do(chunk, chunk.at(Turn.TAKE_BACK), undoing))


async def _note_settled(chunk: Chunk) -> None:
    """Payments that an earlier run left pending: what was waited for has come."""
    settled = {
        road.refund_id: road
        for road in chunk.at(Turn.PAY)
        if road.payment.status is not PaymentStatus.PENDING
        and road.journal.was_pending(key_of(road.refund_id, PAYMENT_STEP))
    }

    def note(page: Page) -> None:
        road = settled[page.refund_id]
        step = every_time("await_settlement", case=road.case)
        road.journal.ended(page, step, road.payment)

    if settled:
        chunk.drop_stale((await write(grouped.each, chunk.fences(settled), note)).stale)


def _undo_parcel(road: Road) -> Action:
    if road.request.kind is Kind.CANCEL:
        return logistics.releasing(road.case, _done(road.parcel))
    return logistics.cancelling(road.case, _done(road.parcel))


def _undoing_step(road: Road) -> Step:
    if road.request.kind is Kind.CANCEL:
        return once(road.refund_id, "release_shipment", case=road.case, hold=road.parcel)
    return once(road.refund_id, "cancel_return_label", case=road.case, label=road.parcel)


def _done(found: Receipt | None) -> Receipt:
    if found is None:
        raise AssertionError("what was never done is never undone")
    return found


async def _do(chunk: Chunk, roads: Sequence[Road], doing: Doing) -> dict[str, Any]:
    done = await perform(roads, doing)
    await asides.put_aside(chunk, done.errors)
    return done.outputs
