"""Coupons: a word of apology, and taking it back."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.models import Case, Receipt
from tasks import steps
from tasks.effect import Action, found, perform
from tasks.json_systems import creation, receipt, receipt_of, undoing
from tasks.systems.contract import Undoing


@task(
    name="issue_coupon",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # An earlier send is found by our reference before another one, so trying again is safe.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def issue_coupon(case: Case) -> Receipt:
    """Give the goodwill coupon that was asked for with the refund."""
    return receipt(await perform(coupon(case)))


@task(
    name="void_coupon",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # Voiding what is void changes nothing.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def void_coupon(case: Case, coupon: Receipt) -> Receipt:
    """Undo `issue_coupon`."""
    return receipt(await perform(voiding(case, coupon)))


@task(
    name="find_coupon",
    # Asked anew by every run, and asking is harmless.
    cache_policy=NO_CACHE,
    persist_result=False,
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def find_coupon(case: Case) -> Receipt | None:
    """The coupon of a refund that is given up, if it was issued."""
    return receipt_of(await found(coupon(case)))


def coupon(case: Case) -> Action:
    """The coupon that goes with a refund."""
    request = case.request
    body = {
        "refund_id": case.refund_id,
        "customer_id": request.customer_id,
        "amount_minor": request.goodwill_minor,
        "currency": request.currency,
    }
    return creation(
        case.refund_id, "issue_coupon", "coupons", "coupons", body, id_field="coupon_id"
    )


def voiding(case: Case, coupon: Receipt) -> Action:
    """The end of a coupon."""
    what = (case.refund_id, "void_coupon", "coupons", "coupons", coupon.reference)
    return undoing(Undoing(*what, verb="void", done="void"))
