"""One migrated ledger a module on each kind of database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from refunds.ledger import Ledger, connector, engine_of, migrate
from sandbox.testing import FakeClock
from tests.house import services
from tests.ledger.ledger_desk import Desk


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)],
)
def ledger_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A migrated database that the tests of one module share: each uses ids of its own."""
    if request.param == "sqlite":
        url = _sqlite(tmp_path_factory.mktemp("ledger"))
        yield migrated(url)
        engine_of(connector(url)).dispose()
    else:
        server = request.getfixturevalue("postgresql_server")
        with services.fresh_database(server) as url:
            yield migrated(url)
            engine_of(connector(url)).dispose()


@pytest.fixture
def desk(ledger_url: str) -> Desk:
    clock = FakeClock()
    return Desk(Ledger(engine_of(connector(ledger_url)), clock), clock)


def migrated(url: str) -> str:
    migrate(url)
    return url


def _sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.db'}"
