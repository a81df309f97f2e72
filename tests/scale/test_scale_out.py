"""Several of everything: what compose.yaml starts goes on when a server and a worker are killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refunds.models import Outcome, State
from tests.house.patience import until
from tests.scale.scale_world import World, scaled_out

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

# So many at once go together.
_TOGETHER = tuple(f"batch_{number:02}" for number in range(1, 13))
_ALONE = ("alone_1", "alone_2", "alone_3")
_PAID_WITHOUT_AN_ANSWER = _TOGETHER[5]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgresql_server: str) -> Iterator[World]:
    with scaled_out(tmp_path_factory.mktemp("scale"), postgresql_server) as world:
        yield world


def test_refunds_end_once_when_a_server_and_a_worker_are_killed(world: World) -> None:
    world.submit("decided", "left_alone", for_a_person=True)
    world.until_all(("decided", "left_alone"), state=State.AWAITING_APPROVAL)
    world.hold_answer(_PAID_WITHOUT_AN_ANSWER)
    world.submit_together(*_TOGETHER)
    key = f"{_PAID_WITHOUT_AN_ANSWER}:issue_refund"
    until(lambda: key in world.payments(), "one was paid and nobody here knows")
    world.submit(*_ALONE)

    world.composed.kill("prefect-1")
    world.composed.kill(world.worker_of(_PAID_WITHOUT_AN_ANSWER))
    world.approve("decided")

    paid = (*_TOGETHER, *_ALONE, "decided")
    world.until_all(paid, outcome=Outcome.PAID)
    assert sorted(world.payments()) == sorted(f"{refund_id}:issue_refund" for refund_id in paid)
    acts = [act["key"] for act in world.acts()]
    assert len(acts) == len(set(acts))
    assert world.row("left_alone")["state"] == State.AWAITING_APPROVAL
    world.refunds("verify")


def test_stock_process_workers_take_over_and_what_waited_is_still_paid(world: World) -> None:
    world.stop_workers()
    world.submit("queued")
    world.change_to_stock_workers()
    world.approve("left_alone")
    world.submit("stock_decided", for_a_person=True)
    world.until_all(("stock_decided",), state=State.AWAITING_APPROVAL)
    world.approve("stock_decided")

    paid = ("queued", "stock_decided", "left_alone")
    world.until_all(paid, outcome=Outcome.PAID)
    keys = world.payments()
    assert all(keys.count(f"{refund_id}:issue_refund") == 1 for refund_id in paid)
    world.refunds("verify")
