"""Each adapter through each fault: it acts once, and the ledger knows how it ended."""

from typing import Any

import pytest

from refunds.errors import SystemUnavailable
from tests.tasks.fakes import ACTED, FAULTS, FakeServer
from tests.tasks.products import GATEWAYS, PRODUCTS, Product
from tests.tasks.tasks_world import Step, World

each_product = pytest.mark.parametrize(
    "product", (PRODUCTS | GATEWAYS).values(), ids=[*PRODUCTS, *GATEWAYS]
)
each_undoing = pytest.mark.parametrize(
    "product",
    [p for p in PRODUCTS.values() if p.undo],
    ids=[n for n in PRODUCTS if PRODUCTS[n].undo],
)
each_fault = pytest.mark.parametrize("fault", FAULTS)


def _perform(world: World, step: Step, arguments: tuple[Any, ...]) -> None:
    """Perform a step, and again a minute later where the system asked for one."""
    try:
        world.perform(step, arguments)
    except SystemUnavailable:
        world.rested()
        world.perform(step, arguments)


@each_product
@each_fault
def test_it_is_done_once_through_a_fault_that_passes(
    world: World, product: Product, server: FakeServer, fault: str
) -> None:
    case, arguments = world.ready(product.step)
    assert case.charge is not None
    server.hears_of(case.charge.charge_id)
    server.faults = [fault]
    _perform(world, product.step, arguments)
    effect = world.effect(product.step.key(case))
    assert (effect.state, len(server.made)) == ("succeeded", 1)
    # Whoever may be asked is asked; nobody is ever sent it under another key.
    assert set(server.sends) == {product.step.key(case)}
    if product.can_be_asked and fault in ACTED:
        assert len(server.sends) == 1


@each_undoing
@each_fault
def test_it_is_undone_through_a_fault_that_passes(
    world: World, product: Product, server: FakeServer, fault: str
) -> None:
    assert product.undo is not None
    case, arguments = world.ready(product.step)
    made = world.perform(product.step, arguments)
    server.faults = [fault]
    _perform(world, product.undo, (case, made))
    (thing,) = server.made
    assert thing.get("gone") or thing.get("state") == "stopped"
    assert world.effect(product.undo.key(case)).state == "succeeded"
