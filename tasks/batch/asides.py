"""A refund that leaves the main road goes where the single chain would have it.

Who needs a person gets a run of its own, suspended from the start. What only time or the gateway
can mend waits in the ledger without a run, and calls its batch back when it is due.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from refunds.errors import StaleRunner, StepRetryable
from refunds.ledger import Ledger, effects, waits
from refunds.ledger.effects import PAYMENT_STEP, key_of
from refunds.models import Payment, Standstill
from tasks import books, payments
from tasks.batch import own_runs, resting
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.journaling import Step, every_time
from tasks.batch.resting import Rest
from tasks.batch.writer import write


@dataclass(frozen=True)
class Trouble:
    """Why a refund is handed to a person, and the step of the chain that says so."""

    road: Road
    why: str
    step: Step


async def put_aside(chunk: Chunk, errors: Mapping[str, Exception]) -> None:
    """Each of these refunds waits for time, or for a person, as its error says."""
    troubles: list[Trouble] = []
    for refund_id, error in errors.items():
        road = chunk.roads[refund_id]
        if isinstance(error, StaleRunner):
            road.leave("another runner has it")
        elif isinstance(error, StepRetryable):
            system, said = error.system, str(error)
            step = every_time("note_outage", request=road.request, system=system, detail=said)
            why = await write(resting.wait_out, road, step, error)
            if why is None:
                road.leave(said)
            else:
                troubles.append(Trouble(road, why, step))
        else:
            step = every_time("note_attention", request=road.request, why=str(error))
            troubles.append(Trouble(road, str(error), step))
    await _hand_to_people(troubles)


async def wait_for_settlement(roads: Sequence[Road]) -> None:
    """The gateway has the last word on these payments, and will give it later."""
    late: list[Trouble] = []
    for road in roads:
        step = every_time("await_settlement", case=road.case)
        why = await write(resting.wait_for_gateway, road, step)
        if why is not None:
            late.append(Trouble(road, why, step))
        elif road.turn is not Turn.LEFT:
            road.payment = await write(_settled, road, step)
    await _hand_to_people(late)


async def _hand_to_people(troubles: Sequence[Trouble]) -> None:
    """Nothing safe is left to do for these: each waits, in a run of its own, to be resumed."""
    names: dict[str, str] = {}
    for refund_id in (trouble.road.refund_id for trouble in troubles):
        before = await asyncio.to_thread(waits.count_named, books.ledger(), refund_id, "attention-")
        names[refund_id] = f"attention-{before + 1}"
    roads = [trouble.road for trouble in troubles]
    await own_runs.create(roads, lambda road: own_runs.Sleeper(f"{names[road.refund_id]}-1"))
    for trouble in troubles:
        if trouble.road.own_run_id is not None:
            name = names[trouble.road.refund_id]
            standstill = Standstill(name=name, begun=1)
            rest = Rest(name, None, trouble.step, standstill, attention=trouble.why)
            await resting.lie_down(trouble.road, rest)
    leave_for_later(road for road in roads if road.own_run_id is None)


def leave_for_later(roads: Iterable[Road]) -> None:
    """Prefect is away: the batch comes back to these when it is there again."""
    for road in roads:
        road.leave("Prefect could not be reached for a run of its own")


def _settled(ledger: Ledger, road: Road, step: Step) -> Payment:
    """It was settled while the batch was about to wait for it."""
    effect = effects.read(ledger, key_of(road.refund_id, PAYMENT_STEP))
    if effect is None:
        raise AssertionError(f"{road.refund_id} waits for a payment that was never made")
    payment = payments.payment_of(effect, road.case.request)
    with ledger.page(road.refund_id, road.fence) as page:
        road.journal.ended(page, step, payment)
    return payment
