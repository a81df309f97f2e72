"""The second half of the chain for a chunk: goods, coupons, money, and taking it all back."""

from collections.abc import Callable, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.errors import StepRefused
from refunds.ledger import effects
from refunds.ledger.effects import PAYMENT_STEP, key_of
from refunds.models import Kind, PaymentStatus, Receipt
from tasks import books, coupons, logistics, payments
from tasks.batch import asides
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.performing import perform
from tasks.effect import Action
from tasks.json_systems import receipt


@task(name="hold_or_label", cache_policy=NO_CACHE, persist_result=False)
async def hold_or_label(chunk: Chunk) -> int:
    """Keep cancelled orders in the warehouse, and have the other goods sent back."""

    def parcel(road: Road) -> Action:
        if road.request.kind is Kind.CANCEL:
            return logistics.shipment_hold(road.case)
        return logistics.return_label(road.case)

    def keep(road: Road, done: Receipt) -> None:
        road.parcel = done

    return await _receipts(chunk, chunk.at(Turn.PAY), parcel, keep)


@task(name="issue_coupons", cache_policy=NO_CACHE, persist_result=False)
async def issue_coupons(chunk: Chunk) -> int:
    """Give the goodwill coupons that were asked for."""

    def keep(road: Road, done: Receipt) -> None:
        road.coupon = done

    asked = [road for road in chunk.at(Turn.PAY) if road.request.goodwill_minor]
    return await _receipts(chunk, asked, lambda road: coupons.coupon(road.case), keep)


@task(name="issue_refunds", cache_policy=NO_CACHE, persist_result=False)
async def issue_refunds(chunk: Chunk) -> int:
    """Pay, each once; returns for how many the gateway has had its last word.

    What it says later is waited for without a run.
    """
    roads = chunk.at(Turn.PAY)
    paid = await perform(roads, lambda road: payments.payment(road.case))
    for road in roads:
        if road.refund_id in paid.effects:
            road.payment = payments.payment_of(paid.effects[road.refund_id], road.request)
        elif isinstance(paid.errors[road.refund_id], StepRefused):
            # The ledger knows what was refused; this call may only have repeated it.
            known = effects.read(books.ledger(), key_of(road.refund_id, PAYMENT_STEP))
            if known is not None and known.state == "refused":
                road.payment = payments.payment_of(known, road.request)
                del paid.errors[road.refund_id]
    await asides.put_aside(chunk, paid.errors)
    pending = [r for r in chunk.at(Turn.PAY) if r.payment.status is PaymentStatus.PENDING]
    await asides.wait_for_settlement(pending)
    return len(chunk.at(Turn.PAY))


@task(name="take_back", cache_policy=NO_CACHE, persist_result=False)
async def take_back(chunk: Chunk) -> int:
    """Undo what was done for payments that will never be made."""
    roads = chunk.at(Turn.TAKE_BACK)
    await _receipts(chunk, [road for road in roads if road.coupon], _void, _nothing)
    await _receipts(chunk, chunk.at(Turn.TAKE_BACK), _undo_parcel, _nothing)
    return len(chunk.at(Turn.TAKE_BACK))


def _void(road: Road) -> Action:
    return coupons.voiding(road.case, _done(road.coupon))


def _undo_parcel(road: Road) -> Action:
    if road.request.kind is Kind.CANCEL:
        return logistics.releasing(road.case, _done(road.parcel))
    return logistics.cancelling(road.case, _done(road.parcel))


def _done(found: Receipt | None) -> Receipt:
    if found is None:
        raise AssertionError("what was never done is never undone")
    return found


def _nothing(_road: Road, _done: Receipt) -> None:
    return


async def _receipts(
    chunk: Chunk,
    roads: Sequence[Road],
    action_for: Callable[[Road], Action],
    keep: Callable[[Road, Receipt], None],
) -> int:
    done = await perform(roads, action_for)
    for refund_id, effect in done.effects.items():
        keep(chunk.roads[refund_id], receipt(effect))
    await asides.put_aside(chunk, done.errors)
    return len(done.effects)
