"""The timeline's page: every event in its lane, where the code stood, and the way on."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from refunds import timeline
from refunds.authority import Person
from refunds.ledger import approvals, audit, history, updates
from refunds.ledger.approvals import Vote
from refunds.ledger.updates import Update
from refunds.origin import Origin
from refunds.service import picture
from refunds.service.app import build
from refunds.settings import settings
from tests.replay import paths
from tests.replay.rehearsal import Rehearsal
from tests.replay.unknown_payments import at_gateway, unknown
from tests.service import chromium
from tests.service.chromium import a_browser, a_page, nothing_serious, sign_in
from tests.service.service_world import HERE, Browser


@pytest.mark.chromium
def test_a_person_follows_a_failure_from_the_inbox_to_the_event_to_the_resume_button(
    world: Rehearsal, address: str, chromium_path: Path
) -> None:
    request = paths.stuck(world)
    with a_browser(chromium_path) as browser:
        page = a_page(browser)
        sign_in(page, address, "ops")
        page.get_by_role("link", name="Stuck").click()
        page.get_by_role("heading", name="Stuck").wait_for()
        nothing_serious(page)
        chromium.picture(page, "stuck")
        page.get_by_role("link", name=request.refund_id).click()
        page.get_by_role("button", name="Resume").wait_for()
        nothing_serious(page)
        chromium.picture(page, "timeline")
        page.locator(".picture .failure").first.click()
        page.locator("li:target details[open]").wait_for()
        shown = page.locator("li:target").inner_text()
        nothing_serious(page)
        page.keyboard.press("ArrowRight")
        page.get_by_label("What was mended").fill("the coupon system takes it now")
        page.get_by_role("button", name="Resume").click()
        page.locator("summary", has_text="ops resumed it").wait_for()
    assert "issue_coupon failed: StepRefused" in shown
    assert "await coupons.issue_coupon(case)" in shown
    assert request.order_id in shown
    told = [e.data for e in world.document(request).events if e.event == "refund.resumed"]
    assert told == [{"person": "ops", "reason": "the coupon system takes it now"}]
    assert world.run(request) == "PAID"


def test_the_page_shows_every_event_with_inputs_outputs_and_the_line_of_code(
    world: Rehearsal, browser: Browser
) -> None:
    request = paths.review_approved(world)
    browser.get(f"/inbox/{request.refund_id}/timeline")
    events = world.document(request).events
    assert len(re.findall(r'<li id="event-', browser.page)) == len(events)
    assert "lea: APPROVED (cli)" in browser.text
    assert "await payments.issue_refund(case)" in browser.text
    assert "waits for approval-1-team" in browser.text
    assert "/v2/runs/flow-run/" in browser.page


def test_what_a_customer_wrote_is_text_on_the_page(world: Rehearsal, browser: Browser) -> None:
    request = world.request(message="<script>alert(1)</script>", reason="<b>no</b>")
    world.run(request)
    browser.get(f"/inbox/{request.refund_id}/timeline")
    assert "<script>alert" not in browser.page
    assert "&lt;script&gt;alert(1)" in browser.page


def test_the_downloaded_history_is_the_document(world: Rehearsal, browser: Browser) -> None:
    request = paths.approve(world)
    answer = browser.get(f"/inbox/{request.refund_id}/history.json")
    assert answer.json() == world.document(request).plain()


def test_a_reset_is_shown_first_and_done_then(world: Rehearsal, browser: Browser) -> None:
    request = world.request()
    world.prefect.dies_before = "create_return_label"
    assert world.run(request) == "killed"
    where = f"/inbox/{request.refund_id}/timeline"
    browser.get(where)
    browser.post(f"/inbox/{request.refund_id}/reset", to="load_order", reason="typo")
    assert "Runs again: load_order" in browser.text
    assert not [e for e in world.document(request).events if e.event == "refund.reset"]
    browser.post(f"/inbox/{request.refund_id}/reset", to="load_order", reason="typo", apply="true")
    [told] = [e.data for e in world.document(request).events if e.event == "refund.reset"]
    assert (told["person"], told["reason"], told["to"]) == ("ops", "typo", "load_order")


def test_what_became_of_a_payment_is_shown_first_and_kept_then(
    world: Rehearsal, browser: Browser
) -> None:
    request = unknown(world)
    # So long after, nobody is signed in any more.
    assert browser.sign_in("ops").status_code == 303
    where = f"/inbox/{request.refund_id}"
    browser.get(f"{where}/timeline")
    assert "What became of its payment" in browser.text
    said = {"ending": "paid", "reference": "wire 12", "reason": "asked", "evidence": "statement 3"}
    browser.post(f"{where}/settle", **said)
    assert "paid as wire 12, says ops" in browser.text
    assert world.payment(request).state == "unknown"
    browser.post(f"{where}/settle", **said, apply="true")
    assert world.payment(request).state == "succeeded"
    browser.get(f"{where}/timeline")
    assert "ops says it was paid as wire 12: asked (statement 3)" in browser.text
    assert "What became of its payment" not in browser.text
    assert world.run(request) == "PAID"


def test_a_word_that_the_gateway_contradicts_is_refused_on_the_page(
    world: Rehearsal, browser: Browser
) -> None:
    request = unknown(world)
    # So long after, nobody is signed in any more.
    assert browser.sign_in("ops").status_code == 303
    reference = at_gateway(world, request, "by-hand")
    browser.get(f"/inbox/{request.refund_id}/timeline")
    said = {"ending": "not paid", "reason": "asked", "evidence": "statement 3"}
    browser.post(f"/inbox/{request.refund_id}/settle", **said)
    assert f"it is paid as {reference}" in browser.text
    answer = browser.post(f"/inbox/{request.refund_id}/settle", **said, apply="true")
    assert answer.status_code == 409
    assert f"it is paid as {reference}" in browser.text


def test_a_reset_behind_a_payment_is_refused_and_says_why(
    world: Rehearsal, browser: Browser
) -> None:
    request = world.request()
    world.prefect.dies_before = "sync_crm"
    assert world.run(request) == "killed"
    browser.get(f"/inbox/{request.refund_id}/timeline")
    answer = browser.post(
        f"/inbox/{request.refund_id}/reset", to="load_order", reason="typo", apply="true"
    )
    assert answer.status_code == 409
    assert "it is paid" in browser.text


@pytest.mark.parametrize("form", ["resume", "reset"])
def test_a_form_that_is_not_ours_does_nothing(
    world: Rehearsal, browser: Browser, form: str
) -> None:
    request = paths.stuck(world)
    before = history.read(world.ledger, request.refund_id)
    answer = browser.post(
        f"/inbox/{request.refund_id}/{form}", token="forged", to="load_order", apply="true"
    )
    assert answer.status_code == 403
    assert history.read(world.ledger, request.refund_id) == before


@pytest.mark.parametrize(
    ("person", "roles", "may"),
    [
        ("ops", ("approver",), True),
        ("ops", ("finance-leads",), True),
        ("ops", ("auditor",), False),
        ("lea", ("approver",), False),
    ],
)
def test_refunds_are_resumed_and_reset_by_those_who_have_a_role_that_decides(
    world: Rehearsal,
    browser: Browser,
    registered: Callable[[str, tuple[str, ...]], Person],
    person: str,
    roles: tuple[str, ...],
    may: bool,
) -> None:
    request = paths.stuck(world)
    before = history.read(world.ledger, request.refund_id)
    registered(person, roles)
    where = f"/inbox/{request.refund_id}"
    assert browser.get("/stuck").status_code == (200 if may else 403)
    assert browser.get(f"{where}/timeline").status_code == 200
    assert ("What was mended" in browser.text) == may
    assert ("You can look, but not resume or reset it" in browser.text) != may
    for form in ("reset", "resume"):
        answer = browser.post(f"{where}/{form}", to="load_order", reason="mended", apply="")
        assert (answer.status_code == 403) != may, form
    assert (history.read(world.ledger, request.refund_id) == before) != may


def test_whoever_is_not_signed_in_sees_no_timeline(world: Rehearsal, service: None) -> None:
    request = paths.approve(world)
    with TestClient(build(settings()), base_url=HERE) as client:
        for path in (f"/inbox/{request.refund_id}/timeline", "/stuck"):
            answer = client.get(path, follow_redirects=False)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")


def test_what_people_did_is_told_in_their_lane_with_amounts_as_people_write_them(
    world: Rehearsal,
) -> None:
    request = paths.asked(world)
    audit.saw(world.ledger, request.refund_id, "lea", Origin.of("service"), None)
    change = Update(None, 1, None, "", "the parcel is back")
    updates.update(world.ledger, request.refund_id, change, person="sue", reason="")
    assert world.run(request) == "suspended"
    half = Vote("approve", "lea", "cli", verified=True, reason="worn", amount_minor=100_000)
    approvals.decide(world.ledger, request.refund_id, half)
    assert world.run(request) == "suspended"
    world.decide(request, "approve", "mia")
    assert world.run(request) == "PAID"
    entries = timeline.entries(world.document(request).events)
    people = [entry.title for entry in entries if entry.lane == "people"]
    assert "lea looked at it" in people
    assert "sue added evidence: the parcel is back" in people
    assert "sue updated it: priority 1, evidence the parcel is back" in people
    assert "lea proposed $1,000.00 instead: worn" in people
    systems = [entry.title for entry in entries if entry.lane == "systems"]
    assert f"$1,000.00 of ch_{request.order_id[1:]} is reserved" in systems
    given_up = timeline.entries(world.document(paths.given_up(world)).events)
    [told] = [entry for entry in given_up if entry.event == "refund.given_up"]
    assert (told.lane, told.title) == ("people", "lea gave it up: the coupon is not worth it")


def test_waits_are_drawn_to_scale(world: Rehearsal) -> None:
    start = datetime(2026, 11, 25, tzinfo=UTC)
    waits = [timeline.Span("a", start, start + timedelta(hours=1))]
    waits.append(timeline.Span("b", waits[0].until or start, start + timedelta(hours=4)))
    ends = [start, *(wait.until or start for wait in waits)]
    entries = [
        timeline.Entry(number, at, "flow", "wait.started", "", "wait", ())
        for number, at in enumerate(ends)
    ]
    short, long = picture.drawn(entries, waits, start).bars
    # Each has one step of the picture besides.
    assert (long.width - 18) / (short.width - 18) == pytest.approx(3, rel=0.01)


def test_a_crash_and_a_retry_are_seen(world: Rehearsal) -> None:
    request = paths.crashed(world)
    events = world.document(request).events
    entries = timeline.entries(events)
    drawn = picture.drawn(entries, timeline.spans(events), world.ledger.clock())
    assert [dot.entry.event for dot in drawn.dots if dot.kind == "crash"] == ["run.lost"] * 2
