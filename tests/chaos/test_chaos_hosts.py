"""A host that dies with its runs and never comes back."""

from __future__ import annotations

import pytest

from refunds.ledger import history
from tests.chaos import chaos_hosts
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack


@pytest.mark.postgresql
@pytest.mark.slow
@pytest.mark.long
def test_the_runs_of_a_host_that_never_comes_back_are_taken_over_by_another(
    stack: ChaosStack, holds: Holds
) -> None:
    if not chaos_hosts.can_be_named():
        pytest.skip("a host of another name needs root and unshare")
    taken = chaos_hosts.take_over(stack, holds, "rf-hosts")
    print(chaos_hosts.told(taken))
    for refund_id in taken:
        events = [event["event"] for event in history.read(stack.ledger, refund_id)]
        assert events.count("run.took_over") >= 2
    assert stack.problems() == []
