"""The door for programs: what it takes, what it refuses, and how it says so."""

from typing import Any

import pytest

from refunds.ledger import requests
from refunds.ledger.access import api_keys
from refunds.scopes import Scope
from tests.service.service_world import World

PROBLEM = "application/problem+json"


def test_a_request_is_taken_once_however_often_it_is_sent(desk: World) -> None:
    key, wanted = desk.key(Scope.WRITE), desk.request()
    answers = [desk.client.post("/refunds", json=wanted, headers=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert answers[0].json() == {
        "refund_id": wanted["refund_id"],
        "run_id": None,
        "state": "received",
    }
    assert answers[0].headers["Location"] == f"/refunds/{wanted['refund_id']}"
    assert len(requests.listed(desk.ledger)) == 1


def test_the_same_id_with_other_content_is_a_conflict_that_names_the_fields(desk: World) -> None:
    key, wanted = desk.key(Scope.WRITE), desk.request()
    desk.client.post("/refunds", json=wanted, headers=key)
    answer = desk.client.post("/refunds", json={**wanted, "reason": "other"}, headers=key)
    assert (answer.status_code, answer.headers["Content-Type"]) == (409, PROBLEM)
    assert "another reason" in answer.json()["detail"]


def test_every_wrong_field_is_named_and_nothing_is_stored(desk: World) -> None:
    wrong = {**desk.request(), "amount_minor": 12.5, "currency": "usd", "kind": "gift", "colr": 1}
    del wrong["refund_to"]
    answer = desk.client.post("/refunds", json=wrong, headers=desk.key(Scope.WRITE))
    assert answer.status_code == 422
    named = {problem["field"]: problem["problem"] for problem in answer.json()["problems"]}
    assert set(named) == {"amount_minor", "currency", "kind", "colr", "refund_to"}
    assert named["refund_to"] == "is missing"
    assert "whole number of minor units" in named["amount_minor"]
    assert requests.listed(desk.ledger) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"refund_id": "a", "refund_id": "b"}', "twice"),
        (b'{"amount_minor": NaN}', "NaN is not JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not UTF-8"),
        (b"[" * 50_000, "nested too deeply"),
        (b'{"amount_minor": ' + b"9" * 5_000 + b"}", "digits"),
    ],
    ids=lambda value: repr(value[:16]),
)
def test_json_is_read_as_strictly_as_in_a_file(desk: World, body: bytes, said: str) -> None:
    headers = {**desk.key(Scope.WRITE), "Content-Type": "application/json"}
    answer = desk.client.post("/refunds", content=body, headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, PROBLEM)
    assert said in answer.json()["detail"]


def test_an_order_that_the_shop_does_not_know_is_refused(desk: World) -> None:
    wanted = {**desk.request(), "order_id": "#nowhere"}
    answer = desk.client.post("/refunds", json=wanted, headers=desk.key(Scope.WRITE))
    assert answer.status_code == 409
    assert "the shop has no order #nowhere" in answer.json()["detail"]
    assert requests.listed(desk.ledger) == []


def test_a_body_larger_than_any_request_is_refused(desk: World) -> None:
    headers = {**desk.key(Scope.WRITE), "Content-Type": "application/json"}
    answer = desk.client.post("/refunds", content=b" " * (256 * 1024 + 1), headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, PROBLEM)

    def in_parts() -> Any:
        for _ in range(300):
            yield b" " * 1024

    streamed = desk.client.post("/refunds", content=in_parts(), headers=headers)
    assert streamed.status_code == 413


def test_a_list_is_worked_through_page_by_page(desk: World) -> None:
    ids = sorted(desk.waiting() for _ in range(5))
    key, found, cursor = desk.key(Scope.READ), list[str](), None
    for _ in range(3):
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = desk.client.get("/refunds", params=params, headers=key).json()
        found += [refund["refund_id"] for refund in page["refunds"]]
        cursor = page["next_cursor"]
    assert (found, cursor) == (ids, None)


def test_a_list_is_narrowed_by_what_is_asked(desk: World) -> None:
    waiting = desk.waiting(currency="EUR")
    desk.waiting()
    key = desk.key(Scope.READ)
    for params in ({"currency": "EUR"}, {"state": "awaiting_approval", "currency": "EUR"}):
        page = desk.client.get("/refunds", params=params, headers=key).json()
        assert [refund["refund_id"] for refund in page["refunds"]] == [waiting]
    assert desk.client.get("/refunds?state=paid", headers=key).status_code == 422
    assert desk.client.get("/refunds?colour=red", headers=key).status_code == 422
    assert desk.client.get("/refunds?cursor=/", headers=key).status_code == 422


def test_a_refund_shows_its_approval_and_its_history(desk: World) -> None:
    refund_id, key = desk.waiting(), desk.key(Scope.READ)
    shown = desk.client.get(f"/refunds/{refund_id}", headers=key).json()
    assert shown["approval"]["digest"] == desk.standing(refund_id).digest
    events = desk.client.get(f"/refunds/{refund_id}/history", headers=key).json()["events"]
    assert events[0]["event"] == "refund.submitted"
    assert events[1]["previous_digest"] == events[0]["digest"]


@pytest.mark.parametrize("path", ["/refunds/rf_none", "/refunds/rf_none/history"])
def test_an_unknown_refund_is_not_found(desk: World, path: str) -> None:
    answer = desk.client.get(path, headers=desk.key(Scope.READ))
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, PROBLEM)


def test_a_key_decides_as_its_person_on_the_digest_that_was_shown(desk: World) -> None:
    refund_id, key = desk.waiting(), desk.key(Scope.DECIDE, person="ann")
    body = {"decision": "approve", "digest": desk.standing(refund_id).digest, "reason": "fine"}
    for _ in range(2):
        answer = desk.client.post(f"/refunds/{refund_id}/decisions", json=body, headers=key)
        assert answer.status_code == 200
    [decision] = answer.json()["approval"]["decisions"]
    assert (decision["person"], decision["verified"]) == ("ann", True)
    other = desk.client.post(
        f"/refunds/{refund_id}/decisions", json={**body, "decision": "reject"}, headers=key
    )
    assert other.status_code == 409


def test_a_decision_needs_the_digest(desk: World) -> None:
    refund_id, key = desk.waiting(), desk.key(Scope.DECIDE, person="ann")
    path = f"/refunds/{refund_id}/decisions"
    assert desk.client.post(path, json={"decision": "approve"}, headers=key).status_code == 422
    stale = {"decision": "approve", "digest": "0" * 64}
    answer = desk.client.post(path, json=stale, headers=key)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:durable-refunds:digest-stale")
    assert desk.said(refund_id) == []


def test_a_refund_that_is_over_cannot_be_resumed(desk: World) -> None:
    refund_id, key = desk.waiting(), desk.key(Scope.WRITE)
    with desk.ledger.page(refund_id) as page:
        page.change(outcome="REJECTED")
    answer = desk.client.post(f"/refunds/{refund_id}/resume", json={}, headers=key)
    assert answer.status_code == 409


# --- Keys ---


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/refunds", Scope.WRITE),
        ("GET", "/refunds/rf_1", Scope.METRICS),
        ("GET", "/refunds/rf_1/history", Scope.WRITE),
        ("POST", "/refunds", Scope.READ),
        ("POST", "/refunds/rf_1/decisions", Scope.WRITE),
        ("POST", "/refunds/rf_1/resume", Scope.READ),
        ("GET", "/refunds/rf_1/reset?to=load_order", Scope.STEER),
        ("POST", "/refunds/rf_1/reset", Scope.WRITE),
        ("POST", "/refunds/rf_1/updates", Scope.WRITE),
        ("GET", "/refunds/rf_1/export", Scope.STEER),
        ("GET", "/metrics", Scope.READ),
    ],
)
def test_no_door_opens_without_a_key_or_without_its_scope(
    desk: World, method: str, path: str, scope: Scope
) -> None:
    body: dict[str, Any] = {"decision": "reject", "digest": "0" * 64}
    if path == "/refunds":
        body = desk.request()
    if path.endswith("resume"):
        body = {}
    if path.endswith("reset"):
        body = {"to": "load_order", "reason": "typo"}
    if path.endswith("updates"):
        body = {"priority": 1}
    given: dict[str, Any] = {"json": body} if method == "POST" else {}
    stranger = desk.client.request(method, path, **given)
    assert (stranger.status_code, stranger.headers["WWW-Authenticate"]) == (401, "Bearer")
    forged = {"Authorization": "Bearer rfk_000000000000_guess"}
    assert desk.client.request(method, path, headers=forged, **given).status_code == 401
    narrow = desk.client.request(method, path, headers=desk.key(scope), **given)
    assert (narrow.status_code, narrow.json()["type"]) == (403, "urn:durable-refunds:scope-needed")


def test_a_revoked_key_opens_nothing(desk: World) -> None:
    key = desk.key(Scope.READ)
    assert desk.client.get("/refunds", headers=key).status_code == 200
    api_keys.revoke(desk.ledger, key["Authorization"].split("_")[1])
    assert desk.client.get("/refunds", headers=key).status_code == 401


@pytest.mark.usefixtures("stopped_clock")
def test_a_machine_that_asks_too_often_is_told_when_to_come_back(desk: World) -> None:
    key = desk.key(Scope.READ)
    answers = [desk.client.get("/refunds?limit=1", headers=key) for _ in range(400)]
    answer = next(answer for answer in answers if answer.status_code == 429)
    assert int(answer.headers["Retry-After"]) >= 1
    assert desk.client.get("/refunds", headers=desk.key(Scope.READ)).status_code == 200


# --- Health and metrics ---


def test_alive_and_ready_are_two_questions(desk: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert desk.client.get(path).json() == {"status": "ok"}


def test_metrics_tell_how_refunds_stand_without_naming_one(desk: World) -> None:
    refund_id = desk.waiting()
    desk.client.get(f"/refunds/{refund_id}", headers=desk.key(Scope.READ))
    text = desk.client.get("/metrics", headers=desk.key(Scope.METRICS)).text
    assert 'refunds_in_state{state="awaiting_approval"} 1.0' in text
    assert "refunds_waiting 1.0" in text
    assert 'route="/refunds/{refund_id}"' in text
    assert refund_id not in text


def test_only_known_names_of_the_service_are_answered(desk: World) -> None:
    answer = desk.client.get("/health", headers={"Host": "evil.example"})
    assert answer.status_code == 400


def test_a_key_proposes_a_smaller_amount_as_its_person(desk: World) -> None:
    refund_id, key = desk.waiting(), desk.key(Scope.DECIDE, person="ann")
    path, digest = f"/refunds/{refund_id}/decisions", desk.standing(refund_id).digest
    body = {"decision": "propose", "digest": digest, "amount_minor": 100_000}
    answer = desk.client.post(path, json=body, headers=key)
    assert (answer.status_code, answer.json()["amount_minor"]) == (200, 100_000)
    larger = {**body, "amount_minor": 900_000}
    assert desk.client.post(path, json=larger, headers=key).status_code == 409
    assert desk.said(refund_id) == []
