"""The payment gateway, whichever it is. Money is never sent again before asking."""

from datetime import timedelta
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.errors import (
    GatewayUnavailable,
    NeedsAttention,
    PaymentUnknown,
    StepBlocked,
    StepRefused,
    StepUnknown,
    SystemAway,
    SystemUnavailable,
)
from refunds.ledger import effects
from refunds.ledger.effects import PAYMENT_STEP, Effect, key_of
from refunds.models import Case, Payment, PaymentStatus, RefundRequest, Standstill
from tasks import books, gateways, steps
from tasks.effect import Action, perform
from tasks.gateways import GatewayRefund, PaymentOrder
from tasks.records import begin_wait, hand_to_a_person


@task(
    name=PAYMENT_STEP,
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # Not an ordinary retry: each one asks the gateway by our own reference before it sends.
    **steps.QUICK_RETRIES,
    # Three calls of at most 20 seconds each: ask, send, and one pause the gateway asks for.
    timeout_seconds=90,
)
@steps.journaled
async def issue_refund(case: Case) -> Payment:
    """Pay, once. Returns what the gateway says: succeeded, pending or failed for good.

    Raises GatewayUnavailable (certainly not paid), PaymentUnknown (perhaps paid), or
    NeedsAttention when it may be paid and asking again under the same key is no longer safe, or
    when the gateway will not pay before somebody helps (an open dispute, too little balance).
    """
    try:
        effect = await perform(payment(case))
    except StepRefused:
        # The ledger knows what was refused; this call may only have repeated it.
        known = effects.read(books.ledger(), key_of(case.refund_id, PAYMENT_STEP))
        if known is None or known.state != "refused":
            raise
        return payment_of(known, case.request)
    except StepBlocked as error:
        raise NeedsAttention(
            f"not paid, {error}; settle that with the gateway, then `refunds resume` tries anew"
        ) from error
    except StepUnknown as error:
        raise PaymentUnknown(error.system, error.detail) from error
    except SystemAway:
        raise
    except SystemUnavailable as error:
        raise GatewayUnavailable(error.system, error.detail) from error
    return payment_of(effect, case.request)


@task(
    name="await_settlement",
    cache_policy=NO_CACHE,
    persist_result=False,
    timeout_seconds=60,
)
@steps.journaled
async def await_settlement(case: Case) -> Payment | Standstill:
    """What the ledger knows of a pending payment: its ending, or a wait for the gateway's word."""
    ledger, refund_id = books.ledger(), case.refund_id
    effect = effects.read(ledger, key_of(refund_id, PAYMENT_STEP))
    if effect is None:
        raise NeedsAttention(f"{refund_id} waits for a payment that was never made")
    if effect.is_final:
        return payment_of(effect, case.request)
    due_at = effect.first_sent_at + timedelta(hours=books.policy().patience.settle_within_hours)
    if ledger.clock() >= due_at:
        return hand_to_a_person(refund_id, f"payment not settled by {due_at:%Y-%m-%d %H:%M} UTC")
    return begin_wait(refund_id, "settlement-1", "callback", due_at)


def payment(case: Case) -> Action:
    """The payment of a refund.

    Raises NeedsAttention where nothing was captured, or where the gateway cannot pay the amount
    exactly.
    """
    if case.charge is None:
        raise NeedsAttention(f"{case.refund_id} has no charge to refund")
    request, gateway = case.request, gateways.gateway()
    order = PaymentOrder(
        refund_id=request.refund_id,
        order_id=request.order_id,
        charge_id=case.charge.charge_id,
        amount_minor=request.amount_minor,
        currency=request.currency,
        refund_to=request.refund_to,
        key=key_of(request.refund_id, PAYMENT_STEP),
    )
    gateway.check(order)

    async def send(wire_key: str) -> dict[str, Any]:
        return dict(await gateway.pay(order, wire_key))

    async def ask(key: str) -> dict[str, Any] | None:
        found = await gateway.find(order.charge_id, key)
        if found is None:
            _still_safe_to_send(key, gateway.keeps_keys_hours)
            return None
        return dict(found)

    return Action(
        case.refund_id, PAYMENT_STEP, "gateway", order.recorded(), send, ask, judge=_judge
    )


async def reconcile(row: dict[str, Any]) -> bool:
    """Ask the gateway how an unsettled payment ended; True when the ledger learned something.

    `row` is an effect as `ledger.effects.unsettled` gives it. Nothing is sent to pay.
    """
    gateway, reference = gateways.gateway(), (row["response"] or {}).get("id")
    found = (
        await gateway.look_up(reference)
        if reference
        else await gateway.find(row["request"]["charge"], row["key"])
    )
    return found is not None and take_word(found) == row["refund_id"]


def take_word(found: GatewayRefund) -> str | None:
    """Bring the gateway's word on a payment to the ledger; returns the refund when it is news.

    A paid refund that comes back is booked and handed to a person. A refund that does not carry
    our own reference is not ours and is left alone.
    """
    ledger, key, refund_id = books.ledger(), found["key"], found["refund_id"]
    effect = effects.read(ledger, key) if key and refund_id else None
    if effect is None or refund_id is None or key != key_of(refund_id, PAYMENT_STEP):
        return None
    if (effect.response or {}).get("id") not in (None, found["id"]):
        return None
    state, why = _judge(dict(found)), found.get("failure_reason", "")
    if effect.state == "succeeded" and state == "refused":
        effects.payment_came_back(ledger, refund_id, why)
        return refund_id
    if effect.is_final or effect.state == state:
        return None
    effects.record(ledger, refund_id, key, state, response=dict(found), detail=why or None)
    return refund_id


def payment_of(effect: Effect, request: RefundRequest) -> Payment:
    """The payment an effect stands for."""
    answer = effect.response or {}
    if effect.state == "refused":
        why = effect.detail or answer.get("failure_reason") or "refused"
        return _failed(request, why, answer.get("id", ""))
    status = PaymentStatus.SUCCEEDED if effect.state == "succeeded" else PaymentStatus.PENDING
    return Payment(
        status=status,
        reference=answer["id"],
        amount_minor=request.amount_minor,
        currency=request.currency,
    )


def _judge(refund: dict[str, Any]) -> str:
    return "refused" if refund["status"] == "failed" else str(refund["status"])


def _failed(request: RefundRequest, detail: str, reference: str = "") -> Payment:
    return Payment(
        status=PaymentStatus.FAILED,
        reference=reference,
        amount_minor=request.amount_minor,
        currency=request.currency,
        detail=detail,
    )


def _still_safe_to_send(key: str, keeps_keys_hours: int) -> None:
    """The gateway does not know our reference: sending again is safe while it keeps the key."""
    effect = effects.read(books.ledger(), key)
    if effect is None or effect.state == "blocked":
        # The gateway's last word on this key was that it did nothing.
        return
    if not keeps_key(effect, keeps_keys_hours):
        hours = _resend_hours(keeps_keys_hours)
        raise NeedsAttention(
            f"{key} was first sent {effect.first_sent_at:%Y-%m-%d %H:%M} UTC; its ending is "
            f"unknown and after {hours} hours the gateway may have forgotten the key; "
            "find out what became of it, then `refunds settle`"
        )


def keeps_key(effect: Effect, keeps_keys_hours: int) -> bool:
    """Whether the gateway is certain to know the key of a payment, as long as it keeps them."""
    age = books.ledger().clock() - effect.first_sent_at
    return bool(age <= timedelta(hours=_resend_hours(keeps_keys_hours)))


def _resend_hours(keeps_keys_hours: int) -> int:
    return min(books.policy().patience.resend_within_hours, keeps_keys_hours)
