"""Notices: the customer and customer service hear how it ended."""

from prefect import task

from refunds import wording
from refunds.models import Case, Outcome, Receipt
from tasks import steps
from tasks.effect import Action, perform
from tasks.json_systems import creation, receipt


@task(
    name="notify_customer",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # A notice that may have gone out is looked for by our reference before another one.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def notify_customer(case: Case, outcome: Outcome) -> Receipt:
    """Tell the customer."""
    return receipt(await perform(customer_notice(case, outcome)))


@task(
    name="notify_service",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # As for the customer.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def notify_service(case: Case, outcome: Outcome, why: str) -> Receipt:
    """Tell customer service, who the customer will ask."""
    return receipt(await perform(service_notice(case, outcome, why)))


def customer_notice(case: Case, outcome: Outcome) -> Action:
    """What the customer is told."""
    to = ("customer", case.request.customer_id)
    return _message(case, "notify_customer", to, wording.customer_notice(case, outcome))


def service_notice(case: Case, outcome: Outcome, why: str) -> Action:
    """What customer service is told."""
    to = ("service", "customer-service")
    return _message(case, "notify_service", to, wording.service_notice(case, outcome, why))


def _message(case: Case, step: str, to: tuple[str, str], text: tuple[str, str]) -> Action:
    message = {"refund_id": case.refund_id, "audience": to[0], "to": to[1]}
    return creation(
        case.refund_id,
        step,
        "notices",
        "messages",
        message,
        words={"subject": text[0], "body": text[1]},
        id_field="message_id",
    )
