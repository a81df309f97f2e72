"""Thousands of interleavings of runs, people, webhooks, sweeps, crashes and faults, from a seed.

REFUNDS_SIMULATION_STORIES=2000 tells more of them, REFUNDS_SIMULATION_SEED=n begins at another
seed, and a failure prints the seed and the shortest tape that still fails.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import timedelta

import pytest

from refunds.errors import StepFailed
from refunds.ledger import requests
from tasks import effect, runs, sleepers, upkeep
from tests.simulation import sim_outside
from tests.simulation.sim_checks import Violated
from tests.simulation.sim_story import Story
from tests.simulation.sim_tape import Tape, shrink
from tests.simulation.sim_wiring import Wiring

# About twenty seconds on an idle core; each story is some 340 places where somebody else may
# go first. The long way is by the environment.
_STORIES = int(os.environ.get("REFUNDS_SIMULATION_STORIES", "60"))
_LENGTH = 140
_FIXED_SEED = 20_261_125
# So many stories find any one of the faults that are built into the engine below.
_ENOUGH = 150


@pytest.fixture(scope="module")
def wiring() -> Wiring:
    return Wiring()


@pytest.fixture
def wired(wiring: Wiring) -> Iterator[Wiring]:
    with pytest.MonkeyPatch.context() as patch:
        wiring.patch(patch)
        yield wiring


def _problem(wiring: Wiring, tape: Tape) -> str | None:
    try:
        Story(wiring, tape).tell(_LENGTH)
    except Violated as violated:
        return str(violated)
    return None


def _told(wiring: Wiring, first_seed: int, count: int) -> int:
    """Tell stories; returns how many steps they took."""
    steps = 0
    for seed in range(first_seed, first_seed + count):
        tape = Tape(seed=seed)
        story = Story(wiring, tape)
        try:
            story.tell(_LENGTH)
        except Violated as violated:
            numbers = shrink(tape.numbers, lambda cut: _problem(wiring, Tape(cut)) is not None)
            pytest.fail(f"seed {seed}: {violated}\nthe shortest tape that fails: {numbers}")
        steps += story.steps
    return steps


def test_every_refund_ends_once_whatever_happens_in_whatever_order(wired: Wiring) -> None:
    seed = int(os.environ.get("REFUNDS_SIMULATION_SEED", _FIXED_SEED))
    steps = _told(wired, seed, _STORIES)
    print(f"{_STORIES} stories from seed {seed}, {steps} steps")
    assert steps > _STORIES * 50


def test_so_it_does_from_seeds_that_nobody_has_seen(wired: Wiring) -> None:
    seed = random.SystemRandom().randrange(1_000_000_000)
    print(f"seed {seed}")
    _told(wired, seed, _STORIES // 4)


def test_a_story_is_the_same_whenever_its_tape_is_played(wired: Wiring) -> None:
    tape = Tape(seed=7)
    first = Story(wired, tape)
    first.tell(_LENGTH)
    again = Story(wired, Tape(tape.numbers))
    again.tell(_LENGTH)
    assert again.steps == first.steps
    assert again.outside.acts == first.outside.acts


def test_a_refund_that_was_started_since_it_was_found_lost_keeps_its_run(wired: Wiring) -> None:
    story = Story(wired, Tape())
    story._submit(0, ("return", "#W1", "i1", 10_000, 0))
    found_lost = requests.read(wired.ledger(), "rf_0")
    for judged in (None, found_lost):
        story._start("launch", runs.launch("rf_0", again=True, judged=judged))
        story._finish_all()
    assert requests.read(wired.ledger(), "rf_0")["run_number"] == 1
    assert len(story.prefect.runs) == 1


# --- A simulation that finds nothing proves nothing ---


def _finds(wiring: Wiring, what: str) -> bool:
    for seed in range(_ENOUGH):
        found = _problem(wiring, Tape(seed=seed))
        if found is not None and what in found:
            return True
    return False


def test_it_finds_an_engine_that_sends_again_without_asking_after_the_key_is_forgotten(
    wired: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing_found(_ask: object, _key: str) -> None:
        return None

    monkeypatch.setattr(effect, "_asked", nothing_found)
    monkeypatch.setattr(sim_outside, "KEY_RETENTION", timedelta(seconds=1))
    assert _finds(wired, "acted 2 times")


def test_it_finds_a_sweep_that_relaunches_nothing(
    wired: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing() -> int:
        return 0

    monkeypatch.setattr(upkeep, "relaunch_lost", nothing)
    assert _finds(wired, "is stuck in")


def test_it_finds_a_burst_that_nobody_starts_when_its_door_has_died(
    wired: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing() -> int:
        return 0

    monkeypatch.setattr(upkeep, "relaunch_batches", nothing)
    assert _finds(wired, "is stuck in")


def test_it_finds_a_burst_whose_sleepers_nobody_ends(
    wired: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_burst: object = None) -> int:
        return 0

    monkeypatch.setattr(sleepers, "end_sleepers", nothing)
    monkeypatch.setattr(sleepers, "end_late_sleepers", nothing)
    assert _finds(wired, "a burst left run")


def test_it_finds_a_decision_that_wakes_nobody(
    wired: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing() -> int:
        return 0

    monkeypatch.setattr(upkeep, "wake_ended", nothing)
    assert _finds(wired, "is stuck in")


def test_it_finds_an_ending_that_is_guessed(wired: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a time-out were taken for a refusal."""
    perform = effect.perform

    async def guess(action: effect.Action) -> object:
        try:
            return await perform(action)
        except StepFailed as error:
            await effect._record(action.refund_id, action.key, "refused", detail=str(error))
            raise

    for module in ("payments", "json_systems"):
        if hasattr(__import__(f"tasks.{module}", fromlist=["x"]), "perform"):
            monkeypatch.setattr(f"tasks.{module}.perform", guess)
    assert _finds(wired, "the gateway has")
