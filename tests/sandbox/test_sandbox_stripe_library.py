"""Stripe's own Python library takes the sandbox for Stripe."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.process import SandboxProcess
from sandbox.testing import customer_record, order_record
from tests.house import services

# Run by a Python that has the library, and none of our packages.
CLIENT = """
import json, sys
import stripe

stripe.api_key, stripe.api_base, stripe.max_network_retries = "sk_test_1", sys.argv[1], 2

def refused(**fields):
    try:
        stripe.Refund.create(**fields)
    except stripe.StripeError as error:
        return [type(error).__name__, error.http_status, error.code]

def paid(key, **fields):
    return stripe.Refund.create(charge="ch_W1", amount=100, idempotency_key=key, **fields)

def about(refund_id):
    return {"metadata": {"refund_id": refund_id}}

wanted = {**about("rf_1"), "reason": "duplicate", "expand": ["charge"]}
first = paid("k1", **wanted)
parts = [stripe.Refund.create(payment_intent="pi_W1", amount=1).id for _ in range(12)]
pages = stripe.Refund.list(charge="ch_W1", limit=5).auto_paging_iter()
newest = stripe.Refund.list(limit=1, expand=["data.payment_intent"]).data[0]
intent = stripe.PaymentIntent.retrieve("pi_W1", expand=["latest_charge"])
print(json.dumps({
    "status": first.status,
    "charge": first.charge.id,
    "refund_id": first.metadata.refund_id,
    "again": paid("k1", **wanted).id == first.id,
    "reused": refused(charge="ch_W1", amount=2, idempotency_key="k1"),
    "unknown": refused(charge="ch_none"),
    "too_much": refused(charge="ch_W1", amount=10_001),
    "all_pages": [refund.id for refund in pages] == [*parts[::-1], first.id],
    "listed": newest.payment_intent.id,
    "looked_up": stripe.Refund.retrieve(first.id, expand=["payment_intent"]).payment_intent.amount,
    "renamed": stripe.Refund.modify(first.id, **about("rf_2")).metadata.refund_id,
    "given_back": stripe.Charge.retrieve("ch_W1").amount_refunded,
    "disputed": intent.latest_charge.disputed,
    "events": sorted({event.type for event in stripe.Event.list(limit=50).data}),
    "silent": paid("k2", **about("rf_lost")).id == stripe.Refund.list(limit=1).data[0].id,
    "busy": refused(charge="ch_W1", amount=1, **about("rf_busy")),
}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the library saw; the first answer to k2 is lost, and one is told to slow down."""
    python = services.stripe_library()
    home: Path = tmp_path_factory.mktemp("stripe-library")
    with SandboxProcess(home) as process:
        for kind, record in (("customers", customer_record()), ("orders", order_record())):
            httpx.post(f"{process.url}/shop/{kind}", json=[record]).raise_for_status()
        endpoint = "POST /gateway/v1/refunds"
        lost = {
            "endpoint": endpoint,
            "kind": "error_after",
            "times": 1,
            "match": {"refund_id": "rf_lost"},
        }
        busy = {
            "endpoint": endpoint,
            "kind": "rate_limited",
            "times": 1,
            "match": {"refund_id": "rf_busy"},
        }
        rules = [lost, busy | {"retry_after_seconds": 0}]
        httpx.put(f"{process.url}/faults", json={"rules": rules}).raise_for_status()
        done = subprocess.run(
            [python, "-c", CLIENT, f"{process.url}/gateway"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_refunds_are_made_once_per_key_and_read_in_pages(seen: dict[str, Any]) -> None:
    assert (seen["status"], seen["charge"], seen["refund_id"]) == ("succeeded", "ch_W1", "rf_1")
    assert seen["again"]
    assert seen["all_pages"]
    assert (seen["renamed"], seen["given_back"]) == ("rf_2", 112)


def test_refusals_are_the_librarys_own_errors(seen: dict[str, Any]) -> None:
    assert seen["reused"] == ["IdempotencyError", 400, None]
    assert seen["unknown"] == ["InvalidRequestError", 400, "resource_missing"]
    assert seen["busy"][:2] == ["RateLimitError", 429]
    assert seen["too_much"][:2] == ["InvalidRequestError", 400]


def test_what_is_asked_for_is_expanded(seen: dict[str, Any]) -> None:
    assert (seen["listed"], seen["looked_up"], seen["disputed"]) == ("pi_W1", 10_000, False)


def test_the_library_tries_again_under_the_same_key(seen: dict[str, Any]) -> None:
    assert seen["silent"]
    assert {"charge.refunded", "refund.created"} <= set(seen["events"])
