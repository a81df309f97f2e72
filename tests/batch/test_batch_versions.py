"""A batch carries the refunds whose course it knows."""

from __future__ import annotations

import pytest

from refunds.clock import system_clock
from refunds.ledger import grouped, requests
from tests.batch.batch_world import World


def test_refunds_of_another_version_of_the_flow_leave_the_batch_for_runs_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = world.take_together(world.requests(2, "old"))
    monkeypatch.setattr(grouped, "FLOW_VERSION", 2)
    world.carry(batch_id)
    assert world.states() == {"received": 2}
    left = requests.unfinished(world.ledger, system_clock())
    assert [(row["refund_id"], row["run_id"]) for row in left] == [
        ("old_00001", None),
        ("old_00002", None),
    ]
    assert world.acts() == []
