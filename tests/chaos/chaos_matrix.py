"""The crash matrix: at each boundary of the chain, each part of the machine dies.

A row is a boundary, a column is what dies. Cells of one column share a stack and are held at
their boundaries together, so that one kill strikes all of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from refunds.ledger import effects
from refunds.models import State
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack, until

# Above the limit up to which the rules approve by themselves.
_NEEDS_A_PERSON = 200_000
# A call that the gateway holds: long enough to be found in it on a busy machine, and shorter
# than the 12 s after which a client gives up.
_HELD_SECONDS = 9
# The worker of an embedded stack executes four runs at a time.
_AT_ONCE = 4

_PAY = "POST /gateway/v1/refunds"


@dataclass(frozen=True)
class Boundary:
    """One place between two statements, and how to have a refund sit there."""

    name: str
    # Where the ledger's row is about to be written, for `Holds`.
    hold: str = ""
    # What the outside world does about this refund.
    fault: dict[str, Any] = field(default_factory=dict)
    needs_a_person: bool = False
    outcome: str = "PAID"
    # Whether the refund is there; without one, when somebody is held.
    is_there: Callable[[ChaosStack, str], bool] | None = None
    # What brings it there once it waits.
    push: Callable[[ChaosStack, str], None] | None = None


def _is_intended(stack: ChaosStack, refund_id: str) -> bool:
    return effects.read(stack.ledger, f"{refund_id}:issue_refund") is not None


def _has_paid(stack: ChaosStack, refund_id: str) -> bool:
    return f"{refund_id}:issue_refund" in stack.acts(refund_id)


def _card_is_out(stack: ChaosStack, refund_id: str) -> bool:
    return f"{refund_id}:send_card:1:team" in stack.acts(refund_id)


def _waits(stack: ChaosStack, refund_id: str) -> bool:
    return stack.waits_for(refund_id, "approval")


def _is_approved(stack: ChaosStack, refund_id: str) -> bool:
    return bool(stack.row(refund_id)["state"] == State.APPROVED)


def _decide_and_die(stack: ChaosStack, refund_id: str) -> None:
    """The door that takes the decision dies before it wakes anybody."""
    until(lambda: _waits(stack, refund_id), f"{refund_id} waits")
    with stack.frozen("prefect"):
        door = subprocess.Popen(
            [*stack.command, "decide", refund_id, "approve", "--as", "mia"],
            env=stack.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: stack.row(refund_id)["state"] == State.APPROVED, "it is approved")
        door.kill()
        door.wait()


def _settle(stack: ChaosStack, refund_id: str) -> None:
    """The bank settles, and the gateway's webhook comes."""
    until(lambda: stack.waits_for(refund_id, "settlement"), f"{refund_id} waits for the bank")
    effect = effects.read(stack.ledger, f"{refund_id}:issue_refund")
    assert effect is not None
    assert effect.response is not None
    body = {"refund": effect.response["id"], "status": "succeeded"}
    stack.sandbox.put("/gateway/settle", json=body).raise_for_status()


BOUNDARIES = (
    Boundary("before the intent", hold="intend:issue_refund"),
    Boundary(
        "after the intent, before the gateway acts",
        fault={"endpoint": _PAY, "kind": "slow", "seconds": _HELD_SECONDS},
        is_there=_is_intended,
    ),
    Boundary(
        "after the gateway acted, before its answer",
        fault={"endpoint": _PAY, "kind": "timeout_after", "seconds": _HELD_SECONDS},
        is_there=_has_paid,
    ),
    Boundary("after the answer, before the ledger has it", hold="record:issue_refund:succeeded"),
    Boundary("after the ledger has it, before Prefect has", hold="result:issue_refund"),
    Boundary(
        "after a card went out, before its answer",
        fault={
            "endpoint": "POST /notices/v1/messages",
            "kind": "timeout_after",
            "seconds": _HELD_SECONDS,
        },
        needs_a_person=True,
        is_there=_card_is_out,
    ),
    Boundary("before it suspends", hold="wait:approval", needs_a_person=True),
    Boundary("after it suspended", needs_a_person=True, is_there=_waits),
    Boundary(
        "in a compensation",
        hold="intend:cancel_return_label",
        fault={"endpoint": _PAY, "kind": "decline"},
        outcome="FAILED",
    ),
    Boundary(
        "in a webhook",
        hold="record:issue_refund:succeeded",
        fault={"endpoint": _PAY, "kind": "pending"},
        push=_settle,
    ),
    Boundary(
        "after a decision, before its wake-up",
        needs_a_person=True,
        is_there=_is_approved,
        push=_decide_and_die,
    ),
    # The night's batch: put its boundaries here, with a push that starts the night.
)


def _kill_runs(stack: ChaosStack, refund_ids: list[str]) -> None:
    """Each refund's own process, and the service where it holds one in a webhook."""
    for refund_id in refund_ids:
        pid = stack.pid_of_run(refund_id)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
    if any(stack.waits_for(refund_id, "settlement") for refund_id in refund_ids):
        stack.kill_role("service")


VICTIMS: dict[str, Callable[[ChaosStack, list[str]], None]] = {
    "flow process": _kill_runs,
    "worker and its runs": lambda stack, _: stack.kill_role("worker"),
    "Prefect server": lambda stack, _: stack.kill_role("prefect"),
    "gateway": lambda stack, _: stack.kill_role("sandbox"),
    "database connections": lambda stack, _: stack.kill_connections(),
    "the whole host": lambda stack, _: stack.kill_host(),
}


@dataclass
class Column:
    """What came of the cells of one victim."""

    victim: str
    cells: int = 0
    kills: int = 0
    refunds: int = 0
    lost: int = 0
    paid_twice: int = 0
    doubled: int = 0
    stuck: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing twice, nothing stuck, and `refunds verify` agrees."""
        return not (self.lost or self.paid_twice or self.doubled or self.stuck or self.notes)


def run_column(
    stack: ChaosStack, holds: Holds, victim: str, seed: int, boundaries: tuple[Boundary, ...]
) -> Column:
    """Kill one victim at each of the boundaries, some at a time, in an order from the seed."""
    column, dice = Column(victim), random.Random(f"{seed} {victim}")
    shuffled = list(boundaries)
    dice.shuffle(shuffled)
    for start in range(0, len(shuffled), _AT_ONCE):
        wave = {
            f"rf-{seed}-{list(VICTIMS).index(victim)}-{BOUNDARIES.index(boundary)}": boundary
            for boundary in shuffled[start : start + _AT_ONCE]
        }
        _run_wave(stack, holds, column, wave)
    column.notes += stack.problems()
    return column


def _run_wave(stack: ChaosStack, holds: Holds, column: Column, wave: dict[str, Boundary]) -> None:
    stack.faults(
        [
            {"times": 1, "match": {"refund_id": refund_id}, **boundary.fault}
            for refund_id, boundary in wave.items()
            if boundary.fault
        ]
    )
    # Who has to be pushed takes seconds; the others are not held for so long.
    for refund_id, boundary in sorted(wave.items(), key=lambda item: item[1].push is None):
        if boundary.hold:
            holds.at(refund_id, boundary.hold)
        stack.take(refund_id, paid_minor=_NEEDS_A_PERSON if boundary.needs_a_person else 10_000)
        if boundary.push is not None:
            boundary.push(stack, refund_id)
    for refund_id, boundary in wave.items():
        until(
            partial(_is_there, stack, holds, refund_id, boundary), f"{refund_id} is {boundary.name}"
        )
    VICTIMS[column.victim](stack, list(wave))
    column.kills += 1
    holds.let_go()
    for refund_id, boundary in wave.items():
        column.cells += 1
        column.refunds += 1
        _judge(stack, column, refund_id, boundary)


def _is_there(stack: ChaosStack, holds: Holds, refund_id: str, boundary: Boundary) -> bool:
    if boundary.is_there is None:
        return holds.has_come(refund_id)
    return boundary.is_there(stack, refund_id)


def _judge(stack: ChaosStack, column: Column, refund_id: str, boundary: Boundary) -> None:
    """The refund ends as it should, by itself but for the decision, and did each thing once."""

    def is_over() -> bool:
        row = stack.row(refund_id)
        if row["state"] == State.AWAITING_APPROVAL and _waits(stack, refund_id):
            stack.approve(refund_id)
        return row["outcome"] is not None

    try:
        until(is_over, f"{refund_id} ends", 90)
    except AssertionError:
        column.stuck += 1
        column.notes.append(f"{refund_id} ({boundary.name}): {stack.row(refund_id)}")
        return
    outcome, acts = stack.row(refund_id)["outcome"], Counter(stack.acts(refund_id))
    if outcome != boundary.outcome:
        column.lost += 1
        column.notes.append(f"{refund_id} ({boundary.name}): it ended {outcome}")
    column.paid_twice += acts[f"{refund_id}:issue_refund"] > 1
    column.doubled += sum(
        count > 1 for key, count in acts.items() if not key.endswith(":issue_refund")
    )


def table(columns: list[Column]) -> str:
    """The outcome as a Markdown table."""
    names = ("cells", "kills", "refunds", "lost", "paid_twice", "doubled", "stuck")
    heads = ("what dies", *names[:4], "paid twice", "other effects doubled", "stuck")
    rows = [(column.victim, *(str(getattr(column, name)) for name in names)) for column in columns]
    sums = [str(sum(getattr(column, name) for column in columns)) for name in names]
    lines = [heads, ("---", *("---:" for _ in names)), *rows, ("**all**", *sums)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
