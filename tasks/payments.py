"""The payment gateway, in Stripe's refund API. Money is never sent again before asking."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.errors import (
    GatewayUnavailable,
    NeedsAttention,
    PaymentUnknown,
    StepRefused,
    StepUnknown,
    SystemUnavailable,
)
from refunds.ledger import effects
from refunds.ledger.effects import PAYMENT_STEP, Effect, key_of
from refunds.models import Case, Payment, PaymentStatus, RefundRequest, Standstill
from tasks import books, http, secrets, steps
from tasks.effect import Action, perform
from tasks.records import begin_wait, hand_to_a_person

# The gateway's word for a refund's state, in ours.
_STATES = {
    "succeeded": "succeeded",
    "pending": "pending",
    "requires_action": "pending",
    "failed": "refused",
    "canceled": "refused",
}

# The gateway's largest page.
_PAGE = 100


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
    NeedsAttention when it may be paid and asking again under the same key is no longer safe.
    """
    try:
        effect = await perform(payment(case))
    except StepRefused:
        # The ledger knows what was refused; this call may only have repeated it.
        known = effects.read(books.ledger(), key_of(case.refund_id, PAYMENT_STEP))
        if known is None or known.state != "refused":
            raise
        return payment_of(known, case.request)
    except StepUnknown as error:
        raise PaymentUnknown(error.system, error.detail) from error
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
    """The payment of a refund. Raises NeedsAttention where nothing was captured."""
    if case.charge is None:
        raise NeedsAttention(f"{case.refund_id} has no charge to refund")
    charge_id = case.charge.charge_id
    form = _form(case.request, charge_id)

    async def send(key: str) -> dict[str, Any]:
        answer = await _call("POST", "/v1/refunds", key=key, form={**form, "metadata[key]": key})
        return _checked(answer, case.request)

    async def ask(key: str) -> dict[str, Any] | None:
        found = await find(charge_id, case.refund_id, key)
        if found is None:
            _still_safe_to_send(key)
        return found

    return Action(case.refund_id, PAYMENT_STEP, "gateway", form, send, ask, judge=_judge)


async def find(charge_id: str, refund_id: str, key: str) -> dict[str, Any] | None:
    """The gateway's refund that an earlier send of ours made, whatever became of it."""
    async for refund in listed(charge_id):
        metadata = refund.get("metadata") or {}
        if metadata.get("refund_id") == refund_id and metadata.get("key") == key:
            return _kept(refund)
    return None


async def listed(charge_id: str | None = None) -> Any:
    """Every refund in the gateway's books, newest first (of one charge)."""
    params = {"limit": str(_PAGE), **({"charge": charge_id} if charge_id else {})}
    while True:
        page = await _call("GET", "/v1/refunds", params=params)
        entries = page.get("data")
        if not isinstance(entries, list):
            raise StepUnknown("gateway", "its list of refunds has no data")
        for refund in entries:
            yield refund
        if not page.get("has_more") or not entries:
            return
        params["starting_after"] = entries[-1]["id"]


async def look_up(reference: str) -> dict[str, Any]:
    """One refund in the gateway's books, by the gateway's own id."""
    return _kept(await _call("GET", f"/v1/refunds/{quote(reference, safe='')}"))


async def reconcile(row: dict[str, Any]) -> bool:
    """Ask the gateway how an unsettled payment ended; True when the ledger learned something.

    `row` is an effect as `ledger.effects.unsettled` gives it. Nothing is sent to pay.
    """
    key, refund_id = row["key"], row["refund_id"]
    reference = (row["response"] or {}).get("id")
    if reference:
        found: dict[str, Any] | None = await look_up(reference)
    else:
        found = await find(row["request"]["charge"], refund_id, key)
    effect = effects.read(books.ledger(), key)
    if found is None or effect is None:
        return False
    return take_word(refund_id, effect, found)


def take_word(refund_id: str, effect: Effect, found: dict[str, Any]) -> bool:
    """Bring the gateway's word on a payment to the ledger; True when it is news.

    A paid refund that comes back is booked and handed to a person. A refund that does not carry
    our own reference is not ours and is left alone.
    """
    known = (effect.response or {}).get("id")
    if found["key"] != effect.key or known not in (None, found["id"]):
        return False
    state = _judge(found)
    if effect.state == "succeeded" and state == "refused":
        effects.payment_came_back(books.ledger(), refund_id, found.get("failure_reason", ""))
        return True
    if effect.is_final or effect.state == state:
        return False
    detail = found.get("failure_reason")
    effects.record(books.ledger(), refund_id, effect.key, state, response=found, detail=detail)
    return True


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


def _form(request: RefundRequest, charge_id: str) -> dict[str, str]:
    return {
        "charge": charge_id,
        "amount": str(request.amount_minor),
        "reason": "requested_by_customer",
        "metadata[refund_id]": request.refund_id,
        "metadata[order_id]": request.order_id,
        "metadata[refund_to]": request.refund_to,
    }


def _checked(answer: dict[str, Any], request: RefundRequest) -> dict[str, Any]:
    """An answer that is not a refund of this amount proves nothing."""
    if not isinstance(answer.get("id"), str) or answer.get("status") not in _STATES:
        raise StepUnknown("gateway", "its answer is not a refund")
    amount = answer.get("amount")
    if not isinstance(amount, int) or amount != request.amount_minor:
        raise StepUnknown("gateway", f"it answered for another amount: {answer.get('amount')}")
    return _kept(answer)


def _kept(refund: dict[str, Any]) -> dict[str, Any]:
    if refund.get("status") not in _STATES or not isinstance(refund.get("id"), str):
        raise StepUnknown("gateway", "its answer is not a refund")
    kept = {name: refund.get(name) for name in ("id", "status", "amount", "currency", "charge")}
    # Our own reference: it tells our refund from one that somebody made by hand.
    kept["key"] = (refund.get("metadata") or {}).get("key")
    if refund.get("failure_reason"):
        kept["failure_reason"] = refund["failure_reason"]
    return kept


def _judge(refund: dict[str, Any]) -> str:
    return _STATES[refund["status"]]


def _failed(request: RefundRequest, detail: str, reference: str = "") -> Payment:
    return Payment(
        status=PaymentStatus.FAILED,
        reference=reference,
        amount_minor=request.amount_minor,
        currency=request.currency,
        detail=detail,
    )


def _still_safe_to_send(key: str) -> None:
    """The gateway does not know our reference: sending again is safe while it keeps the key."""
    effect = effects.read(books.ledger(), key)
    hours = books.policy().patience.resend_within_hours
    if effect and books.ledger().clock() - effect.first_sent_at > timedelta(hours=hours):
        raise NeedsAttention(
            f"{key} was first sent {effect.first_sent_at:%Y-%m-%d %H:%M} UTC; its ending is "
            f"unknown and after {hours} hours the gateway may have forgotten the key"
        )


async def _call(method: str, path: str, **arguments: Any) -> dict[str, Any]:
    bearer = {"Authorization": f"Bearer {await secrets.secret('gateway_key')}"}
    return await http.call("gateway", method, path, headers=bearer, **arguments)
