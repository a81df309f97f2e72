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
    subject, body = wording.customer_notice(case, outcome)
    return await _send(case, "notify_customer", "customer", case.request.customer_id, subject, body)


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
    subject, body = wording.service_notice(case, outcome, why)
    return await _send(case, "notify_service", "service", "customer-service", subject, body)


async def _send(case: Case, step: str, audience: str, to: str, subject: str, body: str) -> Receipt:
    message = {
        "refund_id": case.refund_id,
        "audience": audience,
        "to": to,
        "subject": subject,
        "body": body,
    }
    return await create(case.refund_id, step, "notices", "messages", message, id_field="message_id")
