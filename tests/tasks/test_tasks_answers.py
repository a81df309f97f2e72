"""An answer that is not in the shape it should be is an unknown ending, and never a crash."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from refunds.errors import StepFailed, StepUnknown
from refunds.models import Case, Outcome
from tasks.coupons import coupon
from tasks.crm import crm_case
from tasks.effect import Action
from tasks.gateways import Gateway, PaymentOrder
from tasks.gateways.paypal import PayPal
from tasks.gateways.stripe import Stripe
from tasks.logistics import return_label, shipment_hold
from tests.tasks.fakes import Answer, FakePayPal, FakeReceiver, FakeServer
from tests.tasks.products import PRODUCTS, Product
from tests.tasks.tasks_world import World

Call = Callable[[], Awaitable[Any]]

# What may stand in the place of anything.
JUNK: tuple[Any, ...] = (None, True, 7, "x", [None], {"x": 1})

Place = tuple[str | int, ...]


class Bent(httpx.AsyncBaseTransport):
    """The way to a server on which one part of one answer is replaced."""

    def __init__(self, way: httpx.AsyncBaseTransport) -> None:
        self._way = way
        self.places: list[tuple[int, Place]] = []
        self.bend: tuple[int, Place, Any] | None = None
        self._count = 0

    def again(self, bend: tuple[int, Place, Any] | None) -> None:
        """From here on this part of this answer is bent."""
        self.bend, self._count, self.places = bend, 0, []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._way.handle_async_request(request)
        body = await response.aread()
        answer = json.loads(body) if body else None
        if not response.is_success:
            return response
        number, self._count = self._count, self._count + 1
        self.places += [(number, place) for place in _places(answer)]
        if self.bend is not None and self.bend[0] == number:
            answer = _bent(answer, self.bend[1], self.bend[2])
        return httpx.Response(response.status_code, json=answer)

    async def aclose(self) -> None:
        await self._way.aclose()


def _places(answer: Any, above: Place = ()) -> Iterator[Place]:
    yield above
    inner = (
        answer.items()
        if isinstance(answer, dict)
        else enumerate(answer)
        if isinstance(answer, list)
        else ()
    )
    for name, part in inner:
        yield from _places(part, (*above, name))


def _bent(answer: Any, place: Place, junk: Any) -> Any:
    if not place:
        return junk
    copy = answer.copy()
    copy[place[0]] = _bent(answer[place[0]], place[1:], junk)
    return copy


async def _every_bend(way: Bent, call: Call) -> int:
    """Make a call with each part of each answer bent; returns how many of them were found out."""
    way.again(None)
    await call()
    found_out = 0
    for number, place in way.places.copy():
        for junk in JUNK:
            way.again((number, place, junk))
            try:
                await call()
            except StepFailed:
                found_out += 1
    return found_out


MAKING: dict[str, Callable[[Case], Action]] = {
    "sync_crm": lambda case: crm_case(case, Outcome.PAID, "Paid."),
    "issue_coupon": coupon,
    "hold_shipment": shipment_hold,
    "create_return_label": return_label,
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_a_system_that_makes_things(
    world: World, product: Product, server: FakeServer, reach: Callable[..., None]
) -> None:
    case = world.running()
    action = MAKING[product.step.task.name](case)
    way = Bent(server)
    reach(action.system, way)
    found_out = world.run(_every_bend(way, lambda: action.send(action.key)))
    found_out += world.run(_every_bend(way, lambda: action.ask(action.key)))
    # Whatever a webhook answers with a 2xx, it has taken it.
    assert bool(found_out) is (product.server is not FakeReceiver)


def _calls(gateway: Gateway, order: PaymentOrder, refund: str) -> list[Call]:
    async def every() -> list[Any]:
        return [found async for found in gateway.listed(order.charge_id)]

    return [
        lambda: gateway.pay(order, order.key),
        lambda: gateway.look_up(refund),
        every,
        # The last: what does not say that a charge is disputed says that it is not.
        lambda: gateway.is_disputed(order.charge_id),
    ]


def test_paypal(world: World, reach: Callable[..., None]) -> None:
    server = FakePayPal()
    server.captures["CAP1X"] = 10_000
    server.disputed["CAP1X"] = "UNDER_REVIEW"
    way = Bent(server)
    reach("gateway", way, gateway_url=server.base, gateway_key="client:secret")
    order = PaymentOrder("rf_1", "#W1", "CAP1X", 400, "USD", "card_ada_1", "rf_1:issue_refund")
    gateway = PayPal()
    made = world.run(gateway.pay(order, order.key))

    def with_a_new_token(call: Call) -> Call:
        async def asked() -> None:
            gateway._token_ends_at = 0.0
            await call()

        return asked

    for call in _calls(gateway, order, made["id"]):
        assert world.run(_every_bend(way, with_a_new_token(call)))


@pytest.mark.parametrize("is_intent", [False, True], ids=["charge", "payment intent"])
def test_stripe(world: World, reach: Callable[..., None], is_intent: bool) -> None:
    request = world.request()
    refund_id, charge = (
        request.refund_id,
        request.order_id.replace("#", "pi_" if is_intent else "ch_"),
    )
    order = PaymentOrder(
        refund_id, request.order_id, charge, 400, "USD", "card_ada_1", f"{refund_id}:issue_refund"
    )
    gateway = Stripe()
    made = world.run(gateway.pay(order, order.key))
    way = Bent(httpx.AsyncHTTPTransport())
    reach("gateway", way)
    *others, is_disputed = _calls(gateway, order, made["id"])
    for call in () if is_intent else others:
        assert world.run(_every_bend(way, call))
    world.run(_every_bend(way, is_disputed))
    world.run(way.aclose())


def test_a_list_that_never_ends_is_given_up(world: World, reach: Callable[..., None]) -> None:
    class Endless(FakeServer):
        def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
            refund = {"id": "re_1", "status": "succeeded", "amount": 1, "currency": "usd"}
            return 200, {"data": [refund], "has_more": True}

    reach("gateway", Endless())
    with pytest.raises(StepUnknown, match="does not end"):
        world.run(Stripe().find("ch_1", "rf_1:issue_refund"))


def test_a_simulator_that_knows_refunds_only_knows_of_no_disputes(
    world: World, reach: Callable[..., None]
) -> None:
    class RefundsOnly(FakeServer):
        def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
            return 404, {"detail": "Not Found"}

    reach("gateway", RefundsOnly())
    for charge in ("ch_1", "pi_1"):
        assert world.run(Stripe().is_disputed(charge)) is False
