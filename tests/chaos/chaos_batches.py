"""The places at which something dies while a batch carries many refunds together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from refunds.ledger import batches, effects
from tests.chaos.chaos_boundaries import (
    DECLINE,
    PENDING,
    SLOW,
    TIMEOUT_AFTER,
    Boundary,
    Cell,
    settle,
)
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack, until

# Ten submitted at once are carried together; a few more make thirds and halves.
_TOGETHER = 12

_of_a_batch = partial(Boundary, together=_TOGETHER)


def _paid(stack: ChaosStack, cell: Cell) -> int:
    return sum(f"{name}:issue_refund" in stack.acts(name) for name in cell.refund_ids)


def _are_intended(stack: ChaosStack, cell: Cell) -> bool:
    keys = [f"{name}:issue_refund" for name in cell.refund_ids]
    return all(effects.read(stack.ledger, key) is not None for key in keys)


def _some_are_paid(stack: ChaosStack, cell: Cell) -> bool:
    """A third is paid, a third is paid and does not know it, a third is under way."""
    return _paid(stack, cell) >= _TOGETHER * 2 // 3


@contextlib.contextmanager
def _closed(stack: ChaosStack, holds: Holds, cell: Cell) -> Iterator[None]:
    """The batch's row is written; Prefect hangs, and does not hear of the run's end."""
    with stack.frozen("prefect"):
        holds.let_go(cell.held)
        until(
            lambda: batches.read(stack.ledger, cell.batch_id).finished_at is not None,
            "the batch is closed",
        )
        yield


@contextlib.contextmanager
def _making_runs(stack: ChaosStack, holds: Holds, cell: Cell) -> Iterator[None]:
    """Prefect has the runs of some, and not yet of all, that wait for a person."""
    holds.let_go(cell.held)
    until(lambda: stack.own_runs(cell.refund_ids), "runs are made for people")
    yield


BATCH_BOUNDARIES = (
    _of_a_batch("before the intents", hold="intend:issue_refund"),
    _of_a_batch(
        "after the intents, before the gateway acts", faults=(SLOW,), is_there=_are_intended
    ),
    _of_a_batch(
        "in the middle of the sends",
        faults=({}, TIMEOUT_AFTER, SLOW),
        is_there=_some_are_paid,
    ),
    _of_a_batch(
        "after the answers, before the ledger has all", hold="record:issue_refund:succeeded"
    ),
    _of_a_batch(
        "in the compensations",
        hold="intend:cancel_return_label",
        faults=(DECLINE,),
        outcome="FAILED",
    ),
    _of_a_batch(
        "in the webhooks", hold="record:issue_refund:succeeded", faults=(PENDING,), push=settle
    ),
    _of_a_batch("after the results, before the batch goes on", hold="advance:batch"),
    _of_a_batch(
        "while runs are made for people",
        hold="ask",
        needs_a_person=True,
        at_last=_making_runs,
    ),
    _of_a_batch(
        "after the cards, before it lets them wait", hold="wait:approval", needs_a_person=True
    ),
    _of_a_batch(
        "after the batch is closed, before Prefect knows", hold="close:batch", at_last=_closed
    ),
)
