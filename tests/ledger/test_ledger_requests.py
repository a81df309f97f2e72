"""Requests are taken once, and all of them or none."""

from functools import partial

import pytest

from refunds.errors import ContentConflict, UnknownRefund
from refunds.ledger import requests
from refunds.models import State
from tests.ledger.ledger_desk import Desk, at_once, new_id, request


def test_the_same_request_again_changes_nothing(desk: Desk) -> None:
    asked = request()
    first = requests.submit(desk.ledger, [asked])
    desk.clock.advance(60)
    assert requests.submit(desk.ledger, [asked]) == first
    assert desk.events(asked.refund_id) == ["refund.submitted"]


def test_an_id_with_other_content_is_refused_and_the_fields_are_named(desk: Desk) -> None:
    asked = request()
    requests.submit(desk.ledger, [asked])
    other = request(refund_id=asked.refund_id, amount_minor=2_000, reason="broken")
    with pytest.raises(ContentConflict) as conflict:
        requests.submit(desk.ledger, [other])
    assert conflict.value.fields == ("amount_minor", "reason")
    assert requests.read(desk.ledger, asked.refund_id)["amount_minor"] == 1_000


def test_all_requests_are_taken_or_none(desk: Desk) -> None:
    taken = request()
    requests.submit(desk.ledger, [taken])
    fresh = request()
    with pytest.raises(ContentConflict):
        requests.submit(
            desk.ledger, [fresh, request(refund_id=taken.refund_id, reason="something else")]
        )
    with pytest.raises(UnknownRefund):
        requests.read(desk.ledger, fresh.refund_id)


def test_one_id_twice_in_one_batch_is_one_refund(desk: Desk) -> None:
    asked = request()
    first, second = requests.submit(desk.ledger, [asked, asked])
    assert first == second


def test_one_id_with_two_contents_in_one_batch_is_refused(desk: Desk) -> None:
    asked = request()
    with pytest.raises(ContentConflict):
        requests.submit(desk.ledger, [asked, request(refund_id=asked.refund_id, reason="other")])
    with pytest.raises(UnknownRefund):
        requests.read(desk.ledger, asked.refund_id)


def test_rows_come_back_in_the_order_given(desk: Desk) -> None:
    asked = [request() for _ in range(5)][::-1]
    rows = requests.submit(desk.ledger, asked)
    assert [row["refund_id"] for row in rows] == [one.refund_id for one in asked]


def test_five_hundred_requests_are_taken_in_one_go(desk: Desk) -> None:
    asked = [request() for _ in range(500)]
    assert len(requests.submit(desk.ledger, asked)) == 500


def test_many_submitting_one_request_at_once_submit_one_refund(desk: Desk) -> None:
    asked = request()
    rows = at_once(*[partial(requests.submit, desk.ledger, [asked])] * 8)
    assert rows == [rows[0]] * 8
    assert desk.events(asked.refund_id) == ["refund.submitted"]


def test_batches_that_overlap_in_opposite_order_are_both_taken(desk: Desk) -> None:
    asked = [request() for _ in range(30)]
    rows = at_once(
        *[
            partial(requests.submit, desk.ledger, batch)
            for batch in (asked, asked[::-1], asked, asked[::-1])
        ]
    )
    assert [len(taken) for taken in rows] == [30] * 4


def test_of_two_contents_submitted_at_once_one_is_taken(desk: Desk) -> None:
    refund_id = new_id("rf")
    both = [request(refund_id=refund_id, reason=reason) for reason in ("broken", "too small")]
    results = at_once(*[partial(requests.submit, desk.ledger, [one]) for one in both])
    assert sorted(type(result).__name__ for result in results) == ["ContentConflict", "list"]


def test_an_unknown_id_is_said_to_be_unknown(desk: Desk) -> None:
    with pytest.raises(UnknownRefund, match="rf_nobody"):
        requests.read(desk.ledger, "rf_nobody")


def test_requests_are_listed_by_state_in_key_order_from_a_cursor(desk: Desk) -> None:
    order = desk.order()
    asked = sorted(desk.case(order).refund_id for _ in range(3))
    started = desk.run(desk.case(order)).refund_id
    listed = [row["refund_id"] for row in requests.listed(desk.ledger, State.RECEIVED)]
    assert listed == sorted(listed)
    assert set(asked) <= set(listed)
    assert started not in listed
    page = requests.listed(desk.ledger, State.RECEIVED, after=asked[0], limit=1)
    assert page[0]["refund_id"] > asked[0]
    assert len(page) == 1


def test_a_rival_is_another_refund_of_the_order_that_may_still_take_money(desk: Desk) -> None:
    order = desk.order()
    mine = desk.case(order)
    holding = desk.paying(desk.case(order, item_ids=["item_1"]))
    desk.case()
    rejected = desk.case(order)
    with desk.ledger.page(rejected.refund_id) as page:
        page.change(outcome="REJECTED")
    (rival,) = requests.rivals(desk.ledger, mine.request)
    assert (rival.refund_id, rival.holds_money) == (holding.refund_id, True)
