"""One stack for all of these tests, on a PostgreSQL ledger of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.stack import free_ports
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack
from tests.house import services


@pytest.fixture(scope="session")
def running(
    tmp_path_factory: pytest.TempPathFactory, postgresql_server: str
) -> Iterator[ChaosStack]:
    home = tmp_path_factory.mktemp("chaos")
    with (
        services.fresh_database(postgresql_server) as ledger_url,
        ChaosStack(home, free_ports(), ledger_url).running() as stack,
    ):
        yield stack


@pytest.fixture
def stack(running: ChaosStack) -> Iterator[ChaosStack]:
    with running.entered() as stack:
        yield stack


@pytest.fixture
def holds(stack: ChaosStack) -> Iterator[Holds]:
    with stack.database() as connection:
        holds = Holds(connection)
        holds.install()
        yield holds
        holds.let_all_go()
