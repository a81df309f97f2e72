"""A sandbox inside the test's own process, with a clock that the test moves."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from httpx2 import Response
from starlette.testclient import TestClient

from sandbox.app import Sandbox, Settings

AUTHORIZATION = {"Authorization": "Bearer sk_test_sandbox"}


# What a test waits for takes milliseconds, and on a busy machine longer.
_PATIENCE_SECONDS = 240


def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; raises TimeoutError when it never does."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the present moment."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


def customer_record(customer_id: str = "ada_1", **changes: Any) -> dict[str, Any]:
    """Return a customer with a card and a gift card."""
    record = {
        "customer_id": customer_id,
        "name": "Ada",
        "email": f"{customer_id}@example.com",
        "state": "NY",
        "zip": "10001",
        "payment_methods": [
            {
                "source": "credit_card",
                "brand": "visa",
                "last_four": "4242",
                "id": f"card_{customer_id}",
            },
            {"source": "gift_card", "balance": 51, "id": f"gift_{customer_id}"},
        ],
        "orders": [],
    }
    return record | changes


def order_record(
    order_id: str = "#W1",
    *,
    paid_minor: int = 10_000,
    refunded_minor: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    """Return an order with one item, paid by card and perhaps refunded."""
    payments = [{"type": "payment", "amount_minor": paid_minor, "payment_method_id": "card_ada_1"}]
    if refunded_minor:
        refund = {"type": "refund", "amount_minor": refunded_minor}
        payments.append(refund | {"payment_method_id": "card_ada_1"})
    record = {
        "order_id": order_id,
        "customer_id": "ada_1",
        "status": "delivered",
        "currency": "USD",
        "ship_to": {"state": "NY", "zip": "10001", "country": "USA"},
        "items": [
            {
                "item_id": "i1",
                "product_id": "p1",
                "name": "Lamp",
                "price_minor": paid_minor,
                "options": {"colour": "red"},
            }
        ],
        "fulfillments": [{"tracking_id": ["t1"], "item_ids": ["i1"]}],
        "payments": payments,
    }
    return record | changes


class World:
    """A sandbox with a client; use it in a `with` statement."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home = home
        self.clock = FakeClock()
        self.sandbox = Sandbox(Settings(home=home, **settings), self.clock)
        self.client = TestClient(self.sandbox.app, base_url="http://sandbox")

    def __enter__(self) -> Self:
        self.client.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.client.__exit__(kind, problem, traceback)

    def load(self, *orders: dict[str, Any]) -> None:
        """Load one customer and `orders`; one delivered order of 10,000 when none is given."""
        self.client.post("/shop/customers", json=[customer_record()]).raise_for_status()
        records = list(orders) or [order_record()]
        self.client.post("/shop/orders", json=records).raise_for_status()

    def get(self, path: str, **params: str | int) -> Response:
        """Ask with the gateway's key, which the other systems pass over."""
        return self.client.get(path, params=params, headers=AUTHORIZATION)

    def post(self, path: str, body: object = None, *, key: str = "k") -> Response:
        """Post JSON to one of the systems that speak it."""
        return self.client.post(path, json=body, headers={"Idempotency-Key": key})

    def form(
        self, path: str, fields: Mapping[str, str | int], *, key: str | None = None
    ) -> Response:
        """Post a form to the gateway."""
        headers = AUTHORIZATION | ({"Idempotency-Key": key} if key else {})
        return self.client.post(path, data=dict(fields), headers=headers)

    def refund(self, *, key: str | None = None, **fields: str | int) -> Response:
        """Refund on the charge of order #W1 unless `fields` say otherwise."""
        named = {name.replace("__", "[", 1) + "]": v for name, v in fields.items() if "__" in name}
        plain = {name: value for name, value in fields.items() if "__" not in name}
        if "payment_intent" not in plain:
            plain.setdefault("charge", "ch_W1")
        return self.form("/gateway/v1/refunds", plain | named, key=key)

    def faults(self, *rules: dict[str, Any], seed: int = 0) -> Response:
        """Replace the faults."""
        return self.client.put("/faults", json={"seed": seed, "rules": list(rules)})

    def settle_due(self) -> None:
        """Let the bank settle what is due by the test's clock."""
        assert self.client.portal is not None  # noqa: S101  entered
        self.client.portal.call(self.sandbox.bank.settle_due)

    def effects(self, **params: str | int) -> list[dict[str, Any]]:
        """Return the acts so far."""
        acts: list[dict[str, Any]] = self.get("/effects", **params).json()["effects"]
        return acts
