"""The places at which something dies while a burst takes refunds over from runs that sleep.

All are approved at once: the first few wake their own runs, a burst carries the others. A cell is
a wave of its own here, because there is one open burst at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from prefect.client.schemas.objects import StateType

from deployments.stack_environment import PROJECT
from refunds.ledger import batches, bursts, schema, waits
from tasks import runs
from tests.chaos import chaos_matrix
from tests.chaos.chaos_boundaries import NEEDS_A_PERSON, SLOW, TIMEOUT_AFTER, Boundary, Cell
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_matrix import VICTIMS, Column
from tests.chaos.chaos_stack import ChaosStack, until
from tests.house.patience import PATIENCE_SECONDS

_FINAL = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)

# Three go on by themselves; of the others a third is paid, a third does not know it, a third waits.
_TOGETHER = 10
_BURST_FROM = 3


def run_column(
    stack: ChaosStack,
    holds: Holds,
    victim: str,
    seed: int,
    boundaries: tuple[Boundary, ...],
) -> Column:
    """Kill one victim at each of these boundaries."""
    column = Column(victim, seed)
    for boundary in boundaries:
        name = f"rb-{seed}-{list(VICTIMS).index(victim)}-{BURST_BOUNDARIES.index(boundary)}"
        cell = Cell(boundary, [f"{name}-{number:02}" for number in range(_TOGETHER)])
        _run_cell(stack, holds, column, cell)
    column.notes += stack.problems()
    return column


def _run_cell(stack: ChaosStack, holds: Holds, column: Column, cell: Cell) -> None:
    stack.faults([])
    stack.take_together(dict.fromkeys(cell.refund_ids, NEEDS_A_PERSON))
    for refund_id in cell.refund_ids:
        until(partial(stack.waits_for, refund_id, "approval"), f"{refund_id} waits for a person")
    with cell.finally_there(stack, holds):
        VICTIMS[column.victim](stack, [cell])
    column.kills += 1
    column.cells += 1
    holds.let_all_go()
    chaos_matrix.see_out(stack, column, dict.fromkeys(cell.refund_ids, cell.boundary))
    _count_asleep(stack, column, cell)


def _count_asleep(stack: ChaosStack, column: Column, cell: Cell) -> None:
    """Every run has ended in Prefect, and no burst goes on.

    What a dead burst left asleep the sweep ends after two minutes: here they have passed.
    """
    row = schema.runs.c
    mine = row.refund_id.in_(cell.refund_ids)
    with stack.ledger.writing() as connection:
        connection.execute(
            schema.runs.update()
            .where(mine, row.left_asleep_at.is_not(None))
            .values(left_asleep_at=stack.ledger.clock() - timedelta(hours=1))
        )
    with stack.ledger.reading() as connection:
        run_ids = list(connection.execute(sa.select(row.run_id).where(mine)).scalars())

    def unfinished() -> list[str]:
        states = stack.states_of(run_ids)
        assert len(states) == len(set(run_ids)) >= _TOGETHER
        return [state for state in states if StateType(state) not in _FINAL]

    def is_over() -> bool:
        left = {sleeper.refund_id for sleeper in bursts.left_asleep(stack.ledger)}
        return (
            not unfinished()
            and left.isdisjoint(cell.refund_ids)
            and all(batches.read(stack.ledger, each).finished_at for each in _bursts(stack, cell))
        )

    try:
        until(is_over, "no run is left asleep")
    except AssertionError:
        column.stuck += max(1, len(unfinished()))
        column.notes.append(f"{cell.refund_id} ({cell.boundary.name}): left are {unfinished()}")


# --- Many decide at once ---


def _door(stack: ChaosStack, cell: Cell) -> subprocess.Popen[bytes]:
    """A door at which all of them are approved."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.chaos_door", *cell.refund_ids],
        cwd=PROJECT,
        env={**stack.environment, "REFUNDS_BURST_FROM": str(_BURST_FROM)},
    )


@contextlib.contextmanager
def _decided(stack: ChaosStack, cell: Cell) -> Iterator[str]:
    """All are approved and claimed, and nobody goes on yet; gives the burst's id."""
    with stack.frozen("worker"):
        with _door(stack, cell) as door:
            assert door.wait(timeout=PATIENCE_SECONDS) == 0
        [burst_id] = _bursts(stack, cell)
        assert len(_carried(stack, cell)) == _TOGETHER - _BURST_FROM
        yield burst_id


def _bursts(stack: ChaosStack, cell: Cell) -> set[str]:
    found = {stack.row(refund_id)["burst_id"] for refund_id in cell.refund_ids}
    return found - {None}


def _carried(stack: ChaosStack, cell: Cell) -> list[str]:
    """Those that a burst has; the others wake their own runs."""
    return [each for each in cell.refund_ids if stack.row(each)["burst_id"] is not None]


def _are_claimed(stack: ChaosStack, cell: Cell) -> bool:
    opened = [waits.open_waits(stack.ledger, refund_id) for refund_id in cell.refund_ids]
    return all(any(wait["woken_at"] is not None for wait in each) for each in opened)


# --- The boundaries ---


@contextlib.contextmanager
def _without_a_run(stack: ChaosStack, _holds: Holds, cell: Cell) -> Iterator[None]:
    """The door has claimed all of them, and dies before Prefect hears of any."""
    with stack.frozen("prefect"):
        with _door(stack, cell) as door:
            until(lambda: _are_claimed(stack, cell), "all are claimed")
            door.kill()
        assert _bursts(stack, cell)
        yield


@contextlib.contextmanager
def _in_the_sends(stack: ChaosStack, _holds: Holds, cell: Cell) -> Iterator[None]:
    with _decided(stack, cell) as burst_id:
        carried = _carried(stack, cell)
        kinds: tuple[dict[str, Any], ...] = ({}, TIMEOUT_AFTER, SLOW)
        rules = [(each, kinds[number % 3]) for number, each in enumerate(carried)]
        stack.faults([{"times": 1, "match": {"refund_id": e}, **kind} for e, kind in rules if kind])

    def paid() -> int:
        return sum(f"{each}:issue_refund" in stack.acts(each) for each in carried)

    until(lambda: paid() >= len(carried) * 2 // 3, "most of them are paid")
    cell.pid = stack.pid_of_batch(burst_id)
    yield


@contextlib.contextmanager
def _closed(stack: ChaosStack, holds: Holds, cell: Cell) -> Iterator[None]:
    """Prefect hangs when the burst wants to end its sleepers."""
    burst_id = _about_to_close(stack, holds, cell)
    with stack.frozen("prefect"):
        holds.let_go(burst_id)
        until(lambda: batches.read(stack.ledger, burst_id).finished_at, "the burst is closed")
        yield


@contextlib.contextmanager
def _ended_in_prefect(stack: ChaosStack, holds: Holds, cell: Cell) -> Iterator[None]:
    with _decided(stack, cell):
        held = _carried(stack, cell)[-1]
        holds.at(held, "ended:sleeper")
    _come(holds, cell, held)
    yield


@contextlib.contextmanager
def _waking(stack: ChaosStack, holds: Holds, cell: Cell) -> Iterator[None]:
    """One of those that wake for themselves is about to take its lease."""
    with _decided(stack, cell):
        [held, *_] = set(cell.refund_ids) - set(_carried(stack, cell))
        holds.at(held, "pass:wait")
    _come(holds, cell, held)
    yield


@contextlib.contextmanager
def _resumed(stack: ChaosStack, holds: Holds, cell: Cell) -> Iterator[None]:
    """Somebody presses Resume, and says no, for a run whose refund the burst is about to pay."""
    with _decided(stack, cell):
        carried = _carried(stack, cell)
        pressed = _resume(stack, carried[0])
        holds.at(carried[-1], "intend:issue_refund")
    _come(holds, cell, carried[-1])
    until(lambda: stack.states_of([pressed]) != [StateType.SCHEDULED.value], "it is resumed")
    yield


@contextlib.contextmanager
def _resumed_too_late(stack: ChaosStack, holds: Holds, cell: Cell) -> Iterator[None]:
    """As before, when the burst has paid and its runs still sleep."""
    _about_to_close(stack, holds, cell)
    _resume(stack, _carried(stack, cell)[0])
    yield


def _about_to_close(stack: ChaosStack, holds: Holds, cell: Cell) -> str:
    """The burst has paid, and is held before it is closed; its id."""
    with _decided(stack, cell) as burst_id:
        holds.at(burst_id, "close:batch")
    _come(holds, cell, burst_id)
    return burst_id


def _come(holds: Holds, cell: Cell, name: str) -> None:
    until(partial(holds.has_come, name), f"{name} is there")
    cell.pid = holds.pid(name)


def _resume(stack: ChaosStack, refund_id: str) -> str:
    """Press Resume in Prefect for the refund's sleeping run; returns the run's id."""
    [slept] = [
        sleeper.run_id
        for sleeper in bursts.left_asleep(stack.ledger)
        if sleeper.refund_id == refund_id
    ]

    async def press() -> None:
        answer = {"decision": "reject", "approver": "bob", "reason": "I press what I like"}
        async with runs.prefect() as client:
            answered = await client.resume_flow_run(UUID(slept), answer)
        assert answered.status.value == "ACCEPT"

    asyncio.run(press())
    return slept


_of_a_burst = partial(Boundary, together=_TOGETHER, needs_a_person=True)

BURST_BOUNDARIES = (
    _of_a_burst("after the decisions, before the burst has a run", at_last=_without_a_run),
    _of_a_burst("in the middle of the burst's sends", at_last=_in_the_sends),
    _of_a_burst("after its results, before its sleepers are ended", at_last=_closed),
    _of_a_burst(
        "after a sleeper's run has ended, before the ledger has it", at_last=_ended_in_prefect
    ),
    _of_a_burst("while a run beside the burst takes its lease", at_last=_waking),
    _of_a_burst("after Resume is pressed for what the burst carries", at_last=_resumed),
    _of_a_burst("after Resume is pressed for what the burst has paid", at_last=_resumed_too_late),
)
