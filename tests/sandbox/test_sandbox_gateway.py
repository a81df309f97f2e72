"""The gateway speaks Stripe's refund API."""

from typing import Any

import pytest

from sandbox.testing import AUTHORIZATION, World, order_record

REFUNDS = "/gateway/v1/refunds"


def settle(world: World, refund: str, status: str, **more: str) -> int:
    body = {"refund": refund, "status": status, **more}
    return world.client.put("/gateway/settle", json=body).status_code


def pending(world: World, **fields: Any) -> dict[str, Any]:
    rule = {"endpoint": f"POST {REFUNDS}", "kind": "pending", "times": 1, **fields}
    assert world.faults(rule).status_code == 200
    refund: dict[str, Any] = world.refund(amount=400).json()
    return refund


def refunded_minor(world: World) -> int:
    amount: int = world.get("/gateway/v1/charges/ch_W1").json()["amount_refunded"]
    return amount


def test_a_refund_is_stripes_object(world: World) -> None:
    answer = world.refund(amount=400, reason="duplicate", metadata__refund_id="rf_1")
    assert answer.status_code == 200
    refund = answer.json()
    assert refund.pop("id").startswith("re_")
    assert refund == {
        "object": "refund",
        "amount": 400,
        "balance_transaction": None,
        "charge": "ch_W1",
        "created": int(world.clock().timestamp()),
        "currency": "usd",
        "metadata": {"refund_id": "rf_1"},
        "payment_intent": "pi_W1",
        "reason": "duplicate",
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    assert refunded_minor(world) == 400


def test_without_an_amount_all_that_is_left_is_refunded(world: World) -> None:
    world.refund(amount=400)
    assert world.refund(payment_intent="pi_W1").json()["amount"] == 9_600


def test_a_charge_that_is_refunded_whole_takes_no_more(world: World) -> None:
    world.refund()
    error = world.refund(amount=1).json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "charge_already_refunded")


def test_a_refund_greater_than_what_is_left_is_refused(world: World) -> None:
    world.refund(amount=9_999)
    answer = world.refund(amount=2)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "amount")
    assert "greater than unrefunded amount on charge" in error["message"]
    assert refunded_minor(world) == 9_999


@pytest.mark.parametrize("header", [None, "", "Basic sk_x", "Bearer", "Bearer sk_", "Bearer pk_1"])
def test_a_request_without_a_secret_key_is_not_let_in(world: World, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for answer in (
        world.client.get(REFUNDS, headers=headers),
        world.client.post(REFUNDS, data={"charge": "ch_W1"}, headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert world.effects() == []


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "parameter_missing", "charge"),
        ({"charge": "ch_W1", "payment_intent": "pi_W1"}, None, None),
        ({"charge": "ch_unknown"}, "resource_missing", "charge"),
        ({"payment_intent": "pi_unknown"}, "resource_missing", "payment_intent"),
        ({"charge": ""}, "parameter_invalid_empty", "charge"),
        ({"charge": "c" * 201}, "parameter_invalid_string_length", "charge"),
        ({"charge": "ch_W1", "amount": "0"}, "parameter_invalid_integer", "amount"),
        ({"charge": "ch_W1", "amount": "-5"}, "parameter_invalid_integer", "amount"),
        ({"charge": "ch_W1", "amount": "1.5"}, "parameter_invalid_integer", "amount"),
        ({"charge": "ch_W1", "amount": "٣"}, "parameter_invalid_integer", "amount"),
        ({"charge": "ch_W1", "amount": "9" * 5_000}, "parameter_invalid_integer", "amount"),
        ({"charge": "ch_W1", "amount": "1000000000001"}, "amount_too_large", "amount"),
        ({"charge": "ch_W1", "currency": "eur"}, None, "currency"),
        ({"charge": "ch_W1", "currency": "dollars"}, None, "currency"),
        ({"charge": "ch_W1", "reason": "because"}, None, "reason"),
        ({"charge": "ch_W1", "colour": "red"}, "parameter_unknown", "colour"),
        ({"charge": "ch_W1", "metadata": "x"}, "parameter_unknown", "metadata"),
        ({"charge": "ch_W1", f"metadata[{'k' * 41}]": "v"}, None, "metadata"),
        ({"charge": "ch_W1", "metadata[k]": "v" * 501}, None, "metadata[k]"),
        ({"charge": "ch_W1"} | {f"metadata[{i}]": "v" for i in range(51)}, None, "metadata"),
        ({"charge": "ch_W1", "metadata[refund_to]": "card_bob"}, None, "metadata[refund_to]"),
    ],
)
def test_a_bad_parameter_is_named_and_nothing_is_refunded(
    world: World, fields: dict[str, str], code: str | None, param: str | None
) -> None:
    answer = world.form(REFUNDS, fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert (error.get("code"), error.get("param")) == (code, param)
    assert refunded_minor(world) == 0


def test_a_json_body_is_not_a_form(world: World) -> None:
    answer = world.client.post(REFUNDS, json={"charge": "ch_W1"}, headers=AUTHORIZATION)
    assert answer.status_code == 400


def test_the_currency_may_be_given_in_either_case(world: World) -> None:
    assert world.refund(amount=1, currency="usd").status_code == 200
    assert world.refund(amount=1, currency="USD").status_code == 200


def test_a_refund_may_go_to_the_customers_own_gift_card(world: World) -> None:
    assert world.refund(amount=1, metadata__refund_to="gift_ada_1").status_code == 200


def test_refunds_are_listed_newest_first_in_pages(world: World) -> None:
    world.load(order_record(), order_record("#W2"))
    made = [world.refund(amount=amount).json()["id"] for amount in (1, 2, 3)]
    world.refund(charge="ch_W2", amount=9)
    first = world.get(REFUNDS, charge="ch_W1", limit=2).json()
    assert (first["object"], first["url"], first["has_more"]) == ("list", "/v1/refunds", True)
    assert [refund["id"] for refund in first["data"]] == made[:0:-1]
    rest = world.get(REFUNDS, charge="ch_W1", limit=2, starting_after=made[1]).json()
    assert ([refund["id"] for refund in rest["data"]], rest["has_more"]) == ([made[0]], False)
    back = world.get(REFUNDS, charge="ch_W1", ending_before=made[1]).json()
    assert [refund["id"] for refund in back["data"]] == [made[2]]
    assert len(world.get(REFUNDS).json()["data"]) == 4


def test_a_list_can_start_at_a_moment(world: World) -> None:
    world.refund(amount=1)
    world.clock.advance(60)
    newer = world.refund(amount=2).json()
    listed = world.get(REFUNDS, **{"created[gte]": newer["created"]}).json()["data"]
    assert listed == [newer]
    earlier = world.get(REFUNDS, **{"created[lt]": newer["created"]}).json()["data"]
    assert [refund["amount"] for refund in earlier] == [1]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"starting_after": "re_unknown"},
        {"created[gte]": "yesterday"},
        {"colour": "red"},
        {"starting_after": "re_1", "ending_before": "re_1"},
    ],
)
def test_a_bad_list_parameter_is_refused(world: World, query: dict[str, str]) -> None:
    assert world.get(REFUNDS, **query).status_code == 400


@pytest.mark.parametrize("kind", ["refunds", "charges", "events"])
def test_what_does_not_exist_is_resource_missing(world: World, kind: str) -> None:
    answer = world.get(f"/gateway/v1/{kind}/re_0000000000009999")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "resource_missing")


def test_metadata_are_merged_and_an_empty_value_removes_its_key(world: World) -> None:
    refund = world.refund(amount=1, metadata__a="1", metadata__b="2").json()
    changed = world.form(f"{REFUNDS}/{refund['id']}", {"metadata[b]": "", "metadata[c]": "3"})
    assert changed.json()["metadata"] == {"a": "1", "c": "3"}
    assert world.get(f"{REFUNDS}/{refund['id']}").json() == changed.json()
    cleared = world.form(f"{REFUNDS}/{refund['id']}", {"metadata": ""})
    assert cleared.json()["metadata"] == {}


def test_a_pending_refund_is_settled_by_the_bank_in_its_time(world: World) -> None:
    refund = pending(world, settle_after_seconds=60)
    assert (refund["status"], refunded_minor(world)) == ("pending", 400)
    world.clock.advance(59)
    world.settle_due()
    assert world.get(f"{REFUNDS}/{refund['id']}").json()["status"] == "pending"
    world.clock.advance(1)
    world.settle_due()
    assert world.get(f"{REFUNDS}/{refund['id']}").json()["status"] == "succeeded"


def test_a_refund_that_fails_returns_its_amount_to_the_charge(world: World) -> None:
    refund = pending(world)
    assert settle(world, refund["id"], "failed", failure_reason="declined") == 200
    failed = world.get(f"{REFUNDS}/{refund['id']}").json()
    assert (failed["status"], failed["failure_reason"]) == ("failed", "declined")
    assert refunded_minor(world) == 0
    assert world.refund().json()["amount"] == 10_000


def test_a_refund_can_fail_after_it_succeeded(world: World) -> None:
    world.faults({"endpoint": f"POST {REFUNDS}", "kind": "fail_later", "seconds": 5})
    refund = world.refund(amount=400).json()
    assert refund["status"] == "succeeded"
    world.clock.advance(5)
    world.settle_due()
    assert world.get(f"{REFUNDS}/{refund['id']}").json()["status"] == "failed"
    assert refunded_minor(world) == 0


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_a_refund_that_is_not_settled_can_be_canceled(world: World, status: str) -> None:
    refund = pending(world, start_as=status)
    canceled = world.form(f"{REFUNDS}/{refund['id']}/cancel", {}).json()
    assert (canceled["status"], refunded_minor(world)) == ("canceled", 0)


def test_a_succeeded_refund_cannot_be_canceled(world: World) -> None:
    refund = world.refund(amount=1).json()
    assert world.form(f"{REFUNDS}/{refund['id']}/cancel", {}).status_code == 400


def test_the_bank_does_not_settle_twice(world: World) -> None:
    refund = pending(world)
    assert settle(world, refund["id"], "succeeded") == 200
    assert settle(world, refund["id"], "succeeded") == 409
    assert settle(world, "re_0000000000009999", "failed") == 404
    assert settle(world, refund["id"], "lost") == 422


def test_each_change_is_an_event(world: World) -> None:
    refund = pending(world)
    settle(world, refund["id"], "succeeded")
    settle(world, refund["id"], "failed")
    events = world.get("/gateway/v1/events").json()["data"]
    assert [event["type"] for event in reversed(events)] == [
        "refund.created",
        "refund.updated",
        "charge.refunded",
        "refund.updated",
        "refund.failed",
    ]
    assert world.get(f"/gateway/v1/events/{events[0]['id']}").json() == events[0]
    assert events[0]["data"]["object"]["status"] == "failed"
    assert events[1]["data"]["previous_attributes"] == {"status": "succeeded"}


def test_charges_are_listed_with_their_customer(world: World) -> None:
    [charge] = world.get("/gateway/v1/charges", customer="ada_1").json()["data"]
    assert (charge["id"], charge["payment_method"]) == ("ch_W1", "card_ada_1")


def test_a_disputed_charge_says_so_and_is_not_refunded_until_the_dispute_is_over(
    world: World,
) -> None:
    def dispute(charge: str, *, is_open: bool, ended: str = "won") -> int:
        body = {"charge": charge, "disputed": is_open, "ended": ended}
        return world.client.put("/gateway/dispute", json=body).status_code

    def standing() -> list[str]:
        found = world.get("/gateway/v1/disputes", charge="ch_W1").json()["data"]
        return [each["status"] for each in found]

    world.load()
    for _ in range(2):
        assert dispute("ch_W1", is_open=True) == 200
    assert world.get("/gateway/v1/charges/ch_W1").json()["disputed"] is True
    refused = world.refund(key="k1", amount=1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "charge_disputed")
    assert standing() == ["needs_response"]
    assert dispute("ch_W1", is_open=False, ended="lost") == 200
    assert standing() == ["lost"]
    assert world.refund(key="k2", amount=1).status_code == 400
    for is_open in (True, False):
        assert dispute("ch_W1", is_open=is_open) == 200
    assert standing() == ["won"]
    # As at Stripe it stays a charge that was disputed.
    assert world.get("/gateway/v1/charges").json()["data"][0]["disputed"] is True
    assert world.refund(key="k3", amount=1).status_code == 200
    assert dispute("ch_nobody", is_open=True) == 404
    told = [event["type"] for event in world.get("/gateway/v1/events").json()["data"]]
    assert told[-2:] == ["charge.dispute.closed", "charge.dispute.created"]
