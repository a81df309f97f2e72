"""Somebody else's identity provider: people sign in at its pages and come back as themselves."""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page

from refunds.ledger.access import accounts
from refunds.service.app import build
from refunds.settings import settings
from sandbox.testing import until
from tests.house import services
from tests.service.chromium import a_browser, a_page, served
from tests.service.service_world import PASSWORD, World

pytestmark = pytest.mark.chromium

_CLIENT, _SECRET = "refunds", "a secret of ours"


@dataclass(frozen=True)
class Canaille:
    """Canaille in a process of its own, with ann in it and our service as a client."""

    program: str
    home: Path
    port: int

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CANAILLE_CONFIG": str(self.home / "config.toml")}

    def prepare(self, way_back: str) -> None:
        key = json.loads(self._run("jwk", "create", "rsa"))
        shown = ", ".join(f"{name} = {json.dumps(value)}" for name, value in key.items())
        (self.home / "config.toml").write_text(
            f'SECRET_KEY = "for tests"\nSERVER_NAME = "127.0.0.1:{self.port}"\n'
            'PREFERRED_URL_SCHEME = "http"\n[CANAILLE]\nDATABASE = "sql"\nJAVASCRIPT = false\n'
            '[CANAILLE.ACL.DEFAULT]\nPERMISSIONS = ["use_oidc"]\n[CANAILLE_SQL]\n'
            f'DATABASE_URI = "sqlite:///{self.home}/canaille.db"\n'
            f"[CANAILLE_OIDC]\nACTIVE_JWKS = [{{{shown}}}]\n",
            encoding="utf-8",
        )
        self._run("install")
        ann = {"user-name": "ann", "password": PASSWORD, "family-name": "Wu"}
        self._run("create", "user", *_options({**ann, "emails": "ann@company.example"}))
        ours = {"client-id": _CLIENT, "client-secret": _SECRET, "client-name": "Refunds"}
        ours |= {"redirect-uris": way_back, "response-types": "code"}
        ours |= {"grant-types": "authorization_code"}
        ours |= {"token-endpoint-auth-method": "client_secret_basic"}
        scopes = [word for scope in ("openid", "profile", "email") for word in ("--scope", scope)]
        self._run("create", "client", *_options(ours), *scopes)

    def start(self) -> subprocess.Popen[bytes]:
        with (self.home / "canaille.log").open("wb") as log:
            return subprocess.Popen(
                [self.program, "run", "--bind", f"127.0.0.1:{self.port}"],
                env=self.environment,
                cwd=self.home,
                stdout=log,
                stderr=log,
            )

    def answers(self) -> bool:
        try:
            found = httpx.get(f"{self.issuer}/.well-known/openid-configuration", trust_env=False)
        except httpx.TransportError:
            return False
        return found.is_success

    def _run(self, *words: str) -> bytes:
        done = subprocess.run(
            [self.program, *words],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return done.stdout


def _options(given: dict[str, str]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def canaille(tmp_path: Path) -> Canaille:
    return Canaille(services.canaille(), tmp_path, _free_port())


@pytest.fixture
def address(desk: World, canaille: Canaille, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the service is; it knows the provider, and the provider knows it."""
    port = _free_port()
    where = f"http://127.0.0.1:{port}"
    canaille.prepare(f"{where}/sign-in/company/back")
    given = {"ISSUER": canaille.issuer, "CLIENT_ID": _CLIENT, "CLIENT_SECRET": _SECRET}
    for name, value in given.items():
        monkeypatch.setenv(f"REFUNDS_OIDC_{name}", value)
    monkeypatch.setenv("REFUNDS_PUBLIC_URL", where)
    settings.cache_clear()
    process = canaille.start()
    try:
        until(canaille.answers)
        with served(build(settings()), port):
            yield where
    finally:
        process.terminate()
        process.wait()


def come_by_the_company(page: Page, address: str, target: str = "/inbox") -> None:
    """Ask for a page and be led to the company's sign-in."""
    page.goto(address + target)
    page.get_by_role("link", name="Continue with your company account").click()


def sign_in_there(page: Page, password: str = PASSWORD) -> None:
    """Sign in at the provider's own pages."""
    page.get_by_label("Login", exact=True).fill("ann")
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_person_of_the_company_signs_in_at_its_own_provider_once_they_are_linked(
    desk: World, canaille: Canaille, address: str, chromium_path: Path
) -> None:
    refund_id = desk.waiting()
    with a_browser(chromium_path) as browser:
        page = a_page(browser)
        come_by_the_company(page, address)
        sign_in_there(page, "not the password")
        assert page.url.startswith(canaille.issuer)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Accept").click()
        told = page.get_by_text("refunds accounts link PERSON").inner_text()
        asked = re.search(r"link PERSON (\S+) (\S+)", told)
        assert asked is not None
        assert asked.group(1) == canaille.issuer
        accounts.link(desk.ledger, asked.group(1), asked.group(2), "ann")

        # Canaille tells a person's tokens apart by the second, and fails where it cannot.
        began = int(time.time())
        until(lambda: time.time() >= began + 1)
        come_by_the_company(page, address, f"/refunds/{refund_id}/review")
        page.get_by_label("Reason").fill("Checked")
        assert page.url == f"{address}/refunds/{refund_id}/review"
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("The question is closed: approved").wait_for()
    [decision] = desk.standing(refund_id).decisions
    assert (decision["person"], decision["verified"]) == ("ann", True)


def test_whoever_denies_it_at_the_provider_is_not_signed_in(
    canaille: Canaille, address: str, chromium_path: Path
) -> None:
    with a_browser(chromium_path) as browser:
        page = a_page(browser)
        come_by_the_company(page, address)
        sign_in_there(page)
        page.get_by_role("button", name="Deny").click()
        page.get_by_role("alert").wait_for()
        assert page.url.startswith(f"{address}/sign-in/company/back")
        page.goto(f"{address}/inbox")
        page.get_by_role("heading", name="Sign in").wait_for()
