"""A refund that leaves the main road goes where the single chain would have it.

Who needs a person gets a run of its own, suspended from the start. What only time or the gateway
can mend waits in the ledger without a run, and calls its batch back when it is due.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.input import RunInput

from refunds import asking, wording
from refunds.errors import StaleRunner, StepRetryable
from refunds.ledger import Ledger, approvals, effects, waits
from refunds.ledger.effects import PAYMENT_STEP, key_of
from refunds.models import Answer, ApprovalRequest, Level, Payment, Standstill
from tasks import books, cards, payments
from tasks.batch import own_runs, resting
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.journaling import Step, every_time, in_round
from tasks.batch.performing import Doing, perform, receipt_of
from tasks.batch.resting import Rest
from tasks.batch.writer import write

Form = Callable[[ApprovalRequest], type[RunInput]]


@dataclass(frozen=True)
class Trouble:
    """Why a refund is handed to a person, and the step of the chain that says so."""

    road: Road
    why: str
    step: Step


@task(name="ask_people", cache_policy=NO_CACHE, persist_result=False)
async def ask_people(chunk: Chunk, form: Form) -> int:
    """Put each question to the team: approval, a suspended run of its own, card; how many."""
    for road in chunk.at(Turn.ASK):
        try:
            road.approval = await write(_request_approval, road)
        except StaleRunner:
            chunk.drop_stale([road.refund_id])
    asked = chunk.at(Turn.ASK)
    await own_runs.create(asked, lambda road: _sleeper(road, form))
    sending = Doing(
        lambda road: cards.card(_asked(road), _first_level(road)),
        lambda road: _once_a_level(road, "send_card"),
        receipt_of,
    )
    sent = await perform([road for road in asked if road.own_run_id], sending)
    for refund_id in sent.outputs:
        road = chunk.roads[refund_id]
        level = _first_level(road)
        step = every_time("record_approval", **_put(road))
        answer = Answer(decision=None, begun=1)
        wait = f"approval-{road.round}-{level}"
        await resting.lie_down(road, Rest(wait, level.until, step, answer))
    await put_aside(chunk, sent.errors)
    _leave_for_later(road for road in asked if road.own_run_id is None)
    return len(asked)


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
    _leave_for_later(road for road in roads if road.own_run_id is None)


def _leave_for_later(roads: Iterable[Road]) -> None:
    """Prefect is away: the batch comes back to these when it is there again."""
    for road in roads:
        road.leave("Prefect could not be reached for a run of its own")


def _request_approval(ledger: Ledger, road: Road) -> ApprovalRequest:
    """As the single chain's step: a question that was put already stays as it was."""
    asked = approvals.asked(ledger, road.refund_id, road.round)
    approval = asked or asking.question(road.case, road.assessment, road.rules, ledger.clock())
    approvals.open_approval(ledger, approval, road.request.requester, road.fence)
    given = {"case": road.case, "assessment": road.assessment, "policy": road.rules}
    with ledger.page(road.refund_id, road.fence) as page:
        step = in_round(road.refund_id, "request_approval", road.round, **given)
        road.journal.ended(page, step, approval)
    return approval


def _settled(ledger: Ledger, road: Road, step: Step) -> Payment:
    """It was settled while the batch was about to wait for it."""
    effect = effects.read(ledger, key_of(road.refund_id, PAYMENT_STEP))
    if effect is None:
        raise AssertionError(f"{road.refund_id} waits for a payment that was never made")
    payment = payments.payment_of(effect, road.request)
    with ledger.page(road.refund_id, road.fence) as page:
        road.journal.ended(page, step, payment)
    return payment


def _once_a_level(road: Road, name: str) -> Step:
    """A step that is done once a round and a level."""
    attempt = f"{road.round}:{_first_level(road)}"
    return Step(name, key_of(road.refund_id, name, attempt), _put(road))


def _put(road: Road) -> dict[str, object]:
    return {"case": road.case, "approval": _asked(road), "level": _first_level(road)}


def _asked(road: Road) -> ApprovalRequest:
    if road.approval is None:
        raise AssertionError("nothing was asked")
    return road.approval


def _first_level(road: Road) -> Level:
    return _asked(road).levels[0]


def _sleeper(road: Road, form: Form) -> own_runs.Sleeper:
    level = _first_level(road)
    return own_runs.Sleeper(
        f"approval-{road.round}-{level}-1",
        name=wording.run_name(road.case),
        tags=("approval", level.name),
        form=form(_asked(road)),
    )
