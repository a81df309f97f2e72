"""What any adapter to a payment gateway must do; a subclass brings its `gateway` fixture."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from refunds.errors import StepBlocked, StepRefused, StepUnknown
from tasks.gateways import Gateway, GatewayRefund, PaymentOrder


class GatewayBench(ABC):
    """An adapter, and the hand on the gateway's other side that its tests need."""

    adapter: Gateway
    # The refund that all these payments are of, at this gateway.
    name: str
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    @abstractmethod
    def new_charge(self, captured_minor: int) -> str:
        """A captured charge in USD with nothing refunded."""

    @abstractmethod
    def next_is_pending(self) -> None:
        """Let the next refund be settled later."""

    @abstractmethod
    def next_is_declined(self) -> None:
        """Let the next refund be refused for good."""

    @abstractmethod
    def next_is_blocked(self) -> None:
        """Let the next refund be refused for an open dispute."""

    @abstractmethod
    def next_acts_and_is_silent(self) -> None:
        """Let the next refund be made, and its answer get lost."""

    @abstractmethod
    def dispute(self, charge_id: str) -> None:
        """Let the customer ask the bank for a charge's money."""

    @abstractmethod
    def win(self, charge_id: str) -> None:
        """Let the bank decide the dispute for us."""

    @abstractmethod
    def settle(self, reference: str, status: str) -> None:
        """Let a pending refund end."""

    def pay(
        self, charge_id: str, amount_minor: int, key: str, wire_key: str | None = None
    ) -> GatewayRefund:
        """Send a refund under a key."""
        order = PaymentOrder(
            refund_id=key.partition(":")[0],
            order_id="#W1",
            charge_id=charge_id,
            amount_minor=amount_minor,
            currency="USD",
            refund_to="card_ada_1",
            key=key,
        )
        self.adapter.check(order)
        made: GatewayRefund = self.run(self.adapter.pay(order, wire_key or key))
        return made

    def find(self, charge_id: str, key: str) -> GatewayRefund | None:
        """The refund that was made under our reference."""
        found: GatewayRefund | None = self.run(self.adapter.find(charge_id, key))
        return found

    def look_up(self, reference: str) -> GatewayRefund:
        """One refund by the gateway's own id."""
        found: GatewayRefund = self.run(self.adapter.look_up(reference))
        return found

    def is_disputed(self, charge_id: str) -> bool:
        """Whether the bank decides about a charge's money."""
        found: bool = self.run(self.adapter.is_disputed(charge_id))
        return found

    def listed(self, charge_id: str) -> list[GatewayRefund]:
        """Every refund of a charge, over all pages, newest first."""

        async def every() -> list[GatewayRefund]:
            return [refund async for refund in self.adapter.listed(charge_id)]

        found: list[GatewayRefund] = self.run(every())
        return found


class GatewayConformance:
    """The contract."""

    def test_a_refund_is_made_and_found_by_our_reference(self, gateway: GatewayBench) -> None:
        charge = gateway.new_charge(10_000)
        assert gateway.find(charge, f"{gateway.name}:1") is None
        made = gateway.pay(charge, 400, f"{gateway.name}:1")
        assert (made["status"], made["amount"], made["charge"]) == ("succeeded", 400, charge)
        assert (made["currency"], made["key"], made["refund_id"]) == (
            "USD",
            f"{gateway.name}:1",
            gateway.name,
        )
        assert gateway.find(charge, f"{gateway.name}:1") == made
        found = gateway.look_up(made["id"])
        assert (found["status"], found["key"], found["amount"]) == (
            "succeeded",
            f"{gateway.name}:1",
            400,
        )

    def test_the_same_key_again_answers_the_same_and_pays_once(self, gateway: GatewayBench) -> None:
        charge = gateway.new_charge(10_000)
        first = gateway.pay(charge, 400, f"{gateway.name}:2")
        assert gateway.pay(charge, 400, f"{gateway.name}:2") == first
        assert len(gateway.listed(charge)) == 1

    def test_one_key_with_another_amount_pays_nothing_more_and_is_no_refusal(
        self, gateway: GatewayBench
    ) -> None:
        charge = gateway.new_charge(10_000)
        gateway.pay(charge, 400, f"{gateway.name}:3")
        with pytest.raises(StepUnknown):
            gateway.pay(charge, 500, f"{gateway.name}:3")
        assert [refund["amount"] for refund in gateway.listed(charge)] == [400]

    @pytest.mark.parametrize("ending", ["succeeded", "failed"])
    def test_a_pending_refund_settles_later(self, gateway: GatewayBench, ending: str) -> None:
        charge = gateway.new_charge(10_000)
        gateway.next_is_pending()
        made = gateway.pay(charge, 400, f"{gateway.name}:4:{ending}")
        assert made["status"] == "pending"
        gateway.settle(made["id"], ending)
        found = gateway.look_up(made["id"])
        assert found["status"] == ending
        assert bool(found.get("failure_reason")) is (ending == "failed")

    def test_a_declined_refund_pays_nothing_and_may_be_asked_under_a_new_key(
        self, gateway: GatewayBench
    ) -> None:
        charge = gateway.new_charge(10_000)
        gateway.next_is_declined()
        with pytest.raises(StepRefused):
            gateway.pay(charge, 400, f"{gateway.name}:5")
        assert gateway.listed(charge) == []
        assert gateway.pay(charge, 400, f"{gateway.name}:5:2")["status"] == "succeeded"

    def test_a_declined_refund_stays_declined_under_its_key(self, gateway: GatewayBench) -> None:
        charge = gateway.new_charge(10_000)
        gateway.next_is_declined()
        for _ in range(2):
            with pytest.raises(StepRefused):
                gateway.pay(charge, 400, f"{gateway.name}:6")
        assert gateway.listed(charge) == []

    def test_a_disputed_charge_is_not_paid_and_not_refused_and_a_new_attempt_may_pay(
        self, gateway: GatewayBench
    ) -> None:
        charge = gateway.new_charge(10_000)
        gateway.next_is_blocked()
        for _ in range(2):
            with pytest.raises(StepBlocked):
                gateway.pay(charge, 400, f"{gateway.name}:9")
        assert gateway.listed(charge) == []
        assert (
            gateway.pay(charge, 400, f"{gateway.name}:9", f"{gateway.name}:9:2")["status"]
            == "succeeded"
        )
        found = gateway.find(charge, f"{gateway.name}:9")
        assert found is not None

    def test_a_charge_that_the_customer_disputes_is_known_as_such(
        self, gateway: GatewayBench
    ) -> None:
        charge, other = gateway.new_charge(10_000), gateway.new_charge(10_000)
        gateway.dispute(charge)
        assert (gateway.is_disputed(charge), gateway.is_disputed(other)) == (True, False)
        gateway.win(charge)
        assert not gateway.is_disputed(charge)

    def test_a_refund_whose_answer_was_lost_is_found(self, gateway: GatewayBench) -> None:
        charge = gateway.new_charge(10_000)
        gateway.next_acts_and_is_silent()
        with pytest.raises(StepUnknown):
            gateway.pay(charge, 400, f"{gateway.name}:10")
        found = gateway.find(charge, f"{gateway.name}:10")
        assert found is not None
        assert found["status"] == "succeeded"

    def test_more_than_is_left_is_refused(self, gateway: GatewayBench) -> None:
        charge = gateway.new_charge(1_000)
        gateway.pay(charge, 600, f"{gateway.name}:7:a")
        with pytest.raises(StepRefused):
            gateway.pay(charge, 401, f"{gateway.name}:7:b")
        assert gateway.pay(charge, 400, f"{gateway.name}:7:c")["status"] == "succeeded"

    def test_a_charge_that_is_not_there_is_refused(self, gateway: GatewayBench) -> None:
        with pytest.raises(StepRefused):
            gateway.pay(f"{gateway.new_charge(1_000)}9", 400, f"{gateway.name}:11")

    def test_all_refunds_of_a_charge_are_listed_over_the_pages(self, gateway: GatewayBench) -> None:
        charge, other = gateway.new_charge(10_000), gateway.new_charge(10_000)
        gateway.pay(other, 400, f"{gateway.name}:8")
        made = [gateway.pay(charge, 1, f"{gateway.name}:8:{n}")["id"] for n in range(105)]
        assert [refund["id"] for refund in gateway.listed(charge)] == made[::-1]
        oldest = gateway.find(charge, f"{gateway.name}:8:0")
        assert oldest is not None
        assert oldest["id"] == made[0]
