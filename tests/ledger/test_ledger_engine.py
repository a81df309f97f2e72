"""What a connection to the ledger's PostgreSQL is told about hosts that vanish."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import sqlalchemy as sa

from refunds.ledger import connector, engine_of
from refunds.ledger import engine as engine_module
from refunds.ledger.book import LEASE_SECONDS
from refunds.ledger.engine import connect_to_read
from tests.house import services

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def url(postgresql_server: str) -> Iterator[str]:
    with services.fresh_database(postgresql_server) as url:
        yield url
        engine_of(connector(url)).dispose()


def _set(connection: sa.Connection, name: str) -> int:
    query = sa.text("SELECT setting::int FROM pg_settings WHERE name = :name")
    return int(connection.execute(query, {"name": name}).scalar_one())


@pytest.mark.parametrize("name", ["lock_timeout", "idle_in_transaction_session_timeout"])
def test_a_host_that_is_cut_off_holds_no_row_longer_than_its_lease(url: str, name: str) -> None:
    with engine_of(connector(url)).connect() as connection:
        assert 0 < _set(connection, name) < LEASE_SECONDS * 1_000


def test_a_server_that_vanished_is_noticed_and_an_address_may_say_how_soon(url: str) -> None:
    def told(url: str) -> dict[str, str]:
        engine = engine_of(connector(url))
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            return dict(driver.info.get_parameters())

    assert told(url)["tcp_user_timeout"] == "60000"
    other = sa.make_url(url).update_query_dict({"tcp_user_timeout": "5000"})
    address = other.render_as_string(hide_password=False)
    assert told(address)["tcp_user_timeout"] == "5000"
    engine_of(connector(address)).dispose()


def test_a_connection_that_died_while_it_was_idle_is_replaced(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_FRESH_SECONDS", 0.0)
    engine = engine_of(connector(url))

    def backend() -> int:
        with engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())

    first = backend()
    assert backend() == first, "a living one is kept"
    other = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with other.begin() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": first})
    other.dispose()

    assert backend() != first


def test_a_reader_leaves_no_transaction_and_no_mode_behind(url: str) -> None:
    engine = engine_of(connector(url))
    with connect_to_read(engine) as connection:
        connection.execute(sa.text("SELECT 1"))
        driver = cast("Any", connection.connection.driver_connection)
        assert driver.info.transaction_status.name == "IDLE"
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        assert driver.info.transaction_status.name == "INTRANS"
        assert connection.connection.driver_connection is driver, "the same, from the pool"
