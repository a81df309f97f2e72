"""A JSON webhook: the facts, signed, to one address.

It cannot be asked what it has seen. After an unknown ending the same body is sent again under the
same key, so the receiver has to act once per `Idempotency-Key`.
"""

import hashlib
import hmac
from typing import Any

import orjson

from tasks import books, http, secrets
from tasks.effect import Action, cannot_ask
from tasks.systems.contract import Thing, Undoing, never_undone


class Webhook:
    """POST of `{"key", "step", "facts"}`, signed as Stripe signs: over time and body."""

    def making(self, thing: Thing) -> Action:
        """POST the facts; whatever 2xx answers has taken them."""

        async def send(wire_key: str) -> dict[str, Any]:
            content = {"key": thing.key, "step": thing.step, "facts": thing.content}
            answer = await http.call(
                thing.system,
                "POST",
                "",
                key=wire_key,
                json=content,
                headers={"Refunds-Signature": await _signature(orjson.dumps(content))},
                any_body=True,
            )
            reference = answer.get("id")
            return thing.kept(str(reference) if reference else thing.key)

        return thing.action(send, cannot_ask)

    def undoing(self, undo: Undoing) -> Action:
        """A case is never undone."""
        return never_undone(undo)


async def _signature(body: bytes) -> str:
    """`t=<seconds>,v1=<HMAC-SHA256 of "<seconds>.<body>">`."""
    at = str(int(books.ledger().clock().timestamp()))
    key = (await secrets.secret("crm_key")).encode()
    return f"t={at},v1={hmac.new(key, at.encode() + b'.' + body, hashlib.sha256).hexdigest()}"
