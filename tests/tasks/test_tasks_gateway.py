"""Each adapter to a payment gateway meets the contract."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest

from refunds.errors import NeedsAttention, StepBlocked, StepUnknown, SystemUnavailable
from refunds.settings import settings
from refunds.verify import verify
from tasks import gateways
from tasks.gateways import Gateway, PaymentOrder
from tasks.gateways.paypal import PayPal
from tasks.gateways.stripe import Stripe
from tests.tasks.fakes import Answer, FakePayPal, FakeServer
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

    def dispute(self, charge_id: str) -> None:
        self.put_dispute(charge_id, is_open=True)

    def win(self, charge_id: str) -> None:
        self.put_dispute(charge_id, is_open=False)

    def put_dispute(self, charge_id: str, **how: Any) -> None:
        body = {"charge": charge_id.replace("pi_", "ch_"), "disputed": how.pop("is_open"), **how}
        self.world.client.put("/gateway/dispute", json=body).raise_for_status()

    def settle(self, reference: str, status: str) -> None:
        self.world.settle(reference, status)


class TestStripeAdapter(GatewayConformance):
    @pytest.fixture
    def gateway(self, world: World) -> GatewayBench:
        return SandboxBench(world)

    def test_a_dispute_that_the_customer_won_is_not_over(self, gateway: SandboxBench) -> None:
        """The bank has given the money back: paid by us as well, it would be paid twice."""
        charge = gateway.new_charge(10_000)
        gateway.put_dispute(charge, is_open=True)
        gateway.put_dispute(charge, is_open=False, ended="lost")
        assert gateway.is_disputed(charge)


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


class PayPalBench(GatewayBench):
    """The PayPal adapter against PayPal's rules in memory."""

    name = "rf_paypal"

    def __init__(self, world: World, server: FakePayPal) -> None:
        self.run = world.run
        self.adapter = PayPal()
        self.server = server

    def new_charge(self, captured_minor: int) -> str:
        charge_id = f"CAP{len(self.server.captures)}X"
        self.server.captures[charge_id] = captured_minor
        return charge_id

    def next_is_pending(self) -> None:
        self.server.next_status = "PENDING"

    def next_is_declined(self) -> None:
        self.server.next_issue = "REFUND_REFUSED_BY_PROCESSOR"

    def next_is_blocked(self) -> None:
        self.server.next_issue = "TRANSACTION_DISPUTED"

    def next_acts_and_is_silent(self) -> None:
        self.server.faults.append("silent")

    def dispute(self, charge_id: str) -> None:
        self.server.disputed[charge_id] = "UNDER_REVIEW"

    def win(self, charge_id: str) -> None:
        self.server.disputed[charge_id] = "RESOLVED"

    def settle(self, reference: str, status: str) -> None:
        (refund,) = [refund for refund in self.server.refunds if refund["id"] == reference]
        refund["status"] = {"succeeded": "COMPLETED", "failed": "FAILED"}[status]


class TestPayPalAdapter(GatewayConformance):
    @pytest.fixture
    def gateway(self, world: World, reach: Callable[..., None]) -> GatewayBench:
        server = FakePayPal()
        reach("gateway", server, gateway_url=server.base, gateway_key="client:secret")
        return PayPalBench(world, server)

    def test_a_capture_that_paypal_does_not_know_keeps_nobody_from_comparing_the_books(
        self, gateway: PayPalBench, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case = world.running("CAP-mistyped")
        monkeypatch.setattr(gateways, "gateway", lambda: gateway.adapter)
        report = world.run(verify())
        assert report.counts["gateway_refunds"] == 0
        assert not [problem for problem in report.problems if case.refund_id in problem]

    def test_one_token_serves_many_calls(self, gateway: PayPalBench) -> None:
        charge = gateway.new_charge(10_000)
        for number in range(3):
            gateway.pay(charge, 100, f"{gateway.name}:{number}")
        assert gateway.server.tokens == 1

    def test_calls_that_set_out_together_ask_for_one_token(self, gateway: PayPalBench) -> None:
        charge = gateway.new_charge(10_000)

        async def together() -> None:
            await asyncio.gather(*(gateway.adapter.is_disputed(charge) for _ in range(3)))

        gateway.run(together())
        assert gateway.server.tokens == 1

    def test_an_amount_with_more_digits_than_paypal_has_is_for_a_person(
        self, gateway: PayPalBench
    ) -> None:
        for amount_minor, currency in ((1_234, "KWD"), (1_050, "HUF")):
            with pytest.raises(NeedsAttention, match="exactly"):
                gateway.adapter.check(an_order(amount_minor, currency))
        for amount_minor, currency in ((1_230, "KWD"), (1_000, "HUF"), (7, "JPY"), (1, "USD")):
            gateway.adapter.check(an_order(amount_minor, currency))

    @pytest.mark.parametrize("kind", ["PAYMENT.CAPTURE.REFUNDED", "PAYMENT.REFUND.FAILED"])
    def test_an_event_counts_when_paypal_says_that_it_sent_it(
        self, gateway: PayPalBench, kind: str
    ) -> None:
        about = {"id": "R1", "invoice_id": "rf_1"}
        event = {"id": "WH-E1", "event_type": kind, "resource": about}
        body = b'{"zu":"\\u00fc", "rate": 1.10,' + json.dumps(event).encode()[1:]
        gateway.server.signed, now = body, datetime(2026, 11, 25, tzinfo=UTC)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REFUNDS_WEBHOOK_SECRET", "WH-1")
            settings.cache_clear()
            heard = gateway.run(
                gateway.adapter.event(body, {"paypal-transmission-sig": "signed"}, now)
            )
            assert (heard.event_id, heard.refund, heard.refund_id) == ("WH-E1", "R1", "rf_1")
            with pytest.raises(ValueError, match="did not send"):
                gateway.run(gateway.adapter.event(body, {"paypal-transmission-sig": "no"}, now))

    @pytest.mark.parametrize("place", ["link", "data", "authorization"])
    def test_a_capture_leads_to_its_order_also_by_an_authorization(
        self, gateway: PayPalBench, place: str
    ) -> None:
        charge = gateway.new_charge(10_000)
        gateway.server.order_is_named_by = place
        made = gateway.pay(charge, 400, f"{gateway.name}:{place}")
        assert gateway.find(charge, f"{gateway.name}:{place}") == made

    @pytest.mark.parametrize(
        "issue",
        [
            *("REFUND_FAILED_INSUFFICIENT_FUNDS", "REFUND_FUNDS_NOT_AVAILABLE"),
            *("TRANSACTION_DISPUTED", "CAPTURE_DISPUTED_PARTIAL_REFUND_NOT_ALLOWED"),
            *("REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK", "PENDING_CAPTURE"),
        ],
    )
    def test_what_a_person_or_time_can_mend_at_paypal_is_no_refusal(
        self, gateway: PayPalBench, issue: str
    ) -> None:
        charge = gateway.new_charge(10_000)
        gateway.server.next_issue = issue
        with pytest.raises(StepBlocked, match=issue):
            gateway.pay(charge, 400, f"{gateway.name}:{issue}")

    def test_an_earlier_send_that_paypal_is_still_busy_with_is_no_refusal(
        self, gateway: PayPalBench
    ) -> None:
        charge = gateway.new_charge(10_000)
        gateway.server.next_issue = "PREVIOUS_REQUEST_IN_PROGRESS"
        with pytest.raises(StepUnknown, match="PREVIOUS_REQUEST_IN_PROGRESS"):
            gateway.pay(charge, 400, f"{gateway.name}:busy")


def an_order(amount_minor: int, currency: str) -> PaymentOrder:
    return PaymentOrder("rf_1", "#W1", "ch_1", amount_minor, currency, "card_1", "rf_1:1")


@pytest.mark.parametrize(
    ("amount_minor", "currency", "sent"),
    [
        (1_050, "USD", 1_050),
        (1_050, "JPY", 1_050),
        (10_500, "KWD", 10_500),
        # Stripe keeps two zeros on these, which have no digits.
        (1_050, "ISK", 105_000),
        (1_050, "UGX", 105_000),
        # And takes whole units of this one, which has two digits.
        (10_500, "MGA", 105),
    ],
)
def test_stripe_gets_the_amount_in_its_own_digits_and_gives_it_back_in_ours(
    world: World, reach: Callable[..., None], amount_minor: int, currency: str, sent: int
) -> None:
    server = FakeStripe(currency)
    reach("gateway", server)
    made = world.run(Stripe().pay(an_order(amount_minor, currency), "rf_1:1"))
    assert server.amounts == [str(sent)]
    assert (made["amount"], made["currency"]) == (amount_minor, currency)


@pytest.mark.parametrize(
    ("amount_minor", "currency"), [(10_505, "KWD"), (1, "BHD"), (10_550, "MGA")]
)
def test_an_amount_that_stripe_would_have_to_round_is_for_a_person(
    amount_minor: int, currency: str
) -> None:
    with pytest.raises(NeedsAttention, match="smallest step"):
        Stripe().check(an_order(amount_minor, currency))


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_refusal_that_is_not_in_the_gateways_words_refuses_nothing(
    world: World, reach: Callable[..., None], status: int
) -> None:
    reach("gateway", Page(status))
    with pytest.raises(SystemUnavailable, match="REFUNDS_GATEWAY_URL"):
        world.run(Stripe().pay(an_order(100, "USD"), "rf_1:1"))


@pytest.mark.parametrize(("ending", "status"), [("succeeded", "succeeded"), ("canceled", "failed")])
def test_a_refund_on_which_the_customer_has_to_act_is_pending_until_then(
    world: World, ending: str, status: str
) -> None:
    gateway = SandboxBench(world)
    charge = gateway.new_charge(10_000)
    world.faults(fault(PAY.endpoint, "pending", start_as="requires_action"))
    made = gateway.pay(charge, 400, f"rf_action_{ending}:issue_refund")
    assert made["status"] == "pending"
    gateway.settle(made["id"], ending)
    assert gateway.look_up(made["id"])["status"] == status


@pytest.mark.parametrize(
    "code",
    [
        *("charge_disputed", "refund_disputed_payment"),
        *("balance_insufficient", "insufficient_funds"),
    ],
)
def test_what_a_person_can_mend_at_stripe_is_no_refusal(
    world: World, reach: Callable[..., None], code: str
) -> None:
    class Refusing(FakeServer):
        def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
            return 400, {"error": {"type": "invalid_request_error", "code": code, "message": "No."}}

    reach("gateway", Refusing())
    with pytest.raises(StepBlocked, match=code):
        world.run(Stripe().pay(an_order(100, "USD"), "rf_1:1"))


class FakeStripe(FakeServer):
    """Pays whatever it is asked."""

    def __init__(self, currency: str) -> None:
        super().__init__()
        self.currency = currency
        self.amounts: list[str] = []

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        form = dict(parse_qsl(body.decode()))
        self.amounts.append(form["amount"])
        refund = {"id": "re_1", "status": "succeeded", "currency": self.currency.lower()}
        metadata = {"key": form["metadata[key]"], "refund_id": form["metadata[refund_id]"]}
        return 200, {**refund, "amount": int(form["amount"]), "metadata": metadata}


class Page(FakeServer):
    """A proxy that answers with a page of its own."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        return self.status, "Blocked by policy"
