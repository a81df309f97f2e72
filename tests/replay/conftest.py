"""One sandbox and one ledger a module, and the flow rehearsed on them."""

from collections.abc import Iterator

import pytest

from tests.replay.rehearsal import Rehearsal, rehearsal
from tests.tasks.conftest import outside as _outside
from tests.tasks.conftest import world as _tasks_world
from tests.tasks.tasks_world import Outside, World

outside = _outside
_tasks_side = _tasks_world


@pytest.fixture
def world(outside: Outside, _tasks_side: World) -> Iterator[Rehearsal]:
    with rehearsal(outside) as found:
        yield found
