"""An approver at the service's own pages: inbox, one refund, decisions, and every refusal."""

import json
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.stack import RETAIL, Stack, paid, reviews
from tests.service import chromium
from tests.service.chromium import nothing_serious, picture

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@pytest.fixture
def ben(page: Page) -> Iterator[Page]:
    """Another person's browser."""
    browser = page.context.browser
    assert isinstance(browser, Browser)
    other = browser.new_context().new_page()
    yield other
    other.context.close()


def waiting(stack: Stack, count: int, skip: int, **fields: str) -> list[str]:
    """Real requests that wait for a person."""
    requests = [{**request, **fields} for request in reviews(count, skip)]
    stack.submit(requests)
    for request in requests:
        stack.until(request["refund_id"], state="awaiting_approval")
    return [request["refund_id"] for request in requests]


def sign_in(page: Page, stack: Stack, person: str) -> None:
    chromium.sign_in(page, stack.service_url, person, stack.password_of(person))


def look(page: Page, stack: Stack, refund_id: str) -> None:
    page.goto(f"{stack.service_url}/refunds/{refund_id}/review")


def decide(page: Page, choice: str, reason: str) -> None:
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name=choice).click()


def refused(page: Page) -> str:
    """What the page says where a decision was not taken."""
    page.get_by_role("heading", name="Your decision was not taken").wait_for()
    return page.get_by_role("alert").inner_text()


def test_an_approver_signs_in_approves_one_refund_and_rejects_another(
    stack: Stack, page: Page
) -> None:
    approved, rejected = waiting(stack, 2, skip=4)
    page.goto(f"{stack.service_url}/inbox")
    nothing_serious(page)
    sign_in(page, stack, "ann")
    nothing_serious(page)
    picture(page, "inbox")

    page.get_by_role("link", name=approved).click()
    page.get_by_text("Your decision").wait_for()
    nothing_serious(page)
    picture(page, "refund")
    decide(page, "Approve", "Checked with the warehouse")
    page.get_by_text("The question is closed: approved").wait_for()
    look(page, stack, rejected)
    decide(page, "Reject", "Not ours to pay")
    page.get_by_text("The question is closed: rejected").wait_for()

    shown = stack.until(approved, outcome="PAID")
    [decision] = shown["approval"]["decisions"]
    assert (decision["person"], decision["verified"]) == ("ann", True)
    assert len(paid(stack, approved)) == 1
    stack.until(rejected, outcome="REJECTED")
    assert paid(stack, rejected) == []
    look(page, stack, approved)
    nothing_serious(page)
    stack.refunds("verify")


def test_the_inbox_shows_by_itself_what_comes_and_goes_by_keyboard_and_on_a_phone(
    stack: Stack, page: Page
) -> None:
    sign_in(page, stack, "ben")
    (refund_id,) = waiting(stack, 1, skip=6, message=HOSTILE)
    page.get_by_role("link", name=refund_id).wait_for()
    while page.evaluate("document.activeElement.textContent") != refund_id:
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.get_by_text("Your decision").wait_for()
    assert page.locator("blockquote").inner_text() == HOSTILE
    assert "taken" not in page.title()
    page.keyboard.press("r")
    assert page.evaluate("document.activeElement.name") == "reason"

    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    nothing_serious(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, "refund-phone-dark")
    page.goto(f"{stack.service_url}/inbox")
    nothing_serious(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, "inbox-phone-dark")

    stack.refunds("nightly")
    page.goto(f"{stack.service_url}/nights")
    nothing_serious(page)
    page.locator("tbody a").first.click()
    page.get_by_role("heading", name="What became of them").wait_for()
    nothing_serious(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_each_refusal_says_why_and_leads_on(stack: Stack, page: Page, ben: Page) -> None:
    own, contested, changed = (
        *waiting(stack, 1, skip=7, requested_by="ann"),
        *waiting(stack, 2, skip=8),
    )
    sign_in(page, stack, "ann")
    sign_in(ben, stack, "ben")

    look(page, stack, own)
    decide(page, "Approve", "Mine")
    assert "asked for this refund and cannot approve it" in refused(page)
    nothing_serious(page)

    look(page, stack, contested)
    look(ben, stack, contested)
    decide(ben, "Reject", "No")
    ben.get_by_text("The question is closed: rejected").wait_for()
    decide(page, "Approve", "Yes")
    assert "was already REJECTED" in refused(page)

    look(page, stack, changed)
    order_id = stack.show(changed)["order_id"]
    orders = [json.loads(line) for line in (RETAIL / "orders.jsonl").read_text().splitlines()]
    order = next(order for order in orders if order["order_id"] == order_id)
    other = {**order, "status": "processed"}
    httpx.post(f"{stack.sandbox_url}/shop/orders", json=[other]).raise_for_status()
    decide(page, "Approve", "Yes")
    assert "order status" in refused(page)
    picture(page, "refusal")
    page.get_by_role("link", name="Look at it as it is now").click()
    assert [stack.show(i)["outcome"] == "PAID" for i in (own, contested, changed)] == [False] * 3

    stack.refunds("people", "add", "ann", "--limit", "USD=100000", "--as", "test")
    page.goto(f"{stack.service_url}/inbox")
    assert page.get_by_role("link", name=own).count() == 0
    (large,) = waiting(stack, 1, skip=10)
    look(page, stack, large)
    decide(page, "Approve", "Large")
    assert "that ann may approve" in refused(page)


def test_several_are_rejected_at_once(stack: Stack, page: Page) -> None:
    ids = waiting(stack, 2, skip=11)
    sign_in(page, stack, "ben")
    for refund_id in ids:
        page.get_by_label(f"Tick {refund_id}").check()
    page.get_by_label("Reason for all of them").fill("Asked by a test shop")
    page.get_by_role("button", name="Reject ticked").click()
    page.get_by_role("heading", name="2 of 2 rejected").wait_for()
    nothing_serious(page)
    for refund_id in ids:
        stack.until(refund_id, outcome="REJECTED")
