"""Our adapter to a gateway that speaks Stripe's refund API meets the contract."""

from typing import Any

import pytest

from tasks import payments
from tests.tasks.gateway_conformance import Gateway, GatewayConformance
from tests.tasks.tasks_world import PAY, World, fault


class StripeAdapter:
    """tasks.payments against the sandbox."""

    def __init__(self, world: World) -> None:
        self.world = world

    def new_charge(self, captured_minor: int) -> str:
        order_id = self.world.request(paid_minor=captured_minor).order_id
        return f"ch_{order_id.removeprefix('#')}"

    def pay(self, charge_id: str, amount_minor: int, key: str) -> dict[str, Any]:
        form = {"charge": charge_id, "amount": str(amount_minor)}
        ours = {"metadata[refund_id]": key.partition(":")[0], "metadata[key]": key}
        call = payments._call("POST", "/v1/refunds", key=key, form=form | ours)
        return payments._kept(self.world.run(call))

    def find(self, charge_id: str, key: str) -> dict[str, Any] | None:
        return self.world.run(payments.find(charge_id, key.partition(":")[0], key))

    def listed(self, charge_id: str) -> list[dict[str, Any]]:
        async def every() -> list[dict[str, Any]]:
            return [refund async for refund in payments.listed(charge_id)]

        return self.world.run(every())

    def look_up(self, reference: str) -> dict[str, Any]:
        return self.world.run(payments.look_up(reference))

    def next_is_pending(self) -> None:
        self.world.faults(fault(PAY.endpoint, "pending"))

    def next_is_declined(self) -> None:
        self.world.faults(fault(PAY.endpoint, "decline"))

    def settle(self, reference: str, status: str) -> None:
        self.world.settle(reference, status)


class TestStripeAdapter(GatewayConformance):
    @pytest.fixture
    def gateway(self, world: World) -> Gateway:
        return StripeAdapter(world)
