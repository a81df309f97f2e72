"""Each adapter to a payment gateway meets the contract."""

from typing import Any

import pytest

from tasks.gateways import Gateway
from tasks.gateways.stripe import Stripe
from tests.tasks.gateway_conformance import GatewayBench, GatewayConformance
from tests.tasks.tasks_world import PAY, World, fault


class SandboxBench(GatewayBench):
    """The Stripe adapter, and the sandbox's hands."""

    adapter: Gateway = Stripe()
    name = "rf_charge"

    def __init__(self, world: World) -> None:
        self.world = world
        self.run = world.run

    def new_charge(self, captured_minor: int) -> str:
        order_id = self.world.request(paid_minor=captured_minor).order_id
        return f"ch_{order_id.removeprefix('#')}"

    def next_is_pending(self) -> None:
        self.world.faults(fault(PAY.endpoint, "pending"))

    def next_is_declined(self) -> None:
        self.world.faults(fault(PAY.endpoint, "decline"))

    def next_is_blocked(self) -> None:
        self.world.faults(fault(PAY.endpoint, "decline", status=400, code="charge_disputed"))

    def next_acts_and_is_silent(self) -> None:
        self.world.faults(fault(PAY.endpoint, "reset_after"))

    def settle(self, reference: str, status: str) -> None:
        self.world.settle(reference, status)


class TestStripeAdapter(GatewayConformance):
    @pytest.fixture
    def gateway(self, world: World) -> GatewayBench:
        return SandboxBench(world)


class IntentBench(SandboxBench):
    """The same with charges that are known by the payment intent that made them."""

    name = "rf_intent"

    def new_charge(self, captured_minor: int) -> str:
        charge_id = super().new_charge(captured_minor)
        charge = self.world.client.get(
            f"/gateway/v1/charges/{charge_id}", headers={"Authorization": "Bearer sk_test_sandbox"}
        )
        found: dict[str, Any] = charge.raise_for_status().json()
        return str(found["payment_intent"])


class TestStripeAdapterWithPaymentIntents(GatewayConformance):
    @pytest.fixture
    def gateway(self, world: World) -> GatewayBench:
        return IntentBench(world)
