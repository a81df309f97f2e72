"""What any adapter to a payment gateway must do; a subclass brings its `gateway` fixture."""

from typing import Any, Protocol

import pytest

from refunds.errors import StepRefused


class Gateway(Protocol):
    """An adapter, and the hand on the gateway's other side that its tests need."""

    def new_charge(self, captured_minor: int) -> str:
        """A captured charge with nothing refunded."""
        ...

    def pay(self, charge_id: str, amount_minor: int, key: str) -> dict[str, Any]:
        """Send a refund under a key; what is kept of the answer (id, status, amount …)."""
        ...

    def find(self, charge_id: str, key: str) -> dict[str, Any] | None:
        """The refund that was made under our reference."""
        ...

    def listed(self, charge_id: str) -> list[dict[str, Any]]:
        """Every refund of a charge, over all pages, newest first."""
        ...

    def look_up(self, reference: str) -> dict[str, Any]:
        """One refund by the gateway's own id."""
        ...

    def next_is_pending(self) -> None:
        """Let the next refund be settled later."""
        ...

    def next_is_declined(self) -> None:
        """Let the next refund be refused for good."""
        ...

    def settle(self, reference: str, status: str) -> None:
        """Let a pending refund end."""
        ...


class GatewayConformance:
    """The contract."""

    def test_a_refund_is_made_and_found_by_our_reference(self, gateway: Gateway) -> None:
        charge = gateway.new_charge(10_000)
        assert gateway.find(charge, "rf_c:1") is None
        made = gateway.pay(charge, 400, "rf_c:1")
        assert (made["status"], made["amount"], made["charge"]) == ("succeeded", 400, charge)
        found = gateway.find(charge, "rf_c:1")
        assert found is not None
        assert found["id"] == made["id"]
        assert gateway.look_up(made["id"])["status"] == "succeeded"

    def test_the_same_key_again_answers_the_same_and_pays_once(self, gateway: Gateway) -> None:
        charge = gateway.new_charge(10_000)
        first = gateway.pay(charge, 400, "rf_c:2")
        assert gateway.pay(charge, 400, "rf_c:2") == first
        assert len(gateway.listed(charge)) == 1

    def test_one_key_with_another_amount_is_refused(self, gateway: Gateway) -> None:
        charge = gateway.new_charge(10_000)
        gateway.pay(charge, 400, "rf_c:3")
        with pytest.raises(StepRefused):
            gateway.pay(charge, 500, "rf_c:3")
        assert [refund["amount"] for refund in gateway.listed(charge)] == [400]

    @pytest.mark.parametrize("ending", ["succeeded", "failed"])
    def test_a_pending_refund_settles_later(self, gateway: Gateway, ending: str) -> None:
        charge = gateway.new_charge(10_000)
        gateway.next_is_pending()
        made = gateway.pay(charge, 400, f"rf_c:4:{ending}")
        assert made["status"] == "pending"
        gateway.settle(made["id"], ending)
        assert gateway.look_up(made["id"])["status"] == ending

    def test_a_declined_refund_pays_nothing_and_may_be_asked_under_a_new_key(
        self, gateway: Gateway
    ) -> None:
        charge = gateway.new_charge(10_000)
        gateway.next_is_declined()
        with pytest.raises(StepRefused):
            gateway.pay(charge, 400, "rf_c:5")
        assert gateway.listed(charge) == []
        assert gateway.pay(charge, 400, "rf_c:5:2")["status"] == "succeeded"

    def test_a_declined_refund_stays_declined_under_its_key(self, gateway: Gateway) -> None:
        charge = gateway.new_charge(10_000)
        gateway.next_is_declined()
        for _ in range(2):
            with pytest.raises(StepRefused):
                gateway.pay(charge, 400, "rf_c:6")
        assert gateway.listed(charge) == []

    def test_more_than_is_left_is_refused(self, gateway: Gateway) -> None:
        charge = gateway.new_charge(1_000)
        gateway.pay(charge, 600, "rf_c:7:a")
        with pytest.raises(StepRefused):
            gateway.pay(charge, 401, "rf_c:7:b")
        assert gateway.pay(charge, 400, "rf_c:7:c")["status"] == "succeeded"

    def test_all_refunds_of_a_charge_are_listed_over_the_pages(self, gateway: Gateway) -> None:
        charge, other = gateway.new_charge(10_000), gateway.new_charge(10_000)
        gateway.pay(other, 400, "rf_c:8")
        made = [gateway.pay(charge, 1, f"rf_c:8:{n}")["id"] for n in range(105)]
        assert [refund["id"] for refund in gateway.listed(charge)] == made[::-1]
        oldest = gateway.find(charge, "rf_c:8:0")
        assert oldest is not None
        assert oldest["id"] == made[0]
