"""Money and items are set aside before they are paid, never twice."""

from functools import partial

import pytest
import sqlalchemy as sa

from refunds.errors import ChargeExhausted, LedgerRefusal
from refunds.ledger import charges, effects, grouped, schema
from tests.ledger.ledger_desk import Desk, at_once, new_id


def test_thirty_at_once_never_reserve_more_than_was_captured(desk: Desk) -> None:
    order = desk.order(10_000)
    runners = [
        desk.run(desk.case(order, item_ids=[f"item_{n}"], amount_minor=700)) for n in range(30)
    ]
    results = at_once(*[partial(charges.reserve, desk.ledger, r.case, r.fence) for r in runners])
    assert results.count(None) == 14
    assert {type(result) for result in results if result} == {ChargeExhausted}
    assert desk.money(order) == (9_800, 0)


def test_the_last_cent_can_be_reserved_and_not_one_more(desk: Desk) -> None:
    order = desk.order(1_000)
    desk.paying(desk.case(order, amount_minor=1_000))
    one_more = desk.run(desk.case(order, amount_minor=1, item_ids=["item_1"]))
    with pytest.raises(ChargeExhausted, match=r"less than \$0\.01 left"):
        charges.reserve(desk.ledger, one_more.case, one_more.fence)
    assert "money.reserved" not in desk.events(one_more.refund_id)


def test_reserving_again_changes_nothing(desk: Desk) -> None:
    order = desk.order()
    runner = desk.paying(desk.case(order))
    charges.reserve(desk.ledger, runner.case, runner.fence)
    assert desk.money(order) == (1_000, 0)
    assert desk.events(runner.refund_id).count("money.reserved") == 1


def test_an_item_is_claimed_once(desk: Desk) -> None:
    order = desk.order(items=("lamp", "desk"))
    desk.paying(desk.case(order, item_ids=["lamp"]))
    late = desk.run(desk.case(order, item_ids=["desk", "lamp"]))
    with pytest.raises(ChargeExhausted, match="already refunded by another request: lamp"):
        charges.reserve(desk.ledger, late.case, late.fence)
    assert desk.money(order) == (1_000, 0)


def test_an_item_bought_twice_is_claimed_twice(desk: Desk) -> None:
    order = desk.order(items=("lamp", "lamp"))
    for _ in range(2):
        desk.paying(desk.case(order, item_ids=["lamp"]))
    third = desk.run(desk.case(order, item_ids=["lamp"]))
    with pytest.raises(ChargeExhausted):
        charges.reserve(desk.ledger, third.case, third.fence)


def test_one_item_of_an_order_with_two_charges_is_claimed_once(desk: Desk) -> None:
    order = desk.order(5_000, 5_000, items=("lamp",))
    runners = [
        desk.run(desk.case(order, item_ids=["lamp"], refund_to=f"card_{n % 2}")) for n in range(12)
    ]
    results = at_once(*[partial(charges.reserve, desk.ledger, r.case, r.fence) for r in runners])
    assert results.count(None) == 1
    assert desk.money(order, 0)[0] + desk.money(order, 1)[0] == 1_000


def test_released_money_and_items_are_free_again(desk: Desk) -> None:
    order = desk.order(1_000, items=("lamp",))
    declined = desk.paying(desk.case(order, item_ids=["lamp"]))
    desk.record(declined, "refused", detail="declined")
    assert desk.money(order) == (0, 0)
    desk.paying(desk.case(order, item_ids=["lamp"]))
    assert desk.money(order) == (1_000, 0)


def test_paid_money_is_refunded_and_no_longer_reserved(desk: Desk) -> None:
    order = desk.order()
    runner = desk.paying(desk.case(order))
    desk.record(runner, "succeeded", response={"id": "re_1"})
    assert desk.money(order) == (0, 1_000)
    assert charges.left_on(desk.ledger, order.charges[0].charge_id) == 9_000


@pytest.mark.parametrize("ending", ["unknown", "pending", "intended"])
def test_money_stays_reserved_while_its_ending_is_not_known(desk: Desk, ending: str) -> None:
    order = desk.order()
    desk.record(desk.paying(desk.case(order)), ending)
    assert desk.money(order) == (1_000, 0)


def test_money_that_came_back_is_free_again_once(desk: Desk) -> None:
    order = desk.order()
    runner = desk.paying(desk.case(order))
    desk.record(runner, "succeeded", response={"id": "re_1"})
    for _ in range(2):
        with desk.ledger.page(runner.refund_id) as page:
            charges.book_returned(page)
    assert desk.money(order) == (0, 0)
    assert desk.events(runner.refund_id).count("money.returned") == 1


def test_money_that_was_paid_cannot_be_released(desk: Desk) -> None:
    order = desk.order()
    runner = desk.paying(desk.case(order))
    desk.record(runner, "succeeded", response={"id": "re_1"})
    with pytest.raises(LedgerRefusal), desk.ledger.page(runner.refund_id) as page:
        charges.book_released(page, charges.reservation_of(page))
    assert desk.money(order) == (0, 1_000)


def test_a_charge_keeps_what_was_refunded_before_we_came(desk: Desk) -> None:
    charge_id = new_id("ch")
    assert charges.open_charge(desk.ledger, charge_id, "USD", 1_000, 300) == 700
    assert charges.open_charge(desk.ledger, charge_id, "USD", 1_000, 900) == 700


def test_a_charge_opened_by_many_at_once_is_opened_once(desk: Desk) -> None:
    charge_id = new_id("ch")
    left = at_once(*[partial(charges.open_charge, desk.ledger, charge_id, "USD", 1_000, 0)] * 8)
    assert left == [1_000] * 8


@pytest.mark.parametrize(
    "wrong", [{"reserved_minor": 9_001}, {"reserved_minor": -1}, {"refunded_minor": -1}]
)
def test_the_database_itself_refuses_impossible_amounts(desk: Desk, wrong: dict[str, int]) -> None:
    order = desk.order()
    runner = desk.paying(desk.case(order))
    desk.record(runner, "succeeded", response={"id": "re_1"})
    with pytest.raises(sa.exc.IntegrityError), desk.ledger.writing() as connection:
        connection.execute(
            schema.charges.update()
            .where(schema.charges.c.charge_id == order.charges[0].charge_id)
            .values(**wrong)
        )


def test_a_payment_cannot_be_intended_before_its_money_is_reserved(desk: Desk) -> None:
    runner = desk.run()
    with pytest.raises(LedgerRefusal, match="no money is reserved"):
        desk.intend(runner)
    assert "effect.intended" not in desk.events(runner.refund_id)


@pytest.mark.parametrize("way", ["one", "many"])
@pytest.mark.parametrize("wrong", [{"charge": "ch_of_another"}, {"amount": "999"}])
def test_a_payment_cannot_be_intended_of_other_money_than_is_reserved(
    desk: Desk, wrong: dict[str, str], way: str
) -> None:
    runner = desk.run()
    charges.reserve(desk.ledger, runner.case, runner.fence)
    assert runner.case.charge is not None
    content = {"charge": runner.case.charge.charge_id, "amount": "1000"} | wrong
    refusal = "is reserved, and the payment would be"
    if way == "one":
        with pytest.raises(LedgerRefusal, match=refusal):
            desk.intend(runner, **content)
    else:
        key = runner.payment_key
        intent = effects.Intent(key, effects.PAYMENT_STEP, "gateway", content, runner.fence)
        tried = grouped.intend(desk.ledger, {runner.refund_id: intent}, lambda _page, _effect: None)
        assert refusal in str(tried.failed[runner.refund_id])
    assert effects.read(desk.ledger, runner.payment_key) is None
