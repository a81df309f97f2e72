"""One sandbox and one ledger a module, the flow rehearsed on them, and the service before it."""

from collections.abc import Callable, Iterator

import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from refunds.authority import Person
from refunds.ledger import people, schema
from refunds.ledger.access import accounts
from refunds.scopes import Scope
from refunds.service import limits
from refunds.service.app import build
from refunds.settings import settings
from tests.replay.program import Program
from tests.replay.rehearsal import Rehearsal, rehearsal
from tests.service.chromium import served
from tests.service.service_world import HERE, PASSWORD, Browser
from tests.tasks.conftest import outside as _outside
from tests.tasks.conftest import world as _tasks_world
from tests.tasks.tasks_world import Outside, World

outside = _outside
_tasks_side = _tasks_world


@pytest.fixture
def world(outside: Outside, _tasks_side: World) -> Iterator[Rehearsal]:
    with rehearsal(outside) as found:
        yield found


@pytest.fixture
def service(world: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ops has an account; nobody knocks too often."""
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=64))
    accounts.set_password(world.ledger, "ops", PASSWORD)
    for limit in limits.ALL:
        monkeypatch.setattr(limit, "spend", lambda _: None)


@pytest.fixture
def browser(service: None) -> Iterator[Browser]:
    """Ops' browser, signed in."""
    with TestClient(build(settings()), base_url=HERE) as client:
        found = Browser(client)
        assert found.sign_in("ops").status_code == 303
        yield found


@pytest.fixture
def address(service: None) -> Iterator[str]:
    """The service at an address of its own."""
    with served(build(settings())) as where:
        yield where


@pytest.fixture
def client(service: None) -> Iterator[TestClient]:
    """The service in this process."""
    with TestClient(build(settings()), base_url=HERE) as found:
        yield found


@pytest.fixture
def program(world: Rehearsal, client: TestClient) -> Program:
    """A program that may look and steer."""
    return Program(client, world.ledger, Scope.READ, Scope.STEER)


@pytest.fixture
def registered(world: Rehearsal) -> Iterator[Callable[[str, tuple[str, ...]], Person]]:
    """Registers people, of whom none is left afterwards."""

    def add(person_id: str, roles: tuple[str, ...]) -> Person:
        person = Person(person_id=person_id, name=person_id, roles=roles)
        return people.add(world.ledger, person, by="test")

    yield add
    with world.ledger.writing() as connection:
        connection.execute(schema.people.delete())
