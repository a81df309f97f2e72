"""Each adapter to a CRM, a voucher service or a warehouse does its step once, whatever happens."""

from collections.abc import Callable
from pathlib import Path

import pytest

from refunds.errors import BadInput, NeedsAttention, StepRefused, StepUnknown, SystemUnavailable
from refunds.ledger import effects
from refunds.systems_mapping import read
from tests.tasks.fakes import Answer, FakeHubSpot, FakeReceiver, FakeServer, FakeVouchers
from tests.tasks.products import MAPPING, PRODUCTS, Product
from tests.tasks.tasks_world import MAKING, World

each_product = pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
each_undoing = pytest.mark.parametrize(
    "product",
    [p for p in PRODUCTS.values() if p.undo],
    ids=[n for n in PRODUCTS if PRODUCTS[n].undo],
)


@each_product
def test_it_is_done_once_and_known_by_the_products_own_id(
    world: World, product: Product, server: FakeServer
) -> None:
    case, arguments = world.ready(product.step)
    first = world.perform(product.step, arguments)
    assert first.reference
    assert world.perform(product.step, arguments) == first
    assert len(server.made) == 1
    assert server.sends == [product.step.key(case)]


@each_product
@pytest.mark.parametrize("fault", ["silent", "garbled"])
def test_what_was_done_before_the_answer_was_lost_is_not_done_again(
    world: World, product: Product, server: FakeServer, fault: str
) -> None:
    case, arguments = world.ready(product.step)
    server.faults = [fault]
    assert world.perform(product.step, arguments).reference
    assert len(server.made) == 1
    # A receiver that answers 2xx has taken it, so a webhook is not even sent twice.
    sends = 1 if product.can_be_asked or (product.server, fault) == (FakeReceiver, "garbled") else 2
    assert server.sends == [product.step.key(case)] * sends
    assert world.effect(product.step.key(case)).state == "succeeded"


@each_product
def test_what_was_not_done_is_asked_for_and_sent_again_under_the_same_key(
    world: World, product: Product, server: FakeServer
) -> None:
    case, arguments = world.ready(product.step)
    server.faults = ["down", "down"]
    world.perform(product.step, arguments)
    assert len(server.made) == 1
    assert set(server.sends) == {product.step.key(case)}


@each_product
def test_what_stays_unknown_is_neither_done_nor_refused(
    world: World, product: Product, server: FakeServer
) -> None:
    case, arguments = world.ready(product.step)
    server.faults = ["down"] * 9
    with pytest.raises(StepUnknown):
        world.perform(product.step, arguments)
    assert (world.effect(product.step.key(case)).state, server.made) == ("unknown", [])


@each_product
def test_a_system_that_is_not_there_did_nothing(
    world: World, product: Product, server: FakeServer
) -> None:
    case, arguments = world.ready(product.step)
    server.faults = ["away"] * 9
    with pytest.raises(SystemUnavailable):
        world.perform(product.step, arguments)
    assert world.effect(product.step.key(case)).state == "intended"
    server.faults.clear()
    world.perform(product.step, arguments)
    assert len(server.made) == 1


@each_product
def test_a_refusal_is_final_until_somebody_mends_it_and_then_a_new_attempt(
    world: World, product: Product, server: FakeServer
) -> None:
    case, arguments = world.ready(product.step)
    server.faults = ["refused"]
    for _ in range(2):
        with pytest.raises(StepRefused, match=str(server.refusal[0])):
            world.perform(product.step, arguments)
    key = product.step.key(case)
    assert (server.sends, server.made) == ([key], [])
    effects.reopen_refused(world.ledger, case.refund_id)
    world.perform(product.step, arguments)
    # Under the old key the product may repeat its old answer.
    assert (server.sends, len(server.made)) == ([key, f"{key}:2"], 1)


@each_undoing
def test_it_is_undone_once(world: World, product: Product, server: FakeServer) -> None:
    assert product.undo is not None
    case, arguments = world.ready(product.step)
    made = world.perform(product.step, arguments)
    first = world.perform(product.undo, (case, made))
    assert first.key == product.undo.key(case)
    assert world.perform(product.undo, (case, made)) == first
    (thing,) = server.made
    assert thing.get("gone") or thing.get("state") == "stopped"


@each_undoing
def test_what_was_undone_before_the_answer_was_lost_is_undone(
    world: World, product: Product, server: FakeServer
) -> None:
    assert product.undo is not None
    case, arguments = world.ready(product.step)
    made = world.perform(product.step, arguments)
    server.faults = ["silent"]
    world.perform(product.undo, (case, made))
    assert world.effect(product.undo.key(case)).state == "succeeded"


_TAKEN = '[{"isValid":false,"error":"CONFLICTING_UNIQUE_VALUE","name":"refund_key"}]'


@pytest.mark.parametrize("product", [PRODUCTS["hubspot"]])
@pytest.mark.parametrize(
    "conflict",
    [
        (409, {"status": "error", "category": "CONFLICT", "message": "it has it"}),
        (400, {"status": "error", "category": "VALIDATION_ERROR", "message": f"Not: {_TAKEN}"}),
    ],
    ids=["conflict", "validation"],
)
def test_a_second_ticket_that_hubspot_will_not_have_is_looked_for(
    world: World, product: Product, server: FakeHubSpot, conflict: Answer
) -> None:
    case, arguments = world.ready(product.step)
    key = product.step.key(case)
    server.conflict = conflict
    server.tickets[key] = {"id": "7", "properties": {"refund_key": key}}
    assert world.perform(product.step, arguments).reference == "7"


def test_a_mapped_system_without_its_mapping_is_for_a_person(
    world: World, reach: Callable[..., None]
) -> None:
    reach("coupons", FakeVouchers(), coupons_adapter="mapped")
    case, arguments = world.ready(MAKING["issue_coupon"])
    with pytest.raises(NeedsAttention, match="REFUNDS_SYSTEMS_MAPPING"):
        world.perform(MAKING["issue_coupon"], arguments)
    assert world.acts(MAKING["issue_coupon"].key(case)) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[coupons", "cannot be read"),
        ("[vouchers]", "vouchers"),
        (MAPPING.replace("{customer_id}", "{iban}"), "coupons.make asks for iban"),
        (MAPPING.replace('path = "/hold"', 'path = "hold"'), "holds.make.path"),
        (MAPPING.replace("absent = [410]", "absent = [200]"), "coupons.undo.absent"),
        (MAPPING.replace("undo = {", "undid = {"), "holds.undo"),
        (MAPPING.replace("{key}", "{key"), "cannot be read|not a valid"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_by_name(
    tmp_path: Path, text: str, wrong: str
) -> None:
    path = tmp_path / "systems.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=wrong):
        read(path)
