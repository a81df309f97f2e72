"""One key acts once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox.testing import World, until

CASE = {
    "refund_id": "rf_1",
    "customer_id": "ada_1",
    "order_id": "#W1",
    "outcome": "PAID",
    "amount_minor": 400,
    "currency": "USD",
    "note": "thanks",
}


def test_the_same_refund_under_the_same_key_is_one_refund(world: World) -> None:
    first = world.refund(key="rf_1:issue_refund", amount=400)
    again = world.refund(key="rf_1:issue_refund", amount=400)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    [effect] = world.effects()
    assert (effect["key"], effect["sends"]) == ("rf_1:issue_refund", 2)


def test_another_amount_under_the_same_key_is_an_idempotency_error(world: World) -> None:
    world.refund(key="k", amount=400)
    answer = world.refund(key="k", amount=401)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "idempotency_error")
    assert len(world.effects()) == 1


def test_a_gateway_key_used_on_another_endpoint_is_an_idempotency_error(world: World) -> None:
    refund = world.refund(key="k", amount=400).json()
    answer = world.form(f"/gateway/v1/refunds/{refund['id']}/cancel", {}, key="k")
    assert answer.json()["error"]["type"] == "idempotency_error"


def test_parameters_in_another_order_are_the_same_request(world: World) -> None:
    path = "/gateway/v1/refunds"
    first = world.form(path, {"charge": "ch_W1", "amount": 1, "metadata[a]": "1"}, key="k")
    again = world.form(path, {"metadata[a]": "1", "amount": 1, "charge": "ch_W1"}, key="k")
    assert again.json() == first.json()


def test_a_refusal_for_want_of_money_is_stored_and_a_bad_parameter_is_not(world: World) -> None:
    world.refund(key="too-much", amount=10_001)
    assert world.refund(key="too-much", amount=10_001).headers["Idempotent-Replayed"] == "true"
    assert world.refund(key="typo", amount=1, currency="eur").status_code == 400
    assert world.refund(key="typo", amount=1, currency="usd").status_code == 200


def test_without_a_key_each_refund_is_a_new_one(world: World) -> None:
    assert world.refund(amount=1).json()["id"] != world.refund(amount=1).json()["id"]
    assert [effect["sends"] for effect in world.effects()] == [1, 1]


def test_a_key_that_another_request_is_using_is_a_conflict(world: World) -> None:
    rule = {"endpoint": "POST /gateway/v1/refunds", "kind": "slow", "seconds": 2, "times": 1}
    world.faults(rule)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.refund, key="k", amount=400)
        until(lambda: world.get("/faults").json()["rules"][0]["fired"] == 1)
        second = world.refund(key="k", amount=400)
        assert first.result().status_code == 200
    assert second.status_code == 409
    assert second.json()["error"]["code"] == "idempotency_key_in_use"
    assert world.refund(key="k", amount=400).headers["Idempotent-Replayed"] == "true"
    assert [effect["sends"] for effect in world.effects()] == [3]


def test_a_key_is_forgotten_after_its_retention_and_acts_again(tmp_path: Path) -> None:
    with World(tmp_path, key_retention_seconds=3_600) as world:
        world.load()
        first = world.refund(key="k", amount=400).json()
        world.clock.advance(3_599)
        assert world.refund(key="k", amount=400).json() == first
        world.clock.advance(1)
        assert world.refund(key="k", amount=400).json()["id"] != first["id"]
        assert [effect["key"] for effect in world.effects()] == ["k", "k"]


def test_other_systems_replay_the_same_body_and_refuse_another(world: World) -> None:
    first = world.post("/crm/v1/cases", CASE)
    again = world.post("/crm/v1/cases", dict(reversed(CASE.items())))
    other = world.post("/crm/v1/cases", CASE | {"amount_minor": 401})
    assert first.status_code == again.status_code == 201
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    [effect] = world.effects()
    assert effect["sends"] == 3


def test_each_system_has_its_own_keys(world: World) -> None:
    coupon = {"refund_id": "r", "customer_id": "c", "amount_minor": 1, "currency": "USD"}
    assert world.post("/crm/v1/cases", CASE, key="k").status_code == 201
    assert world.post("/coupons/v1/coupons", coupon, key="k").status_code == 201


@pytest.mark.parametrize("key", [None, "", "k" * 256, "\x07"])
def test_other_systems_need_a_usable_key(world: World, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = world.client.post("/crm/v1/cases", json=CASE, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_idempotency_key")
