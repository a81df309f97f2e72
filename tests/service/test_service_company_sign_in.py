"""Signing in with the company's account: who comes back is who was linked, and nobody else."""

from typing import Any

import pytest
from joserfc.jwk import ECKey
from pydantic import SecretStr
from starlette.applications import Starlette

from refunds.ledger.access import accounts
from refunds.service import oidc
from refunds.settings import settings
from tests.service.company import CLIENT, ISSUER, Company
from tests.service.service_world import Browser, World


@pytest.fixture
def company(desk: World) -> Company:
    """The service knows this provider."""
    found = Company()
    given = {
        "oidc_issuer": ISSUER,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SecretStr("s"),
    }
    app = desk.client.app
    assert isinstance(app, Starlette)
    oidc.install(app, settings().model_copy(update=given), found.transport)  # type: ignore[arg-type]  # FastAPI is one
    return found


def come_back(browser: Browser, company: Company, **query: str) -> int:
    """Go to the company's page, sign in there, and come back."""
    away = browser.client.get("/sign-in/company?next=/inbox", follow_redirects=False)
    assert away.headers["Location"].startswith(f"{ISSUER}/authorize")
    return browser.get(company.let_in(away.headers["Location"])).status_code


def test_a_linked_account_signs_in_as_its_person(desk: World, company: Company) -> None:
    accounts.link(desk.ledger, ISSUER, company.subject, "ann")
    browser = desk.browser()
    browser.get("/sign-in")
    assert "Continue with your company account" in browser.text
    assert come_back(browser, company) == 200
    assert "Sign out" in browser.text
    assert "ann" in browser.text


def test_an_account_that_nobody_linked_is_told_what_to_ask_for(
    desk: World, company: Company
) -> None:
    browser = desk.browser()
    assert come_back(browser, company) == 403
    assert f"refunds accounts link PERSON {ISSUER} u-42" in browser.text
    browser.get("/inbox")
    assert "Sign out" not in browser.text


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"aud": "another-client"},
        {"nonce": "replayed"},
        {"exp": 1},
        {"sub": ""},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_question_signs_nobody_in(
    desk: World, company: Company, changes: dict[str, Any]
) -> None:
    accounts.link(desk.ledger, ISSUER, company.subject, "ann")
    company.changes = changes
    browser = desk.browser()
    assert come_back(browser, company) == 401
    browser.get("/inbox")
    assert "Sign out" not in browser.text


@pytest.mark.parametrize(
    ("what", "value"),
    [("signs_with", ECKey.generate_key("P-256", {"kid": "k1"})), ("signs", False)],
    ids=["by somebody else", "by nobody, which the provider says it may do"],
)
def test_a_token_that_the_provider_did_not_sign_signs_nobody_in(
    desk: World, company: Company, what: str, value: Any
) -> None:
    accounts.link(desk.ledger, ISSUER, company.subject, "ann")
    setattr(company, what, value)
    browser = desk.browser()
    assert come_back(browser, company) == 401
    browser.get("/inbox")
    assert "Sign out" not in browser.text


def test_an_answer_that_this_browser_did_not_ask_for_signs_nobody_in(
    desk: World, company: Company
) -> None:
    accounts.link(desk.ledger, ISSUER, company.subject, "mallory")
    attacker, victim = desk.browser(), desk.browser()
    away = attacker.client.get("/sign-in/company", follow_redirects=False)
    planted = company.let_in(away.headers["Location"])
    assert victim.get(planted).status_code == 401
    victim.get("/inbox")
    assert "Sign out" not in victim.text


def test_a_provider_that_is_away_is_said_to_be(desk: World, company: Company) -> None:
    company.is_away = True
    browser = desk.browser()
    assert browser.get("/sign-in/company").status_code == 503
    assert "does not answer" in browser.text


def test_without_a_provider_there_is_no_such_door(desk: World) -> None:
    browser = desk.browser()
    browser.get("/sign-in")
    assert "company account" not in browser.text
    assert browser.get("/sign-in/company").status_code == 404
    assert browser.get("/sign-in/company/back?code=x&state=y").status_code == 404
