"""Numbers for Prometheus: what the service answers, and how the refunds stand.

Labels have few values: routes by their pattern, never a refund, a person or an address.
"""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from refunds.ledger import bursts, effects, requests, schema
from refunds.ledger.access.api_keys import ApiKey
from refunds.models import State
from refunds.scopes import Scope as KeyScope
from refunds.service import who
from refunds.service.problems import of_openapi
from tasks import books

router = APIRouter(tags=["metrics"])
registry = CollectorRegistry()

answers = Counter(
    "refunds_http_answers",
    "Answers by route, method and status.",
    ("route", "method", "status"),
    registry=registry,
)
seconds = Histogram(
    "refunds_http_seconds",
    "Time to the end of an answer, by route.",
    ("route",),
    # From a page out of memory to a gateway that is asked twice.
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10),
    registry=registry,
)
sign_ins = Counter("refunds_sign_ins", "Sign-ins by result.", ("result",), registry=registry)
decisions = Counter(
    "refunds_decisions", "Decisions by choice and result.", ("choice", "result"), registry=registry
)
webhooks = Counter(
    "refunds_webhooks", "The gateway's events by result.", ("result",), registry=registry
)


@router.get(
    "/metrics",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **of_openapi(401, 403, 422, 429),
    },
    response_class=Response,
)
async def metrics(_: Annotated[ApiKey, Depends(who.machine(KeyScope.METRICS))]) -> Response:
    """The numbers, for a key with metrics:read."""
    text = await asyncio.to_thread(_text)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _text() -> bytes:
    return generate_latest(registry) + _standing()


def _standing() -> bytes:
    """How the refunds stand now, by one look into the ledger."""
    ledger = books.ledger()
    now = CollectorRegistry()
    now.register(_Look(_counts(ledger), [*_waiting(ledger), *_batches(ledger)]))
    return generate_latest(now)


def _counts(ledger: Any) -> GaugeMetricFamily:
    family = GaugeMetricFamily("refunds_in_state", "Refunds by state.", labels=["state"])
    found = requests.counts(ledger)
    for state in State:
        family.add_metric([state.value], found.get(state.value, 0))
    return family


def _waiting(ledger: Any) -> list[GaugeMetricFamily]:
    row = schema.approvals.c
    query = sa.select(sa.func.count(), sa.func.min(row.opened_at)).where(row.status == "open")
    with ledger.reading() as connection:
        count, oldest = connection.execute(query).one()
    # An aggregate loses the column's type on SQLite.
    since = schema.UtcDateTime().process_result_value(oldest, None) if oldest else None
    age = (ledger.clock() - since).total_seconds() if since else 0.0
    return [
        GaugeMetricFamily("refunds_waiting", "Questions that wait for a person.", value=count),
        GaugeMetricFamily(
            "refunds_waiting_seconds", "Age of the oldest question that waits.", value=age
        ),
        GaugeMetricFamily(
            "refunds_unsettled_effects",
            "Payments whose ending is not known yet.",
            value=len(effects.unsettled(ledger)),
        ),
    ]


def _batches(ledger: Any) -> list[GaugeMetricFamily]:
    family = GaugeMetricFamily(
        "refunds_carried", "Refunds that batches have in hand, by kind.", labels=["kind"]
    )
    found = bursts.carried_by_kind(ledger)
    for kind in bursts.KINDS:
        family.add_metric([kind], found.get(kind, 0))
    count = bursts.count(ledger)
    return [
        family,
        GaugeMetricFamily("refunds_bursts", "Bursts that there have been so far.", value=count),
    ]


class _Look:
    """A collector of what was just seen."""

    def __init__(self, counts: GaugeMetricFamily, others: list[GaugeMetricFamily]) -> None:
        self._families = [counts, *others]

    def collect(self) -> list[GaugeMetricFamily]:
        return self._families


class Counted:
    """ASGI middleware: counts and times every answer by its route's pattern."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            answers.labels(route, method, str(status)).inc()
            if route not in _ENDLESS:
                seconds.labels(route).observe(time.perf_counter() - began)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# A stream ends when the page is closed, which says nothing about the service.
_ENDLESS = frozenset({"/changes"})
