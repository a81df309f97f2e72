"""Notices: the customer and customer service hear how it ended."""

from prefect import task

from refunds import wording
from refunds.models import Case, Outcome, Receipt
from tasks import steps
from tasks.json_systems import create


@task(
    name="notify_customer",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # A notice that may have gone out is looked for by our reference before another one.
    retries=4,
    retry_delay_seconds=[1, 2, 5, 10],
    retry_condition_fn=steps.may_retry,
    timeout_seconds=90,
)
async def notify_customer(case: Case, outcome: Outcome) -> Receipt:
    """Tell the customer."""
    to = ("customer", case.request.customer_id)
    return await _send(case, "notify_customer", to, wording.customer_notice(case, outcome))


@task(
    name="notify_service",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # As for the customer.
    retries=4,
    retry_delay_seconds=[1, 2, 5, 10],
    retry_condition_fn=steps.may_retry,
    timeout_seconds=90,
)
async def notify_service(case: Case, outcome: Outcome, why: str) -> Receipt:
    """Tell customer service, who the customer will ask."""
    to = ("service", "customer-service")
    return await _send(case, "notify_service", to, wording.service_notice(case, outcome, why))


async def _send(case: Case, step: str, to: tuple[str, str], text: tuple[str, str]) -> Receipt:
    message = {
        "refund_id": case.refund_id,
        "audience": to[0],
        "to": to[1],
        "subject": text[0],
        "body": text[1],
    }
    return await create(case.refund_id, step, "notices", "messages", message, id_field="message_id")
