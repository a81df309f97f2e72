"""A refund that leaves the main road goes where the single chain would have it.

Who needs a person gets a run of its own, suspended from the start. What only time or the gateway
can mend waits in the ledger without a run, and calls its batch back when it is due.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.input import RunInput

from refunds import asking, wording
from refunds.errors import StaleRunner, StepRetryable
from refunds.ledger import Ledger, approvals, effects, leases, storage, waits
from refunds.ledger.effects import PAYMENT_STEP, key_of
from refunds.models import ApprovalRequest, Level, State
from tasks import books, cards, found_before, outages, payments
from tasks.batch import own_runs
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.performing import perform
from tasks.batch.writer import write

Form = Callable[[ApprovalRequest], type[RunInput]]


@task(name="ask_people", cache_policy=NO_CACHE, persist_result=False)
async def ask_people(chunk: Chunk, form: Form) -> int:
    """Put each question to the team: approval, a suspended run of its own, card; how many."""
    roads = chunk.at(Turn.ASK)
    for road in roads:
        try:
            road.approval = await write(_request_approval, road)
        except StaleRunner:
            chunk.drop_stale([road.refund_id])
    asked = chunk.at(Turn.ASK)
    await own_runs.create(asked, lambda road: _sleeper(road, form))
    ready = [road for road in asked if road.own_run_id is not None]
    sent = await perform(ready, lambda road: cards.card(_asked(road), _first_level(road)))
    for road in ready:
        if road.refund_id in sent.effects:
            level = _first_level(road)
            await _lie_down(road, f"approval-{road.round}-{level}", level.until)
    await put_aside(chunk, sent.errors)
    _leave_for_later(road for road in asked if road.own_run_id is None)
    return len(roads)


async def put_aside(chunk: Chunk, errors: Mapping[str, Exception]) -> None:
    """Each of these refunds waits for time, or for a person, as its error says."""
    for_a_person: list[tuple[Road, str]] = []
    for refund_id, error in errors.items():
        road = chunk.roads[refund_id]
        if isinstance(error, StaleRunner):
            road.leave("another runner has it")
        elif isinstance(error, StepRetryable):
            why = await write(_wait_out, road, error.system, str(error))
            if why is None:
                road.leave(str(error))
            else:
                for_a_person.append((road, why))
        else:
            for_a_person.append((road, str(error)))
    await hand_to_people(for_a_person)


async def hand_to_people(cases: Sequence[tuple[Road, str]]) -> None:
    """Nothing safe is left to do for these: each waits, in a run of its own, to be resumed."""
    roads = [road for road, _ in cases]
    names = {}
    for road in roads:
        before = await asyncio.to_thread(
            waits.count_named, books.ledger(), road.refund_id, "attention-"
        )
        names[road.refund_id] = f"attention-{before + 1}"
    await own_runs.create(roads, lambda road: own_runs.Sleeper(f"{names[road.refund_id]}-1"))
    for road, why in cases:
        if road.own_run_id is not None:
            await _lie_down(road, names[road.refund_id], None, attention=why)
    _leave_for_later(road for road in roads if road.own_run_id is None)


async def wait_for_settlement(roads: Sequence[Road]) -> None:
    """The gateway has the last word on these payments, and will give it later."""
    late: list[tuple[Road, str]] = []
    for road in roads:
        why = await write(_wait_for_gateway, road)
        if why:
            late.append((road, why))
        elif road.turn is not Turn.LEFT:
            effect = effects.read(books.ledger(), key_of(road.refund_id, PAYMENT_STEP))
            if effect is not None:
                road.payment = payments.payment_of(effect, road.request)
    await hand_to_people(late)


def _leave_for_later(roads: Iterable[Road]) -> None:
    """Prefect is away: the batch comes back to these when it is there again."""
    for road in roads:
        road.leave("Prefect could not be reached for a run of its own")


def _request_approval(ledger: Ledger, road: Road) -> ApprovalRequest:
    """As the single chain's step: a question that was put already stays as it was."""
    asked = approvals.asked(ledger, road.refund_id, road.round)
    approval = asked or asking.question(road.case, road.assessment, road.rules, ledger.clock())
    approvals.open_approval(ledger, approval, road.request.requester, road.fence)
    return approval


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
        tags=("approval", str(level)),
        form=form(_asked(road)),
    )


async def _lie_down(
    road: Road, wait: str, due_at: datetime | None, attention: str | None = None
) -> None:
    try:
        await write(_begin_to_wait, road, wait, due_at, attention)
    except StaleRunner:
        road.leave("another runner has it")
    else:
        road.leave(attention or "it is for a person to decide")


def _begin_to_wait(
    ledger: Ledger, road: Road, wait: str, due_at: datetime | None, attention: str | None
) -> None:
    """The refund's own run, its wait and the lease given back: all of it or nothing."""
    found = found_before.results(ledger, road.request)
    with ledger.page(road.refund_id, road.fence) as page:
        storage.keep(page.connection, found, page.now)
        if attention is not None:
            page.append("attention.needed", {"why": attention})
            page.change(attention=attention)
            page.enter(State.NEEDS_ATTENTION)
        leases.assign(page, str(road.own_run_id), page.row["run_number"] + 1)
        waits.begin(page, wait, reason="person", run_id=str(road.own_run_id), due_at=due_at)
    books.let_go(road.refund_id)


def _wait_out(ledger: Ledger, road: Road, system: str, detail: str) -> str | None:
    """Wait until a system may be back; returns why not, when patience is over."""
    following = outages.next_try(ledger, road.refund_id, system, detail)
    if isinstance(following, str):
        return following
    name, due_at = following
    _wait_without_a_run(ledger, road, name, "timer", due_at)
    return None


def _wait_for_gateway(ledger: Ledger, road: Road) -> str | None:
    """Wait for the gateway's word; returns why a person has to look, when it is late."""
    effect = effects.read(ledger, key_of(road.refund_id, PAYMENT_STEP))
    if effect is None or effect.is_final:
        return None
    due_at = effect.first_sent_at + timedelta(hours=books.policy().patience.settle_within_hours)
    if ledger.clock() >= due_at:
        return f"payment not settled by {due_at:%Y-%m-%d %H:%M} UTC"
    if _wait_without_a_run(ledger, road, "settlement-1", "callback", due_at):
        road.leave("the payment is not settled yet")
    return None


def _wait_without_a_run(
    ledger: Ledger, road: Road, name: str, reason: waits.WaitReason, due_at: datetime
) -> int:
    return waits.open_wait(
        ledger,
        road.refund_id,
        name,
        reason=reason,
        run_id=None,
        fence=road.fence,
        due_at=due_at,
    )
