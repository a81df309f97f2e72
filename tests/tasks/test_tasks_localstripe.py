"""Somebody else's imitation of Stripe: it knows no idempotency keys and no failures, and is paid
once all the same, because it is asked before anything is sent again.
"""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from refunds.errors import StepRefused
from refunds.models import PaymentStatus
from sandbox.testing import until
from tasks.gateways import GatewayRefund, PaymentOrder
from tasks.gateways.stripe import Stripe
from tests.house import services
from tests.tasks.tasks_world import PAY, World

KEY = "sk_test_12345"


class Lossy(httpx.AsyncBaseTransport):
    """The way to a server, on which the next answers to a send get lost."""

    def __init__(self) -> None:
        self.lost = 0
        self.sends = 0
        self._way = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._way.handle_async_request(request)
        if request.method == "POST":
            self.sends += 1
            if self.lost:
                self.lost -= 1
                await response.aread()
                raise httpx.ReadTimeout("no answer", request=request)
        return response

    async def aclose(self) -> None:
        await self._way.aclose()


@pytest.fixture(scope="module")
def localstripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """localstripe in a process of its own, spoken to as a shop does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = services.localstripe()
    directory: Path = tmp_path_factory.mktemp("localstripe")
    process = subprocess.Popen(
        [program, "--port", str(port), "--from-scratch"],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=(KEY, "")) as client:
            until(lambda: _answers(client))
            yield client
    finally:
        process.kill()
        process.wait()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v1/refunds").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def way(world: World, localstripe: httpx.Client, reach: Callable[..., None]) -> Iterator[Lossy]:
    way = Lossy()
    reach("gateway", way, gateway_url=str(localstripe.base_url), gateway_key=KEY)
    yield way
    world.run(way.aclose())


def captured(client: httpx.Client, amount_minor: int) -> tuple[str, str]:
    """(charge, payment intent) of a payment that localstripe has captured."""

    def post(path: str, form: dict[str, str]) -> dict[str, Any]:
        made: dict[str, Any] = client.post(path, data=form).raise_for_status().json()
        return made

    card = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2030", "cvc": "123"}
    method = post(
        "/v1/payment_methods",
        {"type": "card", **{f"card[{name}]": value for name, value in card.items()}},
    )
    intent = post(
        "/v1/payment_intents",
        {
            "amount": str(amount_minor),
            "currency": "usd",
            "payment_method": method["id"],
            "confirm": "true",
        },
    )
    return intent["latest_charge"]["id"], intent["id"]


def at_localstripe(world: World, charge_id: str) -> list[GatewayRefund]:
    async def every() -> list[GatewayRefund]:
        return [refund async for refund in Stripe().listed(charge_id)]

    found: list[GatewayRefund] = world.run(every())
    return found


@pytest.mark.parametrize("name", [0, 1], ids=["charge", "payment intent"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_refund_is_paid_once_whatever_gets_lost(
    world: World, way: Lossy, localstripe: httpx.Client, name: int, lost: int
) -> None:
    charge_id = captured(localstripe, 10_000)[name]
    case = world.running(charge_id)
    way.lost = lost
    first = world.perform(PAY, (case,))
    assert first.status is PaymentStatus.SUCCEEDED
    assert world.perform(PAY, (case,)) == first
    (refund,) = at_localstripe(world, charge_id)
    assert (refund["id"], refund["amount"], refund["currency"]) == (first.reference, 1_000, "USD")
    assert (refund["refund_id"], way.sends) == (case.refund_id, 1)


def test_parts_of_a_charge_are_listed_and_looked_up(
    world: World, way: Lossy, localstripe: httpx.Client
) -> None:
    charge_id, _ = captured(localstripe, 10_000)
    adapter = Stripe()
    for number in range(3):
        key = f"rf_ls:{number}"
        order = PaymentOrder("rf_ls", "#W1", charge_id, 100 + number, "USD", "card_1", key)
        made = world.run(adapter.pay(order, key))
        assert world.run(adapter.find(charge_id, key)) == made
        assert world.run(adapter.look_up(made["id"]))["amount"] == 100 + number
    assert {refund["amount"] for refund in at_localstripe(world, charge_id)} == {100, 101, 102}


@pytest.mark.parametrize("name", [0, 1], ids=["charge", "payment intent"])
def test_a_charge_that_nobody_disputes_is_known_as_such(
    world: World, way: Lossy, localstripe: httpx.Client, name: int
) -> None:
    charge_id = captured(localstripe, 10_000)[name]
    assert world.run(Stripe().is_disputed(charge_id)) is False


def test_a_charge_that_it_does_not_have_is_refused(world: World, way: Lossy) -> None:
    order = PaymentOrder("rf_ls", "#W1", "ch_nothing", 100, "USD", "card_1", "rf_ls:none")
    with pytest.raises(StepRefused, match="404"):
        world.run(Stripe().pay(order, "rf_ls:none"))
