"""CRM, coupons, logistics, notices: a thing is made once, listed, and some can be undone."""

from typing import Any

import pytest

from sandbox.testing import World

ABOUT = {"refund_id": "rf_1", "order_id": "#W1"}
MONEY = {"amount_minor": 400, "currency": "USD"}
CASE = ABOUT | MONEY | {"customer_id": "ada_1", "outcome": "PAID", "note": "thanks"}
COUPON = MONEY | {"refund_id": "rf_1", "customer_id": "ada_1"}
LABEL = ABOUT | {"item_ids": ["i1", "i2"]}
MESSAGE = {
    "refund_id": "rf_1",
    "audience": "customer",
    "to": "ada@example.com",
    "subject": "Your refund",
    "body": "It is on its way.",
    "link": "https://example.com/r/rf_1",
}

MAKING = [
    ("/crm/v1/cases", CASE, "case_id", "cases", "create_case"),
    ("/coupons/v1/coupons", COUPON, "coupon_id", "coupons", "issue_coupon"),
    ("/logistics/v1/holds", ABOUT, "hold_id", "holds", "hold_shipment"),
    ("/logistics/v1/labels", LABEL, "label_id", "labels", "create_label"),
    ("/notices/v1/messages", MESSAGE, "message_id", "messages", "send_message"),
]
UNDOING = [
    ("/coupons/v1/coupons", COUPON, "coupon_id", "void", "issued", "void"),
    ("/logistics/v1/holds", ABOUT, "hold_id", "release", "held", "released"),
    ("/logistics/v1/labels", LABEL, "label_id", "cancel", "created", "cancelled"),
]


@pytest.mark.parametrize(("path", "body", "name", "listed", "kind"), MAKING)
def test_a_thing_is_made_with_what_was_asked_and_is_listed_by_refund(
    world: World, path: str, body: dict[str, Any], name: str, listed: str, kind: str
) -> None:
    answer = world.post(path, body, key="a")
    assert answer.status_code == 201
    made = answer.json()
    assert body.items() <= made.items()
    world.post(path, body | {"refund_id": "rf_2"}, key="b")
    assert world.get(path, refund_id="rf_1").json()[listed] == [made]
    assert len(world.get(path).json()[listed]) == 2
    [effect] = world.effects(refund_id="rf_1")
    assert (effect["kind"], effect["response_id"], effect["request"]) == (kind, made[name], body)


@pytest.mark.parametrize(("path", "body", "name", "verb", "before", "after"), UNDOING)
def test_a_thing_is_undone_once(
    world: World, path: str, body: dict[str, Any], name: str, verb: str, before: str, after: str
) -> None:
    made = world.post(path, body, key="make").json()
    assert made["status"] == before
    undo = f"{path}/{made[name]}/{verb}"
    assert world.post(undo, {}, key="undo").json() == made | {"status": after}
    assert world.client.post(undo, headers={"Idempotency-Key": "undo-2"}).json()["status"] == after
    assert len(world.effects(refund_id="rf_1")) == 2
    assert world.post(f"{path}/{name}_0/{verb}", {}, key="other").status_code == 404


@pytest.mark.parametrize(("path", "body", "name", "listed", "kind"), MAKING)
def test_a_thing_is_found_by_the_callers_own_reference(
    world: World, path: str, body: dict[str, Any], name: str, listed: str, kind: str
) -> None:
    reference = f"rf_1:{kind}"
    made = world.post(path, body | {"reference": reference}, key="a").json()
    plain = world.post(path, body, key="b").json()
    assert (made["reference"], plain["reference"]) == (reference, None)
    assert world.get(path, reference=reference).json()[listed] == [made]
    assert world.get(path, reference="rf_9:other").json()[listed] == []
    assert [thing[name] for thing in world.get(path).json()[listed]] == [made[name], plain[name]]


@pytest.mark.parametrize(("path", "body", "name", "verb", "before", "after"), UNDOING)
def test_a_thing_that_was_undone_keeps_its_reference(
    world: World, path: str, body: dict[str, Any], name: str, verb: str, before: str, after: str
) -> None:
    del before
    made = world.post(path, body | {"reference": "rf_1:step"}, key="make").json()
    world.post(f"{path}/{made[name]}/{verb}", {}, key="undo")
    [listed] = next(
        value
        for value in world.get(path, reference="rf_1:step").json().values()
        if isinstance(value, list)
    )
    assert (listed["reference"], listed["status"]) == ("rf_1:step", after)


@pytest.mark.parametrize("reference", ["", "two words", "x" * 201, 7, "new\nline"])
def test_a_reference_is_a_short_printable_word(world: World, reference: object) -> None:
    body = CASE | {"reference": reference}
    assert world.post("/crm/v1/cases", body).status_code == 422


@pytest.mark.parametrize(("path", "body", "name", "listed", "kind"), MAKING)
def test_a_body_with_a_missing_or_an_unknown_field_is_refused(
    world: World, path: str, body: dict[str, Any], name: str, listed: str, kind: str
) -> None:
    del name, kind
    without = {field: value for field, value in body.items() if field != "refund_id"}
    bad_bodies: list[object] = [without, body | {"colour": "red"}, body | {"refund_id": 7}, [], "x"]
    for bad in bad_bodies:
        answer = world.post(path, bad)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    assert world.get(path).json()[listed] == []


@pytest.mark.parametrize("amount", [0, -1, 1.0, 10**12 + 1, 10**400, "5", None])
def test_an_amount_is_a_positive_bounded_integer(world: World, amount: object) -> None:
    assert world.post("/crm/v1/cases", CASE | {"amount_minor": amount}).status_code in (400, 422)


def test_lists_come_in_pages(world: World) -> None:
    for number in range(3):
        world.post("/logistics/v1/holds", ABOUT, key=str(number))
    first = world.get("/logistics/v1/holds", limit=2).json()
    assert (len(first["holds"]), first["has_more"]) == (2, True)
    rest = world.get("/logistics/v1/holds", limit=2, after=first["next_after"]).json()
    assert (len(rest["holds"]), rest["has_more"]) == (1, False)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": "x"}, {"after": "x"}, {"colour": "r"}])
def test_a_bad_list_parameter_is_refused(world: World, query: dict[str, str]) -> None:
    assert world.get("/effects", **query).status_code == 422


def test_effects_are_listed_oldest_first_in_pages_and_by_system(world: World) -> None:
    world.refund(amount=1, metadata__refund_id="rf_1")
    world.post("/logistics/v1/holds", ABOUT)
    world.post("/crm/v1/cases", CASE)
    first = world.get("/effects", limit=2).json()
    rest = world.get("/effects", limit=2, after=first["next_after"]).json()
    systems = [effect["system"] for effect in first["effects"] + rest["effects"]]
    assert systems == ["gateway", "logistics", "crm"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert [effect["kind"] for effect in world.effects(system="crm")] == ["create_case"]
    assert first["effects"][0]["at"] == "2026-11-23T22:00:00.000+00:00"


def test_an_act_done_twice_under_two_keys_is_two_effects(world: World) -> None:
    world.post("/crm/v1/cases", CASE, key="a")
    world.post("/crm/v1/cases", CASE, key="b")
    assert [effect["key"] for effect in world.effects(refund_id="rf_1")] == ["a", "b"]


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "http://", "/x", ""])
def test_a_link_is_a_web_address(world: World, link: str) -> None:
    assert world.post("/notices/v1/messages", MESSAGE | {"link": link}).status_code == 422


def test_the_inbox_shows_the_newest_first_and_one_audience_alone(world: World) -> None:
    for key, audience in (("a", "customer"), ("b", "approver")):
        world.post(
            "/notices/v1/messages",
            MESSAGE | {"audience": audience, "subject": f"To the {audience}"},
            key=key,
        )
    page = world.get("/inbox").text
    assert page.index("To the approver") < page.index("To the customer")
    assert "To the approver" not in world.get("/inbox", audience="customer").text
    assert 'href="https://example.com/r/rf_1"' in page


def test_older_messages_are_one_click_away(world: World) -> None:
    for number in range(51):
        world.post("/notices/v1/messages", MESSAGE | {"subject": f"No {number}."}, key=str(number))
    assert "No 0." not in world.get("/inbox").text
    assert "/inbox?before=msg_0000000000000002" in world.get("/inbox").text
    assert "No 0." in world.get("/inbox", before="msg_0000000000000002").text


def test_hostile_text_in_the_inbox_stays_text(world: World) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror='x'>\"&{{ 7*7 }}"
    fields = {"subject": hostile, "body": hostile, "to": hostile, "refund_id": "<b>rf</b>"}
    link = 'https://example.com/"onclick="x'
    assert world.post("/notices/v1/messages", MESSAGE | fields | {"link": link}).status_code == 201
    page = world.get("/inbox", audience="<script>")
    assert page.status_code == 200
    for markup in ("<script", "<img", "<b>", '"onclick', "49"):
        assert markup not in page.text
    assert page.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_the_index_links_only_pages_that_open(world: World) -> None:
    page = world.get("/").text
    links = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert "/inbox" in links
    assert {world.get(link).status_code for link in links} == {200}
