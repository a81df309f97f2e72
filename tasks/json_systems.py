"""Systems that speak plain JSON with an Idempotency-Key: CRM, coupons, logistics, notices."""

from typing import Any

from refunds.errors import StepRefused, StepUnknown
from refunds.ledger.effects import Effect
from refunds.models import Receipt
from tasks import http
from tasks.effect import Action


def creation(
    refund_id: str,
    step: str,
    system: str,
    collection: str,
    body: dict[str, Any],
    *,
    id_field: str,
    attempt: str | int | None = None,
    words: dict[str, str] | None = None,
    address: dict[str, str] | None = None,
) -> Action:
    """POST to a collection once; an earlier send is found again by our own reference.

    The key stands for `body`, which holds business facts only. `words` may be put otherwise by
    the next version of this program; they are kept with the answer. `address` is where we are
    found at this time, and is not kept.
    """
    path = f"/v1/{collection}"

    async def send(key: str) -> dict[str, Any]:
        content = {**body, **(words or {}), **(address or {}), "reference": key}
        answer = await http.call(system, "POST", path, key=key, json=content)
        found = _identified(system, answer, id_field)
        return {**found, "words": words} if words else found

    async def ask(key: str) -> dict[str, Any] | None:
        answer = await http.call(system, "GET", path, params={"reference": key})
        found = [entry for entry in answer.get(collection, []) if entry.get("reference") == key]
        return _identified(system, found[0], id_field) if found else None

    return Action(refund_id, step, system, body, send, ask, attempt=attempt)


def undoing(refund_id: str, step: str, system: str, path: str, done: str) -> Action:
    """POST an undoing once; undoing what is undone already is a success.

    `done` is the status the thing has when it is undone.
    """

    async def send(key: str) -> dict[str, Any]:
        try:
            answer = await http.call(system, "POST", path, key=key, json={})
        except StepRefused as error:
            raise StepRefused(system, f"cannot be undone: {error.detail}") from error
        if answer.get("status", done) != done:
            raise StepUnknown(system, f"its answer does not say {done}")
        return {"status": done, "reference": path}

    async def ask(_key: str) -> dict[str, Any] | None:
        return None

    return Action(refund_id, step, system, {"path": path, "done": done}, send, ask)


def receipt(effect: Effect) -> Receipt:
    """What a done effect is known by: its key, and the other system's own id for it."""
    return Receipt(key=effect.key, reference=(effect.response or {})["reference"])


def receipt_of(effect: Effect | None) -> Receipt | None:
    """The same for an effect that perhaps was never done."""
    return receipt(effect) if effect is not None else None


def _identified(system: str, answer: dict[str, Any], id_field: str) -> dict[str, Any]:
    if not isinstance(answer.get(id_field), str):
        raise StepUnknown(system, f"its answer has no {id_field}")
    kept = {"status": answer["status"]} if "status" in answer else {}
    return {"reference": answer[id_field], **kept}
