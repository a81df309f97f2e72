"""Events: what happened at the gateway, and the webhook deliveries that each one starts."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from sandbox.clock import Clock, to_ms
from sandbox.fault_rules import Rule, WebhookDrop, WebhookDuplicate, WebhookReorder
from sandbox.faults import WEBHOOK, Faults
from sandbox.identifiers import to_id

# The first version whose refunds have their own events.
_API_VERSION = "2024-10-28.acacia"


class Events:
    """Records events in the transaction of what they tell of.

    With `deliver` off no delivery is queued, so that a receiver named later is not flooded.
    """

    def __init__(self, clock: Clock, faults: Faults, *, deliver: bool) -> None:
        self._clock = clock
        self._faults = faults
        self._deliver = deliver

    def record(
        self,
        tx: sqlite3.Connection,
        kind: str,
        thing: Mapping[str, Any],
        *,
        refund_id: str | None,
        previous: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> None:
        """Record one event about `thing` and queue its delivery."""
        now_ms = to_ms(self._clock())
        number = tx.execute("SELECT coalesce(max(number), 0) + 1 AS next FROM events").fetchone()[
            "next"
        ]
        data: dict[str, Any] = {"object": thing}
        if previous is not None:
            data["previous_attributes"] = previous
        body = {
            "id": to_id("evt", number),
            "object": "event",
            "api_version": _API_VERSION,
            "created": now_ms // 1_000,
            "data": data,
            "livemode": False,
            "pending_webhooks": int(self._deliver),
            "request": {"id": None, "idempotency_key": key},
            "type": kind,
        }
        tx.execute(
            "INSERT INTO events (number, type, created_ms, body) VALUES (?, ?, ?, ?)",
            (number, kind, now_ms, json.dumps(body, separators=(",", ":"))),
        )
        if self._deliver:
            fault = self._fault(tx, number, kind, refund_id)
            for due_ms in _deliveries(fault, now_ms):
                tx.execute(
                    "INSERT INTO deliveries (event_number, due_ms) VALUES (?, ?)", (number, due_ms)
                )

    def _fault(
        self, tx: sqlite3.Connection, number: int, kind: str, refund_id: str | None
    ) -> Rule | None:
        if not self._faults.armed:
            return None
        return self._faults.take(
            tx,
            "webhook",
            endpoint=WEBHOOK,
            subject=f"{refund_id} {kind}" if refund_id else str(number),
            refund_id=refund_id,
            event_type=kind,
        )


def _deliveries(fault: Rule | None, now_ms: int) -> tuple[int, ...]:
    match fault:
        case WebhookDrop():
            return ()
        case WebhookDuplicate():
            return (now_ms, now_ms)
        case WebhookReorder(seconds=seconds):
            return (now_ms + int(seconds * 1_000),)
        case _:
            return (now_ms,)
