"""Each path of the flow is replayed from its history, and nothing happens."""

import pytest

from refunds.replay import Stage, replay
from tests.replay.paths import PATHS
from tests.replay.rehearsal import Rehearsal


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("path", list(PATHS))
def test_a_replayed_path_gives_the_same_commands_and_the_same_outcome_and_does_nothing(
    world: Rehearsal, stage: Stage, path: str
) -> None:
    request = PATHS[path](world)
    before = (world.acts(), world.document(request))
    performance = replay(world.document(request), stage)
    assert performance.difference is None
    assert performance.outcome == world.row(request)["outcome"]
    assert (world.acts(), world.document(request)) == before
