"""The places at which something dies: between two statements of the chain of one refund.

Those of a batch are in `chaos_batches`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from refunds.ledger import batches, effects
from refunds.models import State
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack, until

# A call that the gateway holds: long enough to be found in it on a busy machine, and shorter
# than the 12 s after which a client gives up.
HELD_SECONDS = 9
# Above the limit up to which the rules approve by themselves.
NEEDS_A_PERSON = 200_000

PAY = "POST /gateway/v1/refunds"
SLOW = {"endpoint": PAY, "kind": "slow", "seconds": HELD_SECONDS}
DECLINE = {"endpoint": PAY, "kind": "decline"}
PENDING = {"endpoint": PAY, "kind": "pending"}
TIMEOUT_AFTER = {"endpoint": PAY, "kind": "timeout_after", "seconds": HELD_SECONDS}


@dataclass(frozen=True)
class Boundary:
    """One place between two statements, and how to have a refund or a batch sit there."""

    name: str
    # Where the ledger's row is about to be written, for `Holds`, of `Cell.held`.
    hold: str = ""
    # What the outside world does, to the refunds of a cell in turn.
    faults: tuple[dict[str, Any], ...] = ()
    # Of a batch, every second refund does.
    needs_a_person: bool = False
    outcome: str = "PAID"
    # How many refunds are carried together.
    together: int = 1
    # Whether it is there; without one, when somebody is held.
    is_there: Callable[[ChaosStack, Cell], bool] | None = None
    # What brings it there once it is submitted.
    push: Callable[[ChaosStack, Cell], None] | None = None
    # What is done, until the kill, when all are there.
    at_last: Callable[[ChaosStack, Holds, Cell], AbstractContextManager[None]] | None = None


@dataclass
class Cell:
    """A refund, or those of one batch, at a boundary."""

    boundary: Boundary
    refund_ids: list[str]
    # The process that carried it there.
    pid: int | None = field(default=None)

    @property
    def refund_id(self) -> str:
        """The refund at which it is held: the last one of a batch."""
        return self.refund_ids[-1]

    @property
    def batch_id(self) -> str:
        """What the ledger calls the batch of these refunds."""
        return batches.file_id(self.refund_ids)

    @property
    def held(self) -> str:
        """Whose row it is that is about to be written."""
        return self.batch_id if self.boundary.hold.endswith(":batch") else self.refund_id

    def needs_a_person(self, number: int) -> bool:
        """Whether the n-th of its refunds does."""
        return self.boundary.needs_a_person and (self.boundary.together == 1 or number % 2 == 1)

    def rules(self) -> list[dict[str, Any]]:
        """The faults that hold its refunds there."""
        kinds = self.boundary.faults or ({},)
        return [
            {"times": 1, "match": {"refund_id": refund_id}, **kinds[number % len(kinds)]}
            for number, refund_id in enumerate(self.refund_ids)
            if kinds[number % len(kinds)]
        ]

    def finally_there(self, stack: ChaosStack, holds: Holds) -> AbstractContextManager[None]:
        """The last thing before the kill."""
        last = self.boundary.at_last
        return nullcontext() if last is None else last(stack, holds, self)


def _is_intended(stack: ChaosStack, cell: Cell) -> bool:
    return effects.read(stack.ledger, f"{cell.refund_id}:issue_refund") is not None


def _has_paid(stack: ChaosStack, cell: Cell) -> bool:
    return f"{cell.refund_id}:issue_refund" in stack.acts(cell.refund_id)


def _card_is_out(stack: ChaosStack, cell: Cell) -> bool:
    return f"{cell.refund_id}:send_card:1:team" in stack.acts(cell.refund_id)


def _waits(stack: ChaosStack, cell: Cell) -> bool:
    return stack.waits_for(cell.refund_id, "approval")


def _is_approved(stack: ChaosStack, cell: Cell) -> bool:
    return bool(stack.row(cell.refund_id)["state"] == State.APPROVED)


def _decide_and_die(stack: ChaosStack, cell: Cell) -> None:
    """The door that takes the decision dies before it wakes anybody."""
    until(lambda: _waits(stack, cell), f"{cell.refund_id} waits")
    with stack.frozen("prefect"):
        door = subprocess.Popen(
            [*stack.command, "decide", cell.refund_id, "approve", "--as", "mia"],
            env=stack.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: _is_approved(stack, cell), "it is approved")
        door.kill()
        door.wait()


def settle(stack: ChaosStack, cell: Cell) -> None:
    """The bank settles, and the gateway's webhooks come: the one that is held comes last."""
    for refund_id in cell.refund_ids:
        until(partial(stack.waits_for, refund_id, "settlement"), f"{refund_id} waits for the bank")
    for refund_id in cell.refund_ids:
        effect = effects.read(stack.ledger, f"{refund_id}:issue_refund")
        assert effect is not None
        assert effect.response is not None
        body = {"refund": effect.response["id"], "status": "succeeded"}
        stack.sandbox.put("/gateway/settle", json=body).raise_for_status()


BOUNDARIES = (
    Boundary("before the intent", hold="intend:issue_refund"),
    Boundary("after the intent, before the gateway acts", faults=(SLOW,), is_there=_is_intended),
    Boundary(
        "after the gateway acted, before its answer", faults=(TIMEOUT_AFTER,), is_there=_has_paid
    ),
    Boundary("after the answer, before the ledger has it", hold="record:issue_refund:succeeded"),
    Boundary("after the ledger has it, before Prefect has", hold="result:issue_refund"),
    Boundary(
        "after a card went out, before its answer",
        faults=({**TIMEOUT_AFTER, "endpoint": "POST /notices/v1/messages"},),
        needs_a_person=True,
        is_there=_card_is_out,
    ),
    Boundary("before it suspends", hold="wait:approval", needs_a_person=True),
    Boundary("after it suspended", needs_a_person=True, is_there=_waits),
    Boundary(
        "in a compensation",
        hold="intend:cancel_return_label",
        faults=(DECLINE,),
        outcome="FAILED",
    ),
    Boundary(
        "in a webhook",
        hold="record:issue_refund:succeeded",
        faults=(PENDING,),
        push=settle,
    ),
    Boundary(
        "after a decision, before its wake-up",
        needs_a_person=True,
        is_there=_is_approved,
        push=_decide_and_die,
    ),
)
