"""The shop: what is loaded, what is derived from it, and what is refused."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import sandbox
from sandbox.testing import World, customer_record, order_record

RETAIL = Path(sandbox.__file__).parent / "retail"


def retail(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RETAIL / f"{name}.jsonl").read_text().splitlines()]


def select(world: World, query: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(f"file:{world.home / 'shop.db'}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(query)]
    finally:
        connection.close()


def test_the_retail_data_load_whole_and_a_second_time_change_nothing(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        seen = []
        for _ in range(2):
            for name in ("customers", "orders"):
                assert world.client.post(f"/shop/{name}", json=retail(name)).status_code == 200
            counts = world.get("/shop/stats").json()
            books = world.get("/gateway/v1/refunds", limit=100).json()
            seen.append((counts, books, select(world, "SELECT * FROM risk_features")))
    assert seen[0] == seen[1]
    counts = seen[0][0]
    assert (counts["customers"], counts["orders"], counts["charges"]) == (500, 1_000, 1_000)
    assert (counts["refunds"], counts["after_sales"]) == (102, 102)


def test_a_refund_request_names_an_order_and_a_payment_method_that_are_there(
    tmp_path: Path,
) -> None:
    with World(tmp_path) as world:
        for name in ("customers", "orders"):
            world.client.post(f"/shop/{name}", json=retail(name)).raise_for_status()
        methods = {
            (row["customer_id"], row["payment_method_id"])
            for row in select(world, "SELECT * FROM payment_methods")
        }
        orders = {row["order_id"] for row in select(world, "SELECT order_id FROM orders")}
    for request in retail("refund_requests"):
        assert request["order_id"] in orders
        assert (request["customer_id"], request["refund_to"]) in methods


def test_a_cancelled_order_has_nothing_left_and_a_cancellation_record(world: World) -> None:
    world.load(order_record("#W2", paid_minor=700, refunded_minor=700, status="cancelled"))
    charge = world.get("/gateway/v1/charges/ch_W2").json()
    assert (charge["amount"], charge["amount_refunded"], charge["refunded"]) == (700, 700, True)
    [past] = world.get("/gateway/v1/refunds", charge="ch_W2").json()["data"]
    assert (past["status"], past["metadata"]) == ("succeeded", {"source": "history"})
    assert world.refund(charge="ch_W2").json()["error"]["code"] == "charge_already_refunded"
    [record] = select(world, "SELECT * FROM after_sales")
    assert (record["order_id"], record["kind"], record["amount_minor"]) == (
        "#W2",
        "cancellation",
        700,
    )


def test_the_past_is_neither_an_effect_nor_an_event(world: World) -> None:
    world.load(order_record("#W2", paid_minor=700, refunded_minor=700, status="cancelled"))
    assert world.effects() == []
    assert world.get("/gateway/v1/events").json()["data"] == []


def test_risk_features_follow_from_orders_and_payments(world: World) -> None:
    world.load(
        order_record("#W2", paid_minor=700, refunded_minor=700, status="cancelled"),
        order_record("#W3", paid_minor=5, status="pending"),
    )
    world.client.post("/shop/customers", json=[customer_record("new_1")]).raise_for_status()
    [ada, new] = select(world, "SELECT * FROM risk_features ORDER BY customer_id")
    assert ada == {
        "customer_id": "ada_1",
        "orders_total": 3,
        "orders_delivered": 1,
        "orders_pending": 1,
        "orders_processed": 0,
        "orders_cancelled": 1,
        "spent_minor": 10_705,
        "refunded_minor": 700,
        "currency": "USD",
    }
    assert (new["orders_total"], new["spent_minor"], new["currency"]) == (0, 0, None)


def test_a_payment_line_may_name_its_own_charge(world: World) -> None:
    record = order_record("#W2")
    record["payments"][0]["charge_id"] = "ch_other"
    world.load(record)
    assert world.get("/gateway/v1/charges/ch_other").json()["metadata"] == {"order_id": "#W2"}
    assert select(world, "SELECT charge_id FROM payments WHERE order_id = '#W2'") == [
        {"charge_id": "ch_other"}
    ]


def test_several_payments_of_one_order_make_one_charge(world: World) -> None:
    record = order_record("#W2", paid_minor=300)
    record["payments"].append(record["payments"][0] | {"payment_method_id": "gift_ada_1"})
    world.load(record)
    assert world.get("/gateway/v1/charges/ch_W2").json()["amount"] == 600


def test_loading_an_order_again_keeps_the_refunds_made_since(world: World) -> None:
    world.refund(amount=400).raise_for_status()
    world.load(order_record(status="pending"))
    assert world.get("/gateway/v1/charges/ch_W1").json()["amount_refunded"] == 400
    assert select(world, "SELECT status FROM orders") == [{"status": "pending"}]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"status": "lost"}, "status"),
        ({"currency": "usd"}, "currency"),
        ({"items": []}, "items"),
        ({"payments": "cash"}, "payments"),
        ({"order_id": "x" * 201}, "order_id"),
        ({"customer_id": "nobody_1"}, "nobody_1"),
    ],
)
def test_a_bad_order_is_named_by_its_index_and_nothing_is_stored(
    world: World, change: dict[str, Any], named: str
) -> None:
    before = world.get("/shop/stats").json()
    answer = world.client.post(
        "/shop/orders", json=[order_record("#W2"), order_record("#W3") | change]
    )
    assert answer.status_code == 422
    [problem] = answer.json()["errors"]
    assert problem["index"] == 1
    assert named in problem["error"]
    assert world.get("/shop/stats").json() == before


@pytest.mark.parametrize("amount", [0, -1, 1.5, 10**12 + 1, 10**30, "5", None, True])
def test_an_amount_is_a_positive_bounded_integer(world: World, amount: object) -> None:
    record = order_record("#W2")
    record["payments"][0]["amount_minor"] = amount
    assert world.client.post("/shop/orders", json=[record]).status_code == 422


def test_an_order_that_takes_back_what_was_refunded_is_refused(world: World) -> None:
    world.refund(amount=400).raise_for_status()
    answer = world.client.post("/shop/orders", json=[order_record(paid_minor=399)])
    assert "more is refunded" in answer.json()["errors"][0]["error"]


def test_two_orders_cannot_share_a_charge(world: World) -> None:
    record = order_record("#W2")
    record["payments"][0]["charge_id"] = "ch_W1"
    answer = world.client.post("/shop/orders", json=[record])
    assert "belongs to order #W1" in answer.json()["errors"][0]["error"]


def test_two_customers_cannot_share_a_payment_method(world: World) -> None:
    thief = customer_record("eve_1", payment_methods=[{"source": "paypal", "id": "card_ada_1"}])
    assert world.client.post("/shop/customers", json=[thief]).status_code == 422


def test_an_id_twice_in_one_batch_is_refused(world: World) -> None:
    answer = world.client.post("/shop/orders", json=[order_record("#W2"), order_record("#W2")])
    assert answer.json()["errors"][0]["index"] == 1


def test_a_batch_has_at_most_two_thousand_records(world: World) -> None:
    assert world.client.post("/shop/orders", json=[{}] * 2_001).status_code == 422
