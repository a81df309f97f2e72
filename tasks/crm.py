"""The CRM: one case per refund, with how it ended."""

from prefect import task

from refunds.models import Case, Outcome, Receipt
from tasks import steps
from tasks.effect import Action, perform
from tasks.json_systems import creation, receipt
from tasks.records import enter_syncing


@task(
    name="sync_crm",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # An earlier send is found by our reference before another one, so trying again is safe.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def sync_crm(case: Case, outcome: Outcome, why: str) -> Receipt:
    """Write the refund's ending to the customer's file."""
    enter_syncing(case.refund_id)
    return receipt(await perform(crm_case(case, outcome, why)))


def crm_case(case: Case, outcome: Outcome, why: str) -> Action:
    """The case that the CRM keeps of a refund."""
    request = case.request
    body = {
        "refund_id": case.refund_id,
        "customer_id": request.customer_id,
        "order_id": request.order_id,
        "outcome": str(outcome),
        "amount_minor": request.amount_minor,
        "currency": request.currency,
    }
    words, refund_id = {"note": why}, case.refund_id
    return creation(refund_id, "sync_crm", "crm", "cases", body, words=words, id_field="case_id")
