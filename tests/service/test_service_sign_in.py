"""Signing in: who gets a session, what it is worth, and how it ends."""

import re

import pytest
from starlette.testclient import TestClient

from refunds.authority import Person
from refunds.ledger import people
from refunds.ledger.access import accounts
from refunds.service.app import build
from refunds.settings import Settings
from tests.service.service_world import HERE, PASSWORD, Browser, World, review


def cookie(browser: Browser) -> str | None:
    return browser.client.cookies.get("refunds")


def test_whoever_is_not_signed_in_is_led_to_the_sign_in_and_back(desk: World) -> None:
    refund_id = desk.waiting()
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    browser = desk.browser()
    for path in ("/", "/inbox", review(refund_id), "/changes"):
        browser.get(path)
        assert "Sign in" in browser.text
    browser.get(review(refund_id))
    answer = browser.post("/sign-in", person="ann", password=PASSWORD, next=review(refund_id))
    assert answer.headers["Location"] == review(refund_id)
    assert browser.get(review(refund_id)).status_code == 200


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\r\nb"]
)
def test_nobody_is_led_elsewhere_after_signing_in(desk: World, target: str) -> None:
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    answer = desk.browser().sign_in("ann", next=target)
    assert answer.headers["Location"] == "/inbox"


@pytest.mark.parametrize(
    ("person", "password"), [("ann", "wrong password"), ("nobody", PASSWORD), ("ann", ""), ("", "")]
)
def test_a_wrong_name_and_a_wrong_password_are_answered_alike(
    desk: World, person: str, password: str
) -> None:
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    browser = desk.browser()
    answer = browser.sign_in(person, password)
    assert answer.status_code == 401
    assert "Name and password do not belong together." in browser.text
    assert cookie(browser) is None


def test_a_session_that_was_planted_before_the_sign_in_is_worth_nothing(desk: World) -> None:
    planted = cookie(desk.browser("mallory"))
    assert planted is not None
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    victim = desk.browser()
    victim.client.cookies.set("refunds", planted, domain="127.0.0.1")
    victim.sign_in("ann")
    attacker = desk.browser()
    attacker.client.cookies.set("refunds", planted, domain="127.0.0.1")
    attacker.get("/inbox")
    assert "Sign in" in attacker.text
    made_up = desk.browser()
    made_up.client.cookies.set("refunds", "chosen-by-mallory", domain="127.0.0.1")
    made_up.sign_in("ann")
    assert "chosen-by-mallory" not in made_up.client.cookies.values()


def test_signing_out_ends_the_session_everywhere(desk: World) -> None:
    browser = desk.browser("ann")
    token = cookie(browser)
    browser.get("/inbox")
    browser.post("/sign-out")
    again = desk.browser()
    again.client.cookies.set("refunds", str(token), domain="127.0.0.1")
    again.get("/inbox")
    assert "Sign in" in again.text


def test_the_sign_in_form_cannot_be_sent_from_elsewhere(desk: World) -> None:
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    browser = desk.browser()
    browser.get("/sign-in")
    browser.post("/sign-in", token="forged", person="ann", password=PASSWORD)
    assert cookie(browser) is None
    answer = desk.browser().client.post(
        "/sign-in", data={"person": "ann", "password": PASSWORD}, follow_redirects=False
    )
    assert answer.status_code == 200
    assert "too old" in answer.text


@pytest.mark.usefixtures("stopped_clock")
def test_passwords_cannot_be_tried_for_ever(desk: World) -> None:
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    browser = desk.browser()
    codes = [browser.sign_in("ann", f"guess number {n}").status_code for n in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert browser.sign_in("ann").status_code == 429


def test_a_person_who_is_no_longer_active_cannot_sign_in(desk: World) -> None:
    people.add(desk.ledger, Person(person_id="ann", name="Ann"), by="test")
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    people.change(desk.ledger, "ann", by="test", is_active=False)
    assert desk.browser().sign_in("ann").status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(desk: World) -> None:
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    answer = desk.browser().sign_in("ann")
    cookies = answer.headers["Set-Cookie"]
    assert re.search(r"refunds=[^;]+; HttpOnly; Path=/; SameSite=lax", cookies)


def test_over_https_the_cookie_is_kept_to_https_and_to_this_host(
    desk: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refunds.settings import settings

    monkeypatch.setenv("REFUNDS_PUBLIC_URL", "https://refunds.example")
    settings.cache_clear()
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    client = TestClient(build(settings()), base_url="https://refunds.example")
    answer = Browser(client).sign_in("ann")
    assert "__Host-refunds=" in answer.headers["Set-Cookie"]
    assert "Secure" in answer.headers["Set-Cookie"]
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    assert client.get("/health", headers={"Host": "127.0.0.1"}).status_code == 200


def test_every_page_tells_the_browser_what_it_may_do(desk: World) -> None:
    headers = desk.client.get("/sign-in").headers
    policy = headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    page = desk.client.get("/sign-in").text
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|<style", page)


def test_the_service_makes_its_own_secret_where_none_is_given(desk: World) -> None:
    from refunds.settings import settings

    kept = settings().home_dir / "service-secret"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert Settings(service_secret="given").service_secret_text == "given"


def test_the_address_of_the_sign_in_is_of_this_service(desk: World) -> None:
    assert desk.client.get(f"{HERE}/inbox", follow_redirects=False).status_code == 303


def test_whoever_loses_their_place_is_out_at_once(desk: World) -> None:
    people.add(desk.ledger, Person(person_id="ann", name="Ann Lee"), by="test")
    accounts.set_password(desk.ledger, "Ann Lee", PASSWORD)
    browser = desk.browser("ann")
    browser.get("/inbox")
    assert "Ann Lee" in browser.text
    people.change(desk.ledger, "ann", by="test", is_active=False)
    browser.get("/inbox")
    assert "Sign out" not in browser.text


def test_a_form_that_comes_after_the_session_ended_leads_to_the_inbox(desk: World) -> None:
    answer = desk.browser().post("/rejections", chosen=["x"], reason="late")
    assert answer.headers["Location"] == "/sign-in?next=/inbox"


@pytest.mark.usefixtures("stopped_clock")
def test_a_stolen_session_decides_no_faster_than_a_person_and_can_still_be_ended(
    desk: World,
) -> None:
    browser = desk.browser("ann")
    browser.get("/inbox")
    form = {"decision": "approve", "digest": "0" * 64}
    answers = [browser.post("/refunds/rf_none/review", **form).status_code for _ in range(200)]
    assert (answers[0], answers[-1]) == (404, 429)
    assert browser.post("/sign-out").status_code == 303
    browser.get("/inbox")
    assert "Sign out" not in browser.text
