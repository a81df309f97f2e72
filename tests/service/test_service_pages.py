"""The inbox and a refund's page: what they show, what they take, and every refusal."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from refunds import links
from refunds.authority import Person
from refunds.ledger import approvals, history, people, requests, waits
from refunds.ledger.access import accounts
from refunds.settings import settings
from tests.service.service_world import PASSWORD, Browser, World, review

# A run that Prefect would know, if it were there.
RUN = "00000000-0000-4000-8000-000000000000"

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"> [pay](javascript:alert(3))'


def test_the_inbox_has_the_oldest_deadline_first_with_amounts_as_people_write_them(
    desk: World,
) -> None:
    late = desk.waiting(amount_minor=123_456)
    soon = desk.waiting(hours_ago=30, amount_minor=7_890_123, currency="JPY")
    browser = desk.browser("ann")
    browser.get("/inbox")
    assert browser.page.index(soon) < browser.page.index(late)
    assert "$1,234.56" in browser.text
    assert "¥7,890,123" in browser.text
    assert "2 for you here, 2 waiting in all" in browser.text


def test_the_inbox_leaves_out_what_is_not_for_me(desk: World) -> None:
    own, other = desk.waiting(requested_by="ann"), desk.waiting()
    browser = desk.browser("ann")
    browser.get("/inbox")
    assert other in browser.page
    assert own not in browser.page
    browser.get("/inbox?whose=all")
    assert own in browser.page


def test_the_inbox_is_narrowed_and_worked_through_in_pages(desk: World) -> None:
    ids = [desk.waiting(hours_ago=60 - n, amount_minor=200_000 + n) for n in range(53)]
    browser = desk.browser("ann")
    browser.get("/inbox")
    assert browser.listed == ids[:50]
    following = re.search(r'rel="next" href="([^"]+)"', browser.page)
    assert following is not None
    browser.get(following.group(1).replace("&amp;", "&"))
    assert browser.listed == ids[50:]
    browser.get("/inbox?currency=USD&least=2,000.52")
    assert browser.listed == [ids[52]]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("least=100", "choose a currency"),
        ("least=much&currency=USD", "is not an amount"),
        ("least=NaN&currency=USD", "is not an amount"),
        ("least=1e99&currency=USD", "is not an amount"),
        ("after=x", "does not exist"),
        ("after=WzEsMiwzXQ", "does not exist"),
    ],
)
def test_a_filter_that_makes_no_sense_is_explained_on_the_page(
    desk: World, query: str, said: str
) -> None:
    browser = desk.browser("ann")
    assert browser.get(f"/inbox?{query}").status_code == 200
    assert said in browser.text


def test_a_refunds_page_shows_every_fact_that_the_digest_binds(desk: World) -> None:
    refund_id = desk.waiting(goodwill_minor=500, requested_by="support_sue")
    facts, digest = desk.standing(refund_id).facts, desk.standing(refund_id).digest
    browser = desk.browser("ann")
    browser.get(review(refund_id))
    for name in ("refund_to", "charge_id", "order_id", "customer_id", "policy_version", "reason"):
        assert str(facts[name]) in browser.text, name
    for text in ("$1,500.00", "$5.00", "support_sue", "It does not fit.", "Lamp", digest):
        assert text in browser.text, text


def test_what_a_customer_wrote_is_text_and_never_markup(desk: World) -> None:
    refund_id = desk.waiting(message=HOSTILE, reason="<b>bold</b>")
    browser = desk.browser("ann")
    for path in (review(refund_id), "/inbox"):
        browser.get(path)
        assert "<script>alert" not in browser.page
        assert "<img" not in browser.page
        assert "<b>" not in browser.page
        assert 'href="javascript' not in browser.page
    browser.get(review(refund_id))
    assert HOSTILE in browser.text or "<script>alert(1)</script>" in browser.text


def test_looking_decides_nothing_whatever_stands_in_the_address(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    digest = desk.standing(refund_id).digest
    browser.get(f"/refunds/{refund_id}/review?decision=approve&digest={digest}")
    assert desk.said(refund_id) == []


def test_a_refund_is_approved_on_exactly_what_its_page_showed(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    answer = browser.decide(refund_id, "approve", reason="Checked")
    assert (answer.status_code, desk.said(refund_id)) == (303, [("ann", "APPROVED")])
    [decision] = desk.standing(refund_id).decisions
    assert (decision["channel"], decision["verified"], decision["reason"]) == (
        "service",
        True,
        "Checked",
    )
    browser.get(review(refund_id))
    assert "The question is closed: approved" in browser.text


def test_a_double_click_decides_once(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    for _ in range(2):
        assert browser.decide(refund_id, "approve").status_code in (303, 303)
    assert desk.said(refund_id) == [("ann", "APPROVED")]


def test_a_rejection_needs_its_reason(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    assert browser.decide(refund_id, "reject", reason=" ").status_code == 422
    assert "say why it is rejected" in browser.text
    assert browser.decide(refund_id, "reject", reason="Not ours").status_code == 303
    assert desk.said(refund_id) == [("ann", "REJECTED")]


def test_two_approvers_at_once_with_different_answers_leave_one_decision(desk: World) -> None:
    refund_id = desk.waiting()
    ann, ben = desk.browser("ann"), desk.browser("ben")
    for browser in (ann, ben):
        browser.get(review(refund_id))
    digest = desk.standing(refund_id).digest
    codes = {}

    def send(name: str, decision: str) -> None:
        browser = {"ann": ann, "ben": ben}[name]
        codes[name] = browser.post(
            review(refund_id), decision=decision, digest=digest, reason="because"
        ).status_code

    both = [
        threading.Thread(target=send, args=args) for args in (("ann", "approve"), ("ben", "reject"))
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(codes.values()) == [303, 409]
    assert len(desk.said(refund_id)) == 1


# --- Refusals: each says why, and how to go on ---


def test_an_approval_after_the_deadline_is_refused(desk: World) -> None:
    refund_id = desk.waiting(hours_ago=80)
    browser = desk.browser("ann")
    assert browser.decide(refund_id, "approve").status_code in (409, 422)
    answer = browser.post(
        review(refund_id), decision="approve", digest=desk.standing(refund_id).digest
    )
    assert answer.status_code == 409
    assert "the deadline was" in browser.text
    assert desk.said(refund_id) == []


def test_ones_own_request_is_refused(desk: World) -> None:
    refund_id = desk.waiting(requested_by="ann")
    browser = desk.browser("ann")
    assert browser.decide(refund_id, "approve").status_code == 409
    assert "ann asked for this refund and cannot approve it" in browser.text
    assert "back to the inbox" in browser.text
    assert desk.said(refund_id) == []


def test_an_amount_above_ones_own_limit_is_refused(desk: World) -> None:
    people.add(desk.ledger, Person(person_id="ann", name="Ann", limits={"USD": 100_000}), by="test")
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    browser.get("/inbox")
    assert refund_id not in browser.page
    assert browser.decide(refund_id, "approve").status_code == 409
    assert "is above the $1,000.00 that ann may approve" in browser.text
    assert desk.said(refund_id) == []


def test_a_changed_order_is_refused_with_the_difference_shown(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    browser.get(review(refund_id))
    desk.ship_again(refund_id)
    answer = browser.post(
        review(refund_id), decision="approve", digest=desk.standing(refund_id).digest
    )
    assert answer.status_code == 409
    assert "order status delivered processed" in browser.text
    assert desk.said(refund_id) == []


def test_a_digest_of_another_question_is_refused(desk: World) -> None:
    one, other = desk.waiting(), desk.waiting(amount_minor=160_000)
    browser = desk.browser("ann")
    browser.get(review(one))
    answer = browser.post(review(one), decision="approve", digest=desk.standing(other).digest)
    assert answer.status_code == 409
    assert "what you saw is not what is asked now" in browser.text


def test_an_unknown_id_is_not_found(desk: World) -> None:
    browser = desk.browser("ann")
    assert browser.get(review("rf_none")).status_code == 404
    assert "no refund has the id" in browser.text
    browser.get("/inbox")
    assert browser.post(review("rf_none"), decision="approve", digest="0" * 64).status_code == 404


@pytest.mark.parametrize("token", ["", "forged", "é"])
def test_a_form_without_its_token_decides_nothing(desk: World, token: str) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    digest = desk.standing(refund_id).digest
    answer = browser.post(review(refund_id), token, decision="approve", digest=digest)
    assert answer.status_code == 403
    assert desk.said(refund_id) == []


def test_a_form_of_somebody_elses_session_decides_nothing(desk: World) -> None:
    refund_id = desk.waiting()
    ann, ben = desk.browser("ann"), desk.browser("ben")
    ben.get("/inbox")
    stolen = re.search(r'name="form_token" value="([^"]+)"', ben.page)
    assert stolen is not None
    digest = desk.standing(refund_id).digest
    answer = ann.post(review(refund_id), stolen.group(1), decision="approve", digest=digest)
    assert answer.status_code == 403
    assert desk.said(refund_id) == []


def test_a_form_sent_from_another_site_decides_nothing(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    browser.get(review(refund_id))
    token = re.search(r'name="form_token" value="([^"]+)"', browser.page)
    assert token is not None
    answer = browser.client.post(
        review(refund_id),
        data={
            "form_token": token.group(1),
            "decision": "approve",
            "digest": desk.standing(refund_id).digest,
        },
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert desk.said(refund_id) == []


# --- Several at once ---


def test_several_are_rejected_at_once_each_on_its_own_digest(desk: World) -> None:
    ids = [desk.waiting() for _ in range(3)]
    closed = desk.waiting()
    browser = desk.browser("ann")
    browser.get("/inbox")
    chosen = [f"{i} {desk.standing(i).digest}" for i in ids]
    stale = f"{closed} {'0' * 64}"
    answer = browser.post("/rejections", chosen=[*chosen, stale, "x", ""], reason="A test shop")
    assert answer.status_code == 200
    assert "3 of 6 rejected" in browser.text
    assert [approvals.standing(desk.ledger, i).status for i in ids] == ["REJECTED"] * 3  # type: ignore[union-attr]  # asked above
    assert desk.said(closed) == []


def test_a_list_that_is_rejected_at_once_goes_on_together_behind_the_first_few(
    desk: World,
) -> None:
    ids = [desk.waiting() for _ in range(6)]
    for refund_id in ids:
        with desk.ledger.page(refund_id) as page:
            page.change(run_number=1)
            waits.begin(page, "approval-1-team", reason="person", run_id=RUN, due_at=None)
    browser = desk.browser("ann")
    browser.get("/inbox")
    chosen = [f"{i} {desk.standing(i).digest}" for i in ids]
    browser.post("/rejections", chosen=chosen, reason="A test shop")
    assert "6 of 6 rejected" in browser.text
    rows = [requests.read(desk.ledger, refund_id) for refund_id in ids]
    carried = [row["burst_id"] for row in rows if row["lane"] == "batch"]
    assert len(carried) == len(ids) - settings().burst_from
    assert len(set(carried)) == 1


@pytest.mark.parametrize(
    "form", [{"reason": "why"}, {"chosen": ["rf_1 0"]}, {"chosen": ["x"] * 51, "reason": "why"}]
)
def test_rejecting_nothing_or_too_much_or_without_a_reason_rejects_nothing(
    desk: World, form: dict[str, Any]
) -> None:
    browser = desk.browser("ann")
    browser.get("/inbox")
    assert browser.post("/rejections", **form).status_code == 422


def test_there_is_no_way_to_approve_several_at_once(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    browser.get("/inbox")
    assert browser.post("/approvals", chosen=[refund_id], reason="all").status_code == 404
    assert desk.said(refund_id) == []


def test_where_a_decision_came_from_is_in_the_history(desk: World) -> None:
    refund_id = desk.waiting()
    desk.browser("ann").decide(refund_id, "approve")
    [recorded] = [
        event["data"]
        for event in history.read(desk.ledger, refund_id)
        if event["event"] == "decision.recorded"
    ]
    assert (recorded["person"], recorded["channel"]) == ("ann", "service")
    assert recorded["ip"] == "testclient"
    assert recorded["seen"] == desk.standing(refund_id).digest


# --- A card's link: shows the way, to its person, once ---


def signed(desk: World, refund_id: str, person: str = "ann", *, hours: float = 1) -> str:
    until = desk.ledger.clock() + timedelta(hours=hours)
    return links.sign(refund_id, person, desk.standing(refund_id).digest, until)


def by_link(browser: Browser, desk: World, refund_id: str, token: str, decision: str) -> int:
    digest = desk.standing(refund_id).digest
    return browser.post(
        review(refund_id), decision=decision, digest=digest, link=token, reason="ok"
    ).status_code


def test_a_link_leads_to_the_page_by_way_of_the_sign_in_and_decides_nothing(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser()
    browser.get(f"/refunds/{refund_id}/review?link={signed(desk, refund_id)}")
    assert "Sign in" in browser.text
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    target = re.search(r'name="next" value="([^"]+)"', browser.page)
    assert target is not None
    answer = browser.post(
        "/sign-in", person="ann", password=PASSWORD, next=unescape(target.group(1))
    )
    assert browser.get(answer.headers["Location"]).status_code == 200
    assert "Approve $1,500.00" in browser.text
    assert desk.said(refund_id) == []


def test_a_link_leads_to_one_decision(desk: World) -> None:
    refund_id = desk.waiting(amount_minor=1_500_000)
    token, browser = signed(desk, refund_id), desk.browser("ann")
    browser.get(f"/refunds/{refund_id}/review?link={token}")
    assert by_link(browser, desk, refund_id, token, "approve") == 303
    assert browser.get(f"/refunds/{refund_id}/review?link={token}").status_code == 409
    assert "this link was used already" in browser.text
    assert desk.said(refund_id) == [("ann", "APPROVED")]


@pytest.mark.parametrize(
    ("who", "change", "said"),
    [
        ("ann", lambda token: token[:-4] + "AAAA", "not one of ours"),
        ("ann", lambda _: "x", "not one of ours"),
        ("ben", lambda token: token, "sent to somebody else"),
    ],
)
def test_a_forged_or_anothers_link_is_refused_to_look_and_to_decide(
    desk: World, who: str, change: Callable[[str], str], said: str
) -> None:
    refund_id = desk.waiting()
    token, browser = change(signed(desk, refund_id)), desk.browser(who)
    assert browser.get(f"/refunds/{refund_id}/review?link={token}").status_code == 409
    assert said in browser.text
    browser.get("/inbox")
    assert by_link(browser, desk, refund_id, token, "approve") == 409
    assert desk.said(refund_id) == []


def test_an_expired_link_and_one_for_another_refund_are_refused(desk: World) -> None:
    refund_id, other = desk.waiting(), desk.waiting()
    browser = desk.browser("ann")
    for token, said in (
        (signed(desk, refund_id, hours=-1), "expired"),
        (signed(desk, other), "for another refund"),
    ):
        assert browser.get(f"/refunds/{refund_id}/review?link={token}").status_code == 409
        assert said in browser.text
        browser.get("/inbox")
        assert by_link(browser, desk, refund_id, token, "approve") == 409
    assert desk.said(refund_id) == []


def test_who_looked_is_in_the_history_once(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    for _ in range(3):
        browser.get(review(refund_id))
    events = [e for e in history.read(desk.ledger, refund_id) if e["event"] == "approval.seen"]
    [seen] = events
    assert (seen["data"]["person"], seen["data"]["digest"]) == (
        "ann",
        desk.standing(refund_id).digest,
    )


# --- A smaller amount: a new question, never a payment ---


def test_a_smaller_amount_is_asked_anew_under_a_new_digest(desk: World) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    answer = browser.decide(refund_id, "propose", amount="1,000.50", reason="Half was worn")
    assert answer.status_code == 303
    browser.get(review(refund_id))
    assert "ann proposed $1,000.50 in place of $1,500.00" in browser.text
    assert "It is asked anew under a new digest." in browser.text
    assert desk.said(refund_id) == []


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("", "is not an amount"),
        ("0", "below the one that is asked"),
        ("1500.00", "below the one that is asked"),
        ("-5", "is not an amount"),
        ("10.005", "is finer than USD"),
        ("1e400", "is not an amount"),
    ],
)
def test_an_amount_that_cannot_be_proposed_is_explained(
    desk: World, amount: str, said: str
) -> None:
    refund_id = desk.waiting()
    browser = desk.browser("ann")
    assert browser.decide(refund_id, "propose", amount=amount).status_code == 422
    assert said in browser.text
    assert desk.standing(refund_id).status == "open"
