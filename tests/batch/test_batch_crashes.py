"""A batch's process is killed at any moment; the next run goes on, and nothing is done twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from refunds.ledger import batches, grouped
from refunds.models import Outcome
from tests.batch.batch_world import World
from tests.house.patience import PATIENCE_SECONDS
from tests.house.source import ROOT

SEED = 20261125

# Enough for several calls under way at once, and for one in four to wait for a person.
_COUNT = 12

# Transactions and answered calls of such a batch from beginning to end, and a few over.
_MOMENTS = 95


def carried_until(moment: int) -> int:
    """Carry the batch in a process that is gone at its n-th transaction or call."""
    command = [sys.executable, "-m", "tests.batch.batch_world", str(moment)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode in (0, 9), done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize("seed", range(SEED, SEED + 5))
@pytest.mark.slow
def test_a_batch_that_is_killed_twice_loses_nothing_and_doubles_nothing(
    world: World, seed: int
) -> None:
    chance = random.Random(seed)
    wanted = world.requests(_COUNT, f"k{seed}", goodwill_minor=500)
    for_people = [
        request.model_copy(update={"goodwill_minor": 9_000}) if number % 4 == 0 else request
        for number, request in enumerate(wanted)
    ]
    batch_id = world.take_together(for_people)

    codes = [carried_until(chance.randrange(1, _MOMENTS)) for _ in range(2)]
    world.carry(batch_id)
    assert 9 in codes

    asked = [request for request in for_people if request.goodwill_minor > 500]
    for request in for_people:
        row = world.row(request.refund_id)
        if request in asked:
            assert row["state"] == "awaiting_approval"
            assert row["lane"] == "now"
        else:
            assert row["outcome"] == Outcome.PAID
    ours = {request.refund_id for request in for_people}
    done = Counter(act["key"] for act in world.acts() if act["refund_id"] in ours)
    assert max(done.values()) == 1
    assert len(done) == 6 * (_COUNT - len(asked)) + len(asked)
    assert world.broken() == []
    assert batches.read(world.ledger, batch_id).finished_at is not None


def test_a_ledger_that_is_away_for_a_moment_is_no_refunds_trouble(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = world.requests(_COUNT, "away")
    batch_id = world.take_together(wanted)
    failing = iter([True])

    def record(*arguments: Any) -> Any:
        if next(failing, False):
            raise OperationalError("UPDATE effects", {}, ConnectionError("the ledger is away"))
        return original(*arguments)

    original = grouped.record
    monkeypatch.setattr(grouped, "record", record)
    with pytest.RaisesGroup(OperationalError, flatten_subgroups=True):
        world.carry(batch_id)
    world.carry(batch_id)
    assert {world.row(request.refund_id)["outcome"] for request in wanted} == {Outcome.PAID}
    ours = {request.refund_id for request in wanted}
    done = Counter(act["key"] for act in world.acts() if act["refund_id"] in ours)
    assert max(done.values()) == 1
    assert world.broken() == []
