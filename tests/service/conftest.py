"""The service in this process, over an empty ledger; nobody is at Prefect's address."""

import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from prefect.settings import PREFECT_API_URL, temporary_settings
from starlette.testclient import TestClient

from refunds.ledger import migrate
from refunds.ledger.access import accounts
from refunds.ledger.engine import dispose_engines
from refunds.service import limits
from refunds.service.app import build
from refunds.settings import settings
from sandbox.testing import World as Sandbox
from tasks import books
from tests.service.service_world import HERE, World


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A shop for the module; each refund has an order of its own in it."""
    with Sandbox(tmp_path_factory.mktemp("shop")) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated ledger that nobody wrote to; each test gets a copy."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    migrate(f"sqlite:///{path}")
    dispose_engines()
    return path


@pytest.fixture
def desk(shop: Sandbox, empty_ledger: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The service, a ledger of its own, and the shop."""
    monkeypatch.setenv("REFUNDS_SHOP_URL", f"sqlite:///{shop.home / 'shop.db'}")
    # A hash that costs what it should would be most of these tests' time.
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=64))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        prefect = f"http://127.0.0.1:{nobody.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", prefect)
        settings.cache_clear()
        settings().home_dir.mkdir(parents=True)
        shutil.copy(empty_ledger, settings().home_dir / "ledger.db")
        books._engine.cache_clear()
        for limit in limits.ALL:
            limit.forget()
        with (
            temporary_settings({PREFECT_API_URL: prefect}),
            TestClient(build(settings()), base_url=HERE) as client,
        ):
            yield World(client, shop)
    books._engine.cache_clear()
    dispose_engines()


@pytest.fixture
def stopped_clock(desk: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still in the ledger, so that no bucket fills up while a slow machine knocks."""
    at = desk.ledger.clock()
    ledger = replace(desk.ledger, clock=lambda: at)
    monkeypatch.setattr(books, "ledger", lambda: ledger)
