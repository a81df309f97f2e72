"""The refund chain, top to bottom as the policy manual has it."""

from typing import Any

from prefect import flow
from prefect.states import Completed

from flows import waiting
from refunds import policy
from refunds.errors import LedgerRefusal, NeedsAttention, StaleRunner, StepRefused, StepRetryable
from refunds.models import (
    Assessment,
    Case,
    Decision,
    Kind,
    Outcome,
    PaymentStatus,
    Receipt,
    RefundRequest,
    Seat,
    Verdict,
)
from refunds.names import RESULTS_BLOCK
from refunds.policy_file import Policy
from tasks import cards, coupons, crm, logistics, model, notices, orders, payments, records, risk

REJECTED = "A person rejected it."
EXPIRED = "Nobody decided in time."


@flow(
    name="refund",
    flow_run_name="refund-{request.refund_id}",
    persist_result=True,
    result_storage=RESULTS_BLOCK,
    validate_parameters=True,
)
async def refund(request: RefundRequest) -> Any:
    """Carry one refund request to its outcome: PAID, REJECTED, EXPIRED or FAILED.

    However often it is started or interrupted, each step is done once.
    """
    while True:
        seat = await records.open_refund(request)
        if not seat.is_mine:
            return already(seat)
        try:
            return await patiently(request, seat)
        except waiting.Woken:
            continue
        except StaleRunner as taken_over:
            return Completed(name="TakenOver", message=str(taken_over))


async def patiently(request: RefundRequest, seat: Seat) -> Outcome:
    """The chain; an outage becomes a wait, and what nobody foresaw becomes a person's case."""
    try:
        if seat.given_up is not None:
            return await give_up(request, seat.given_up)
        return await chain(request)
    except StepRetryable as outage:
        return await waiting.for_recovery(request, outage)
    except StaleRunner:
        raise
    except (NeedsAttention, StepRefused, LedgerRefusal) as trouble:
        return await waiting.for_attention(request, str(trouble))


async def chain(request: RefundRequest) -> Outcome:
    """Assess, ask a person where the rules say so, pay; look again when the facts changed."""
    round_number = 1
    while True:
        case = await orders.load_after_sale(await orders.load_order(request, round_number))
        features = await risk.load_risk(case)
        rules = await records.load_policy(case)
        opinion = await model.ask_opinion(case, features)
        assessment = policy.assess(case, features, rules, opinion)
        await records.record_assessment(case, assessment, features)

        if assessment.verdict is Verdict.REJECT:
            return await conclude(case, Outcome.REJECTED, because(assessment))

        if assessment.verdict is Verdict.REVIEW:
            decision = await ask_a_person(case, assessment, rules)
            if decision is Decision.REJECTED:
                return await conclude(case, Outcome.REJECTED, REJECTED)
            if decision is Decision.EXPIRED:
                return await conclude(case, Outcome.EXPIRED, EXPIRED)
            if decision is None:
                round_number += 1
                continue

        if not await records.reserve_money(case, assessment):
            round_number += 1
            continue

        return await pay(case)


async def ask_a_person(case: Case, assessment: Assessment, rules: Policy) -> Decision | None:
    """Ask the team, then each further level too; None when the facts changed meanwhile."""
    approval = await records.request_approval(case, assessment, rules)
    for level in approval.levels:
        await cards.send_card(case, approval, level)
        answer = await waiting.for_decision(case, approval, level)
        if answer.is_stale:
            return None
        if answer.decision is not None:
            return answer.decision
    return Decision.EXPIRED


async def pay(case: Case) -> Outcome:
    """Stop the goods, apologise, pay; undo all of it when the gateway says no for good."""
    if case.request.kind is Kind.CANCEL:
        parcel = await logistics.hold_shipment(case)
    else:
        parcel = await logistics.create_return_label(case)
    coupon = await coupons.issue_coupon(case) if case.request.goodwill_minor else None

    payment = await payments.issue_refund(case)
    if payment.status is PaymentStatus.PENDING:
        payment = await waiting.for_settlement(case)

    if payment.status is PaymentStatus.FAILED:
        await take_back(case, parcel, coupon)
        return await conclude(case, Outcome.FAILED, f"The gateway refused: {payment.detail}")
    return await conclude(case, Outcome.PAID, f"Paid as {payment.reference}.")


async def give_up(request: RefundRequest, why: str) -> Outcome:
    """A person gave it up before anything was paid: undo what was done, and say so."""
    case = Case(request=request, round=1, order=None)
    parcel = await logistics.find_parcel(case)
    coupon = await coupons.find_coupon(case)
    await take_back(case, parcel, coupon)
    return await conclude(case, Outcome.FAILED, why)


async def take_back(case: Case, parcel: Receipt | None, coupon: Receipt | None) -> None:
    """Undo what was done for a payment that will never be made."""
    if coupon is not None:
        await coupons.void_coupon(case, coupon)
    if parcel is None:
        return
    if case.request.kind is Kind.CANCEL:
        await logistics.release_shipment(case, parcel)
    else:
        await logistics.cancel_return_label(case, parcel)


async def conclude(case: Case, outcome: Outcome, why: str) -> Outcome:
    """Tell everybody how it ended and close the books."""
    await crm.sync_crm(case, outcome, why)
    await notices.notify_customer(case, outcome)
    await notices.notify_service(case, outcome, why)
    return await records.write_audit(case, outcome, why)


def because(assessment: Assessment) -> str:
    """The reasons of a verdict in one line."""
    return " ".join(reason.text for reason in assessment.reasons)


def already(seat: Seat) -> Any:
    """This run has nothing to do: the refund is over, or another run has it."""
    if seat.outcome is not None:
        return Completed(name="AlreadyConcluded", message=f"it ended {seat.outcome}")
    return Completed(name="AlreadyRunning", message=f"it is carried on by run {seat.held_by}")
