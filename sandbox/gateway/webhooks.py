"""Webhook delivery: signed, kept on disk, repeated with growing pauses until it is taken."""

import asyncio
import hashlib
import hmac
import logging
import sqlite3
from functools import partial

import httpx

from sandbox.clock import Clock, to_ms
from sandbox.store import Store

# Webhooks share one core with the gateway: more at once would only slow its answers.
_AT_ONCE = 8
# Soon enough for a test, and ten small queries a second cost nothing.
_POLL_SECONDS = 0.1
# A receiver only stores the event; one that needs longer is down.
_TIMEOUT_SECONDS = 10
_FIRST_PAUSE_MS = 500
# A receiver that comes back is told of all it missed within a minute.
_LONGEST_PAUSE_MS = 60_000
# The exponent at which the pause has reached its limit.
_LAST_DOUBLING = 7

_log = logging.getLogger(__name__)


def sign(secret: str, body: bytes, at_seconds: int) -> str:
    """Return the header Stripe-Signature for `body` sent at `at_seconds`."""
    signed = f"{at_seconds}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={at_seconds},v1={digest}"


class Deliverer:
    """Sends queued events to one receiver; an event is sent at least once."""

    def __init__(self, store: Store, clock: Clock, url: str, secret: str) -> None:
        self._store = store
        self._clock = clock
        self._url = url
        self._secret = secret
        self._sending: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Deliver whatever becomes due, for ever."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            try:
                while True:
                    self._start_due(client)
                    await self._pause()
            finally:
                for task in self._sending.values():
                    task.cancel()
                await asyncio.gather(*self._sending.values(), return_exceptions=True)

    def _start_due(self, client: httpx.AsyncClient) -> None:
        for row in self._store.read(self._due):
            number = row["number"]
            if number in self._sending or len(self._sending) >= _AT_ONCE:
                continue
            task = asyncio.create_task(self._deliver(client, row))
            self._sending[number] = task
            task.add_done_callback(partial(self._sent, number))

    def _sent(self, number: int, task: asyncio.Task[None]) -> None:
        del self._sending[number]
        if not task.cancelled() and task.exception() is not None:
            _log.error("webhook %s stays queued", number, exc_info=task.exception())

    async def _pause(self) -> None:
        if self._sending:
            await asyncio.wait(
                self._sending.values(),
                timeout=_POLL_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        else:
            await asyncio.sleep(_POLL_SECONDS)

    async def _deliver(self, client: httpx.AsyncClient, row: sqlite3.Row) -> None:
        body = row["body"].encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": sign(self._secret, body, to_ms(self._clock()) // 1_000),
        }
        try:
            response = await client.post(self._url, content=body, headers=headers)
            taken = response.is_success
        except httpx.HTTPError as problem:
            _log.info("webhook %s not delivered: %r", row["number"], problem)
            taken = False
        now_ms = to_ms(self._clock())
        pause_ms = _FIRST_PAUSE_MS * 2 ** min(row["attempts"], _LAST_DOUBLING)
        due_ms = now_ms + min(pause_ms, _LONGEST_PAUSE_MS)
        await self._store.write(
            lambda tx: tx.execute(
                "UPDATE deliveries SET attempts = attempts + 1, delivered_ms = ?, due_ms = ?"
                " WHERE number = ?",
                (now_ms if taken else None, due_ms, row["number"]),
            )
        )

    def _due(self, reader: sqlite3.Connection) -> list[sqlite3.Row]:
        return reader.execute(
            "SELECT deliveries.number, deliveries.attempts, events.body"
            " FROM deliveries JOIN events ON events.number = deliveries.event_number"
            " WHERE deliveries.delivered_ms IS NULL AND deliveries.due_ms <= ?"
            " ORDER BY deliveries.due_ms, deliveries.number LIMIT ?",
            # Those being sent are still due: ask for as many more.
            (to_ms(self._clock()), 2 * _AT_ONCE),
        ).fetchall()
