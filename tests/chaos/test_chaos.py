"""Killed from outside at named boundaries: nothing lost, nothing twice, nothing stuck.

A part of the matrix; `make chaos` runs all of it and writes docs/reliability.md.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.chaos import chaos_report
from tests.chaos.chaos_boundaries import Boundary
from tests.chaos.chaos_bursts import BURST_BOUNDARIES
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_matrix import ALL, VICTIMS, run_column
from tests.chaos.chaos_stack import ChaosStack

Record = Callable[[str, object], None]

_NAMED = {boundary.name: boundary for boundary in ALL}
# One wave: four runs at a time are what an embedded worker executes.
_ALWAYS = (
    _NAMED["before the intent"],
    _NAMED["after the gateway acted, before its answer"],
    _NAMED["before it suspends"],
    _NAMED["in the middle of the sends"],
)


@pytest.mark.postgresql
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["flow process", "worker and its runs", "the whole host"])
def test_a_kill_at_a_boundary_of_the_chain_leaves_nothing_lost_doubled_or_stuck(
    stack: ChaosStack, holds: Holds, record_property: Record, victim: str
) -> None:
    _strike(stack, holds, record_property, victim, 1, _ALWAYS)


@pytest.mark.postgresql
@pytest.mark.slow
@pytest.mark.parametrize("which", range(2))
def test_so_does_a_kill_that_nobody_has_seen(
    stack: ChaosStack, holds: Holds, record_property: Record, which: int
) -> None:
    chosen = os.environ.get("CHAOS_SEEDS", "").split()
    seed = int(chosen[which]) if chosen else random.SystemRandom().randrange(2, 1_000_000)
    dice = random.Random(seed)
    victim, struck = dice.choice(list(VICTIMS)), tuple(dice.sample(ALL, 4))
    print(f"seed {seed}: {victim}; {'; '.join(boundary.name for boundary in struck)}")
    _strike(stack, holds, record_property, victim, seed, struck)


def test_the_report_is_about_the_boundaries_that_are_struck() -> None:
    assert chaos_report.boundaries_named() == [boundary.name for boundary in ALL + BURST_BOUNDARIES]


def _strike(
    stack: ChaosStack,
    holds: Holds,
    record_property: Record,
    victim: str,
    seed: int,
    struck: tuple[Boundary, ...],
) -> None:
    column = run_column(stack, holds, victim, seed, struck)
    record_property("chaos", asdict(column))
    assert column.is_clean, column
    assert (column.cells, column.kills) == (len(struck), 1)
