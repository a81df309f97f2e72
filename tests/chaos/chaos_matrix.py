"""The crash matrix: at each boundary of the chain, each part of the machine dies.

A row is a boundary, a column is what dies. Cells of one column share a stack and are held at
their boundaries together, so that one kill strikes all of them.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from refunds.models import State
from tests.chaos.chaos_batches import BATCH_BOUNDARIES
from tests.chaos.chaos_boundaries import BOUNDARIES, NEEDS_A_PERSON, Boundary, Cell
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack, until

# The worker of an embedded stack executes four runs at a time.
_AT_ONCE = 4
# A database's complaint quotes the whole statement.
_NOTE_LENGTH = 300

ALL = BOUNDARIES + BATCH_BOUNDARIES


def _kill_runs(stack: ChaosStack, cells: list[Cell]) -> None:
    """Each cell's own process, and the service where it holds one in a webhook."""
    for cell in cells:
        if cell.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(cell.pid, 9)
    if any(stack.waits_for(cell.refund_id, "settlement") for cell in cells):
        stack.kill_role("service")


VICTIMS: dict[str, Callable[[ChaosStack, list[Cell]], object]] = {
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
    seed: int
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
    column, dice = Column(victim, seed), random.Random(f"{seed} {victim}")
    cells = [_cell(f"rf-{seed}-{list(VICTIMS).index(victim)}", each) for each in boundaries]
    dice.shuffle(cells)
    for start in range(0, len(cells), _AT_ONCE):
        _run_wave(stack, holds, column, cells[start : start + _AT_ONCE])
    column.notes += stack.problems()
    return column


def _cell(column: str, boundary: Boundary) -> Cell:
    name = f"{column}-{ALL.index(boundary)}"
    numbers = range(boundary.together)
    return Cell(
        boundary, [name] if len(numbers) == 1 else [f"{name}-{each:02}" for each in numbers]
    )


def _run_wave(stack: ChaosStack, holds: Holds, column: Column, cells: list[Cell]) -> None:
    stack.faults([rule for cell in cells for rule in cell.rules()])
    # Who has to be pushed takes seconds; the others are not held for so long.
    for cell in sorted(cells, key=lambda cell: cell.boundary.push is None):
        _send_off(stack, holds, cell)
    for cell in cells:
        until(partial(_is_there, stack, holds, cell), f"{cell.refund_id} is there")
        cell.pid = stack.pid_of_run(cell.refund_id) or stack.pid_of_batch(cell.batch_id)
    with ExitStack() as until_killed:
        # In the order in which they are listed: the last of them makes Prefect hang.
        for cell in sorted(cells, key=lambda cell: ALL.index(cell.boundary)):
            until_killed.enter_context(cell.finally_there(stack, holds))
        VICTIMS[column.victim](stack, cells)
    column.kills += 1
    holds.let_all_go()
    column.cells += len(cells)
    wanted = {refund_id: cell.boundary for cell in cells for refund_id in cell.refund_ids}
    see_out(stack, column, wanted)


def see_out(stack: ChaosStack, column: Column, wanted: dict[str, Boundary]) -> None:
    """Wait for the ends of these refunds, and count what came of them."""
    for refund_id in _not_over(stack, set(wanted)):
        column.stuck += 1
        row = stack.row(refund_id)
        stands = f"{row['state']} {row['attention'] or ''} {row['lease_holder']}"
        column.notes.append(f"{refund_id} ({wanted[refund_id].name}): {stands[:_NOTE_LENGTH]}")
    for refund_id, boundary in wanted.items():
        column.refunds += 1
        _judge(stack, column, refund_id, boundary)


def _send_off(stack: ChaosStack, holds: Holds, cell: Cell) -> None:
    if cell.boundary.hold:
        holds.at(cell.held, cell.boundary.hold)
    paid_minor = {
        refund_id: NEEDS_A_PERSON if cell.needs_a_person(number) else 10_000
        for number, refund_id in enumerate(cell.refund_ids)
    }
    stack.take_together(paid_minor)
    if cell.boundary.push is not None:
        cell.boundary.push(stack, cell)


def _is_there(stack: ChaosStack, holds: Holds, cell: Cell) -> bool:
    if cell.boundary.is_there is None:
        return holds.has_come(cell.held)
    return cell.boundary.is_there(stack, cell)


def _not_over(stack: ChaosStack, left: set[str]) -> set[str]:
    """Those of these refunds that do not end, by themselves but for the decision."""
    sequences: dict[str, int] = {}

    def has_moved() -> bool:
        before = dict(sequences)
        for refund_id in list(left):
            row = stack.row(refund_id)
            sequences[refund_id] = row["last_sequence"]
            if row["state"] == State.AWAITING_APPROVAL and stack.waits_for(refund_id, "approval"):
                stack.approve(refund_id)
            if row["outcome"] is not None:
                left.discard(refund_id)
        return sequences != before or not left

    with contextlib.suppress(AssertionError):
        while left:
            # The lease of a run that died unseen ends in a minute; a busy machine gets the rest.
            until(has_moved, "one of them moves")
    return left


def _judge(stack: ChaosStack, column: Column, refund_id: str, boundary: Boundary) -> None:
    """The refund ended as it should, and did each thing once."""
    outcome, acts = stack.row(refund_id)["outcome"], Counter(stack.acts(refund_id))
    if outcome not in (boundary.outcome, None):
        column.lost += 1
        column.notes.append(f"{refund_id} ({boundary.name}): it ended {outcome}")
    column.paid_twice += acts[f"{refund_id}:issue_refund"] > 1
    column.doubled += sum(
        count > 1 for key, count in acts.items() if not key.endswith(":issue_refund")
    )


def table(columns: list[Column]) -> str:
    """The outcome as a Markdown table; empty for none."""
    if not columns:
        return ""
    names = ("cells", "kills", "refunds", "lost", "paid_twice", "doubled", "stuck")
    heads = ("what dies", *names[:4], "paid twice", "other effects doubled", "stuck")
    rows = [(column.victim, *(str(getattr(column, name)) for name in names)) for column in columns]
    sums = [str(sum(getattr(column, name) for column in columns)) for name in names]
    lines = [heads, ("---", *("---:" for _ in names)), *rows, ("**all**", *sums)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
