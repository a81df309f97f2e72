"""The record of every act, whichever system did it."""

import json
import sqlite3
from typing import Any

from sandbox.answers import Ask
from sandbox.clock import Clock, to_iso, to_ms
from sandbox.identifiers import to_id
from sandbox.listing import Listing


class Effects:
    """Appends one row per act, so that an act done twice shows as two."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def record(
        self,
        tx: sqlite3.Connection,
        ask: Ask,
        *,
        kind: str,
        refund_id: str | None,
        request: dict[str, Any],
        response_id: str,
    ) -> None:
        """Append what `ask` did."""
        at_ms = to_ms(self._clock())
        text = json.dumps(request, separators=(",", ":"))
        tx.execute(
            "INSERT INTO effects (system, kind, key, refund_id, at_ms, request, response_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (ask.system, kind, ask.key, refund_id, at_ms, text, response_id),
        )


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": to_id("eff", row["number"]),
        "system": row["system"],
        "kind": row["kind"],
        "key": row["key"],
        "refund_id": row["refund_id"],
        "at": to_iso(row["at_ms"]),
        "request": json.loads(row["request"]),
        "response_id": row["response_id"],
        # An ask without a key cannot be sent again as the same one.
        "sends": row["sends"] or 1,
    }


EFFECTS = Listing(
    name="effects",
    prefix="eff",
    source="effects LEFT JOIN arrivals USING (system, key)",
    filters=("refund_id", "system"),
    shown=_shown,
)
