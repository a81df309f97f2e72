"""Killed while a burst takes refunds over from sleeping runs: each is paid once, no run sleeps on.

A part of it; `make chaos` runs all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.chaos import chaos_bursts
from tests.chaos.chaos_bursts import BURST_BOUNDARIES
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack

_NAMED = {boundary.name: boundary for boundary in BURST_BOUNDARIES}


@pytest.mark.postgresql
@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "boundary"),
    [
        ("flow process", "in the middle of the burst's sends"),
        ("worker and its runs", "after its results, before its sleepers are ended"),
    ],
)
def test_a_kill_in_a_burst_leaves_nothing_lost_doubled_or_asleep(
    stack: ChaosStack,
    holds: Holds,
    record_property: Callable[[str, object], None],
    victim: str,
    boundary: str,
) -> None:
    column = chaos_bursts.run_column(stack, holds, victim, 1, (_NAMED[boundary],))
    record_property("chaos", asdict(column))
    assert column.is_clean, column
    assert (column.cells, column.kills) == (1, 1)
