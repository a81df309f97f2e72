"""One sandbox and one ledger a module; settings that point every task at them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from refunds.ledger import connector, engine_of, migrate, schema
from refunds.settings import settings
from sandbox.process import SandboxProcess
from tasks import books, gateways, http
from tests.tasks.fakes import FakeServer
from tests.tasks.products import MAPPING, Product
from tests.tasks.tasks_world import Outside, World

# Our own sandbox answers in milliseconds; a step that meets a held connection gives up soon.
_TIMEOUT = httpx.Timeout(0.5, connect=5.0)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A sandbox process, a migrated ledger, and one event loop for all steps."""
    home: Path = tmp_path_factory.mktemp("outside")
    url = f"sqlite:///{home / 'ledger.db'}"
    migrate(url)
    with (
        SandboxProcess(home / "sandbox") as process,
        httpx.Client(base_url=process.url, timeout=20) as client,
        asyncio.Runner() as runner,
    ):
        yield Outside(process, url, client, runner)
        runner.run(_close())
    engine_of(connector(url)).dispose()


@pytest.fixture
def world(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    process = outside.process
    for system in ("gateway", "crm", "coupons", "logistics", "notices"):
        monkeypatch.setenv(f"REFUNDS_{system.upper()}_URL", f"{process.url}/{system}")
    monkeypatch.setenv("REFUNDS_LEDGER_URL", outside.ledger_url)
    monkeypatch.setenv("REFUNDS_SHOP_URL", f"sqlite:///{process.shop_database}")
    monkeypatch.setattr(http, "_TIMEOUT", _TIMEOUT)
    settings.cache_clear()
    books._engine.cache_clear()
    world = World(outside)
    world.faults()
    # What one test's faults made of a system is not the next one's outage.
    with world.ledger.writing() as connection:
        connection.execute(schema.outages.delete())
    yield world
    books.shop().dispose()
    books._engine.cache_clear()


async def _close() -> None:
    await http.close()


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a fake in a system's place, with the settings that its adapter needs."""
    real, fakes = http._pool, dict[str, httpx.AsyncBaseTransport]()

    def pool(system: str, url: httpx.URL) -> httpx.AsyncBaseTransport:
        return fakes.get(system) or real(system, url)

    monkeypatch.setattr(http, "_pool", pool)

    def put(system: str, fake: httpx.AsyncBaseTransport, **variables: str) -> None:
        fakes[system] = fake
        for name, value in variables.items():
            monkeypatch.setenv(f"REFUNDS_{name.upper()}", value)
        settings.cache_clear()

    return put


@pytest.fixture
def server(
    product: Product, world: World, reach: Callable[..., None], tmp_path: Path
) -> FakeServer:
    mapping = tmp_path / "systems.toml"
    mapping.write_text(MAPPING)
    # What an adapter kept of another test's server is not this one's.
    gateways._made.cache_clear()
    server = product.server()
    system = product.step.endpoint.split("/")[1]
    reach(system, server, **product.settings, systems_mapping=str(mapping))
    return server
