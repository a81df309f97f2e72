"""The arithmetic of docs/scaling.md is executed as it stands there."""

from __future__ import annotations

import doctest

from deployments.stack_environment import PROJECT


def test_the_figures_for_a_million_a_day_follow_from_those_above_them() -> None:
    found = doctest.testfile(str(PROJECT / "docs" / "scaling.md"), module_relative=False)
    assert found.attempted > 0
    assert found.failed == 0
