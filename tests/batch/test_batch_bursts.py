"""A burst is a batch like any other: killed at any moment it goes on, and nothing is done twice."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from refunds.ledger import approvals, batches, bursts
from refunds.ledger.approvals import Vote
from refunds.models import Outcome, RefundRequest
from tests.batch.batch_world import World
from tests.batch.test_batch_crashes import carried_until

SEED = 20261129

_COUNT = 8

# Transactions and answered calls of such a burst from beginning to end, and a few over.
_MOMENTS = 75


def decided(world: World, name: str, choices: list[Any]) -> list[RefundRequest]:
    """Refunds that waited in runs of their own, with a decision on each."""
    # A coupon above what the rules allow is for a person.
    wanted = world.requests(len(choices), name, goodwill_minor=9_000)
    world.carry_singly(wanted)
    for request, choice in zip(wanted, choices, strict=True):
        with world.ledger.page(request.refund_id) as page:
            page.change(run_number=1)
        vote = Vote(choice=choice, person="lea", channel="cli", verified=True)
        approvals.decide(world.ledger, request.refund_id, vote)
    return wanted


def gathered(world: World, wanted: list[RefundRequest]) -> str:
    claims = [bursts.claim(world.ledger, request.refund_id, 0) for request in wanted]
    [burst_id] = {found.burst_id for found in claims if found is not None}
    assert burst_id is not None
    return burst_id


def acts(world: World, wanted: list[RefundRequest]) -> Counter[str]:
    ours = {request.refund_id for request in wanted}
    return Counter(act["key"] for act in world.acts() if act["refund_id"] in ours)


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
@pytest.mark.slow
def test_a_burst_that_is_killed_twice_pays_each_approved_refund_once(
    world: World, seed: int
) -> None:
    chance = random.Random(seed)
    choices = ["approve" if number % 4 else "reject" for number in range(_COUNT)]
    wanted = decided(world, f"b{seed}", choices)
    burst_id = gathered(world, wanted)

    codes = [carried_until(chance.randrange(1, _MOMENTS)) for _ in range(2)]
    assert 9 in codes
    prefect_runs = world.carry(burst_id)

    for request, choice in zip(wanted, choices, strict=True):
        outcome = Outcome.PAID if choice == "approve" else Outcome.REJECTED
        assert world.row(request.refund_id)["outcome"] == outcome
    done = acts(world, wanted)
    assert max(done.values()) == 1
    paid = [key for key in done if key.endswith(":issue_refund")]
    assert len(paid) == choices.count("approve")
    assert world.broken() == []
    assert batches.read(world.ledger, burst_id).finished_at is not None
    assert bursts.left_asleep(world.ledger, burst_id=burst_id) == []
    assert len(prefect_runs.created) == 0


def test_the_runs_that_slept_are_ended_by_the_burst_and_a_prefect_that_is_away_keeps_nobody(
    world: World,
) -> None:
    wanted = decided(world, "slept", ["approve", "reject"])
    burst_id = gathered(world, wanted)
    world.carry(burst_id, prefect_is_away=True)
    assert world.states() == {"completed": 2}
    assert len(bursts.left_asleep(world.ledger, burst_id=burst_id)) == 2
    prefect_runs = world.carry(burst_id)
    assert len(prefect_runs.ended) == 2
    assert bursts.left_asleep(world.ledger, burst_id=burst_id) == []


def test_a_burst_shows_no_progress_and_is_never_shared_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUNDS_SHARD_SIZE", "1")
    burst_id = gathered(world, decided(world, "whole", ["approve", "approve"]))
    prefect_runs = world.carry(burst_id)
    assert world.states() == {"completed": 2}
    assert prefect_runs.artifacts == []
    assert prefect_runs.launched == []
    assert batches.shards(world.ledger, burst_id) == []
