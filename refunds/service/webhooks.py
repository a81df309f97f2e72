"""The gateway's door: its signed events are hints, and the gateway is asked what is true."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from refunds.errors import NeedsAttention, StepFailed, SystemUnavailable, UnknownRefund
from refunds.service import gateway_events, metrics
from refunds.service.problems import Refused, of_openapi
from tasks import books, gateways, runs

router = APIRouter(tags=["webhooks"])


@router.post(
    "/webhooks/gateway",
    status_code=204,
    responses=of_openapi(400, 413, 422, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
async def gateway_webhook(request: Request) -> Response:
    """Take a signed event as a hint: the gateway is asked what is true before anything changes."""
    body = await request.body()
    try:
        event = await gateways.gateway().event(body, request.headers, books.ledger().clock())
    except (NeedsAttention, SystemUnavailable) as error:
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE, "ask-again", str(error), "Send the event again later."
        ) from error
    except ValueError as error:
        metrics.webhooks.labels("refused").inc()
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "event-refused",
            str(error),
            "Sign the raw body with one of the secrets in REFUNDS_WEBHOOK_SECRET, now.",
        ) from error
    try:
        for refund_id in await gateway_events.take(event):
            await runs.wake(refund_id)
    except UnknownRefund:
        metrics.webhooks.labels("foreign").inc()
        return Response(status_code=204)
    except StepFailed as error:
        if isinstance(error, SystemUnavailable) and error.system == "prefect":
            # What the gateway said is in the ledger; the sweep wakes the run.
            metrics.webhooks.labels("taken").inc()
            return Response(status_code=204)
        metrics.webhooks.labels("later").inc()
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE, "ask-again", str(error), "Send the event again later."
        ) from error
    metrics.webhooks.labels("taken").inc()
    return Response(status_code=204)
