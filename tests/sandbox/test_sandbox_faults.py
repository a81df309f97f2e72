"""Faults: each kind does what it says, to whom it says, as often as it says."""

from pathlib import Path
from typing import Any

import pytest

from sandbox.testing import World
from sandbox.wire import ConnectionDropped

REFUNDS = "POST /gateway/v1/refunds"
CASES = "POST /crm/v1/cases"
CASE = {
    "refund_id": "rf_1",
    "customer_id": "ada_1",
    "order_id": "#W1",
    "outcome": "PAID",
    "amount_minor": 400,
    "currency": "USD",
}


@pytest.mark.parametrize(
    ("kind", "status"), [("error_before", 503), ("rate_limited", 429), ("unauthorized", 401)]
)
@pytest.mark.parametrize("endpoint", [REFUNDS, CASES, "*", "POST *", "POST /*"])
def test_a_fault_before_the_act_leaves_nothing_behind(
    world: World, kind: str, status: int, endpoint: str
) -> None:
    fields = {"status": 503} if kind == "error_before" else {}
    world.faults({"endpoint": endpoint, "kind": kind, "times": 1} | fields)

    def send() -> int:
        if endpoint == CASES:
            return world.post("/crm/v1/cases", CASE).status_code
        return world.refund(key="k", amount=400).status_code

    assert send() == status
    assert world.effects() == []
    assert send() in (200, 201)
    assert [effect["sends"] for effect in world.effects()] == [2]


def test_a_rate_limit_says_when_to_come_back(world: World) -> None:
    world.faults({"endpoint": CASES, "kind": "rate_limited", "retry_after_seconds": 7})
    assert world.post("/crm/v1/cases", CASE).headers["Retry-After"] == "7"


@pytest.mark.parametrize("kind", ["error_after", "malformed", "reset_after", "timeout_after"])
def test_a_fault_after_the_act_is_cleared_up_by_asking_again(world: World, kind: str) -> None:
    seconds = {"seconds": 0.01} if kind == "timeout_after" else {}
    world.faults({"endpoint": REFUNDS, "kind": kind, "times": 1} | seconds)
    if kind == "error_after":
        assert world.refund(key="k", amount=400).status_code == 500
    elif kind == "malformed":
        broken = world.refund(key="k", amount=400)
        assert broken.status_code == 200
        with pytest.raises(ValueError, match="Unterminated"):
            broken.json()
    else:
        with pytest.raises(ConnectionDropped):
            world.refund(key="k", amount=400)
    again = world.refund(key="k", amount=400)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["status"] == "succeeded"
    assert len(world.effects()) == 1


def test_a_stored_error_is_replayed_and_never_acted_on(world: World) -> None:
    world.faults({"endpoint": REFUNDS, "kind": "stored_error", "times": 1})
    first = world.refund(key="k", amount=400)
    again = world.refund(key="k", amount=400)
    assert first.status_code == again.status_code == 500
    assert again.headers["Idempotent-Replayed"] == "true"
    assert world.refund(key="other", amount=400).status_code == 200
    assert [effect["key"] for effect in world.effects()] == ["other"]


def test_a_declined_refund_stays_declined_under_its_key(world: World) -> None:
    world.faults({"endpoint": REFUNDS, "kind": "decline", "times": 1, "code": "lost_or_stolen"})
    first = world.refund(key="k", amount=400)
    assert first.status_code == 400
    assert first.json()["error"]["type"] == "card_error"
    assert first.json()["error"]["code"] == "lost_or_stolen"
    assert world.refund(key="k", amount=400).content == first.content
    assert world.effects() == []


def test_a_slow_answer_is_the_true_one(world: World) -> None:
    world.faults({"endpoint": "*", "kind": "slow", "seconds": 0.01})
    assert world.refund(key="k", amount=400).json()["status"] == "succeeded"
    assert len(world.get("/gateway/v1/refunds").json()["data"]) == 1
    assert [effect["sends"] for effect in world.effects()] == [1]


def test_an_arrival_fault_and_an_act_fault_can_meet(world: World) -> None:
    world.faults(
        {"endpoint": REFUNDS, "kind": "pending"},
        {"endpoint": REFUNDS, "kind": "error_after", "times": 1},
    )
    assert world.refund(key="k", amount=400).status_code == 500
    assert world.refund(key="k", amount=400).json()["status"] == "pending"


def test_a_rule_can_be_about_one_refund(world: World) -> None:
    match = {"match": {"refund_id": "rf_1"}}
    world.faults({"endpoint": "*", "kind": "error_before"} | match)
    assert world.refund(amount=1, metadata__refund_id="rf_2").status_code == 200
    assert world.refund(amount=1, metadata__refund_id="rf_1").status_code == 500
    assert world.get("/crm/v1/cases", refund_id="rf_1").status_code == 500
    assert world.get("/crm/v1/cases", refund_id="rf_2").status_code == 200


def test_a_rule_about_one_refund_finds_it_by_what_is_undone(world: World) -> None:
    body = {"refund_id": "rf_1", "order_id": "#W1"}
    hold = world.post("/logistics/v1/holds", body, key="a").json()["hold_id"]
    world.faults(
        {
            "endpoint": "POST /logistics/v1/holds/{id}/release",
            "kind": "error_before",
            "times": 1,
            "match": {"refund_id": "rf_1"},
        }
    )
    release = f"/logistics/v1/holds/{hold}/release"
    assert world.post(release, {}, key="b").status_code == 500
    assert world.post(release, {}, key="b").status_code == 200


def test_a_rule_fires_as_often_as_it_says(world: World) -> None:
    world.faults({"endpoint": CASES, "kind": "error_before", "times": 2})
    statuses = [world.post("/crm/v1/cases", CASE).status_code for _ in range(4)]
    assert statuses == [500, 500, 201, 201]
    [rule] = world.get("/faults").json()["rules"]
    assert (rule["times"], rule["remaining"], rule["fired"]) == (2, 0, 2)


def test_a_seed_draws_the_same_faults_in_any_order(tmp_path: Path) -> None:
    def failed(home: Path, keys: list[int], seed: int) -> set[int]:
        with World(home) as world:
            rule = {"endpoint": CASES, "kind": "error_before", "probability": 0.5}
            world.faults(rule, seed=seed)
            return {
                key
                for key in keys
                if world.post("/crm/v1/cases", CASE, key=str(key)).status_code == 500
            }

    keys = list(range(40))
    drawn = failed(tmp_path / "a", keys, 7)
    assert 0 < len(drawn) < len(keys)
    assert failed(tmp_path / "b", keys[::-1], 7) == drawn
    assert failed(tmp_path / "c", keys, 8) != drawn


def test_faults_can_be_cleared(world: World) -> None:
    world.faults({"endpoint": "*", "kind": "error_before"})
    assert world.client.delete("/faults").json() == {"seed": 0, "rules": []}
    assert world.refund(amount=1).status_code == 200


@pytest.mark.parametrize(
    "rule",
    [
        {"endpoint": "*", "kind": "surprise"},
        {"endpoint": "*"},
        {"endpoint": "POST /gateway/v1/refund", "kind": "error_before"},
        {"endpoint": "POST /faults", "kind": "error_before"},
        {"endpoint": "[", "kind": "error_before"},
        {"endpoint": "*", "kind": "error_before", "colour": "red"},
        {"endpoint": "*", "kind": "error_before", "status": 200},
        {"endpoint": "*", "kind": "error_before", "times": 0},
        {"endpoint": "*", "kind": "error_before", "probability": 1.1},
        {"endpoint": "*", "kind": "error_before", "match": {"colour": "red"}},
        {"endpoint": "*", "kind": "error_before", "match": {"event_type": "refund.failed"}},
        {"endpoint": "*", "kind": "slow"},
        {"endpoint": "*", "kind": "decline"},
        {"endpoint": CASES, "kind": "pending"},
        {"endpoint": REFUNDS, "kind": "webhook_drop"},
        {"endpoint": "webhook", "kind": "error_before"},
    ],
)
def test_a_rule_that_could_never_fire_is_refused_and_the_old_ones_stay(
    world: World, rule: dict[str, Any]
) -> None:
    world.faults({"endpoint": CASES, "kind": "error_before", "times": 5})
    answer = world.faults(rule)
    assert answer.status_code == 422
    assert "rules.0" in answer.json()["error"]["message"]
    assert len(world.get("/faults").json()["rules"]) == 1
    assert world.post("/crm/v1/cases", CASE).status_code == 500
