"""Whatever somebody tries in a real browser is refused, says why, and decides nothing."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from refunds import links
from refunds.authority import Person
from refunds.ledger import approvals, people, schema
from refunds.ledger.access import accounts
from refunds.ledger.approvals import Vote
from refunds.service.app import build
from refunds.settings import settings
from tests.service.chromium import (
    a_browser,
    a_page,
    give_name_and_password,
    nothing_serious,
    picture,
    served,
    sign_in,
)
from tests.service.service_world import PASSWORD, World, review

pytestmark = pytest.mark.chromium

_TOO_LARGE = """fetch("/rejections", {
  method: "POST", body: new URLSearchParams({reason: "x".repeat(300000)})
}).then(answer => answer.status)"""

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@pytest.fixture
def address(desk: World) -> Iterator[str]:
    """Where the service is; ann and mallory have accounts."""
    for person in ("ann", "mallory"):
        accounts.set_password(desk.ledger, person, PASSWORD)
    with served(build(settings())) as where:
        yield where


@pytest.fixture
def chromium(chromium_path: Path, address: str) -> Iterator[Browser]:
    """It ends before the service, which waits for whom it still tells what is new."""
    with a_browser(chromium_path) as browser:
        yield browser


@pytest.fixture
def ann(chromium: Browser, address: str) -> Page:
    """Ann's browser, signed in."""
    page = a_page(chromium)
    sign_in(page, address, "ann")
    return page


def approve(page: Page) -> None:
    page.get_by_label("Reason").fill("Looks right")
    page.get_by_role("button", name="Approve").click()


def refused(page: Page) -> str:
    """What the page says where a decision was not taken."""
    page.get_by_role("heading", name="Your decision was not taken").wait_for()
    nothing_serious(page)
    return page.get_by_role("alert").inner_text()


def test_a_decision_that_is_not_theirs_or_comes_too_late_is_refused_on_the_page(
    desk: World, address: str, ann: Page
) -> None:
    own, late, contested, changed, large = (
        desk.waiting(requested_by="ann"),
        *(desk.waiting() for _ in range(3)),
        desk.waiting(amount_minor=200_000),
    )

    ann.goto(address + review(own))
    approve(ann)
    assert "ann asked for this refund and cannot approve it" in refused(ann)

    ann.goto(address + review(late))
    with desk.ledger.writing() as connection:
        over = {"deadline": desk.ledger.clock() - timedelta(minutes=1)}
        question = schema.approvals.update().where(schema.approvals.c.refund_id == late)
        connection.execute(question.values(**over))
    approve(ann)
    assert "the deadline was" in refused(ann)

    ann.goto(address + review(contested))
    approvals.decide(desk.ledger, contested, Vote("reject", "ben", "service", verified=True))
    approve(ann)
    assert "was already REJECTED" in refused(ann)

    ann.goto(address + review(changed))
    desk.ship_again(changed)
    approve(ann)
    assert "order status" in refused(ann)

    people.add(desk.ledger, Person(person_id="ann", name="Ann", limits={"USD": 100_000}), by="x")
    ann.goto(address + review(large))
    approve(ann)
    assert "is above the $1,000.00 that ann may approve" in refused(ann)
    assert {i: desk.said(i) for i in (own, late, changed, large)} == {
        i: [] for i in (own, late, changed, large)
    }
    assert desk.said(contested) == [("ben", "REJECTED")]


def test_a_link_that_leads_nowhere_says_so(desk: World, address: str, ann: Page) -> None:
    refund_id, other = desk.waiting(amount_minor=1_500_000), desk.waiting()
    soon = desk.ledger.clock() + timedelta(hours=1)
    digest = desk.standing(refund_id).digest

    def alert(token: str) -> str:
        ann.goto(f"{address}{review(refund_id)}?link={token}")
        nothing_serious(ann)
        return ann.get_by_role("alert").inner_text()

    good = links.sign(refund_id, "ann", digest, soon)
    past = desk.ledger.clock() - timedelta(hours=1)
    assert "not one of ours or was changed" in alert(good[:-4] + "AAAA")
    assert "expired" in alert(links.sign(refund_id, "ann", digest, past))
    assert "sent to somebody else" in alert(links.sign(refund_id, "ben", digest, soon))
    other_link = links.sign(other, "ann", desk.standing(other).digest, soon)
    assert "for another refund" in alert(other_link)
    picture(ann, "link-refused")

    ann.goto(f"{address}{review(refund_id)}?link={good}")
    approve(ann)
    ann.get_by_text("1 of 2").or_(ann.get_by_text("approved")).first.wait_for()
    assert "used already" in alert(good)
    assert desk.said(refund_id) == [("ann", "APPROVED")]
    assert desk.said(other) == []


def test_what_is_sent_twice_forged_from_elsewhere_or_too_large_decides_nothing_more(
    desk: World, address: str, ann: Page
) -> None:
    refund_id, hostile = desk.waiting(), desk.waiting(message=HOSTILE)

    ann.goto(address + review("rf_none"))
    assert "no refund has the id" in ann.get_by_role("alert").inner_text()

    ann.goto(address + review(hostile))
    assert ann.locator("blockquote").inner_text() == HOSTILE
    assert "taken" not in ann.title()
    ann.evaluate("document.querySelector('main [name=form_token]').value = 'forged'")
    approve(ann)
    assert "was not made for your session" in ann.get_by_role("alert").inner_text()
    ann.goto(address + review(hostile))
    ann.evaluate("document.querySelector('main form').action = '/refunds/rf_none/review'")
    approve(ann)
    assert "no refund has the id" in ann.get_by_role("alert").inner_text()

    form = f"""<form method="post" action="{address}{review(hostile)}">
      <input name="decision" value="approve"><button>Win a prize</button>
      <input name="digest" value="{desk.standing(hostile).digest}"></form>"""
    elsewhere = "http://prize.test/"
    ann.route(elsewhere, lambda route: route.fulfill(body=form, content_type="text/html"))
    ann.goto(elsewhere)
    ann.get_by_role("button", name="Win a prize").click()
    ann.get_by_role("heading", name="Sign in").wait_for()

    ann.goto(f"{address}/inbox")
    assert ann.evaluate(_TOO_LARGE) == 413
    assert desk.said(hostile) == []

    ann.goto(address + review(refund_id))
    ann.get_by_role("button", name="Approve").dblclick()
    ann.get_by_text("The question is closed: approved").wait_for()
    assert desk.said(refund_id) == [("ann", "APPROVED")]


def test_a_session_that_was_planted_in_a_browser_ends_when_its_person_signs_in(
    chromium: Browser, address: str
) -> None:
    mallory, victim = a_page(chromium), a_page(chromium)
    sign_in(mallory, address, "mallory")
    planted = [c for c in mallory.context.cookies() if c["name"] == "refunds"]
    victim.context.add_cookies(
        [{"name": c["name"], "value": c["value"], "url": address} for c in planted]
    )
    victim.goto(f"{address}/sign-in")
    give_name_and_password(victim, "ann", PASSWORD)
    victim.get_by_text("ann", exact=True).wait_for()
    kept = [c["value"] for c in victim.context.cookies() if c["name"] == "refunds"]
    assert kept != [c["value"] for c in planted]
    mallory.goto(f"{address}/inbox")
    mallory.get_by_role("heading", name="Sign in").wait_for()
