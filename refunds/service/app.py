"""The service's doors: `GET /health` and `POST /webhooks/gateway`."""

import asyncio

from fastapi import FastAPI, HTTPException, Request, Response

from refunds.errors import StepFailed, SystemUnavailable, UnknownRefund
from refunds.ledger import migrate
from refunds.service import gateway_events
from refunds.settings import settings
from tasks import books, gateways, runs

# Stripe's events are a few kilobytes; whatever is larger is not one.
_LARGEST_EVENT_BYTES = 256 * 1024

app = FastAPI(title="durable-refunds", docs_url=None, redoc_url=None)


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether the service can reach its ledger."""
    await asyncio.to_thread(migrate, settings().ledger_database_url)
    return {"status": "ok"}


@app.post("/webhooks/gateway", status_code=204)
async def gateway_webhook(request: Request) -> Response:
    """Take a signed event as a hint: the gateway is asked what is true before anything changes."""
    body = await _body(request)
    try:
        event = await gateways.gateway().event(body, request.headers, books.ledger().clock())
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    try:
        for refund_id in await gateway_events.take(event):
            await runs.wake(refund_id)
    except UnknownRefund:
        return Response(status_code=204)
    except SystemUnavailable as error:
        if error.system == "prefect":
            # What the gateway said is in the ledger; the sweep wakes the run.
            return Response(status_code=204)
        raise HTTPException(503, str(error)) from error
    except StepFailed as error:
        raise HTTPException(503, str(error)) from error
    return Response(status_code=204)


async def _body(request: Request) -> bytes:
    """The raw body, never more than an event can be."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _LARGEST_EVENT_BYTES:
            raise HTTPException(413, "an event is never this large")
        parts.append(part)
    return b"".join(parts)
