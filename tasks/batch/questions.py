"""The questions of a chunk: put to the team, each with a suspended run of its own and its cards."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.input import RunInput

from refunds import asking, wording
from refunds.errors import RefundError, StaleRunner
from refunds.ledger import Ledger, Page, approvals, grouped, people
from refunds.ledger.effects import key_of
from refunds.models import Answer, ApprovalRequest, Level, Receipt
from tasks import books, cards
from tasks.batch import asides, own_runs, resting
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.journaling import Step, every_time, in_round
from tasks.batch.performing import Doing, Endings, perform, receipt_of
from tasks.batch.resting import Rest
from tasks.batch.writer import write

Form = Callable[[ApprovalRequest, tuple[str, ...], str], type[RunInput]]

# A card with a messenger, or one for each of several people, is several calls in a row.
_SENT_AT_ONCE = 8


@task(name="ask_people", cache_policy=NO_CACHE, persist_result=False)
async def ask_people(chunk: Chunk, form: Form) -> int:
    """Put each question to the team: approval, a suspended run of its own, cards; how many."""
    for road in chunk.at(Turn.ASK):
        try:
            road.approval = await write(_request_approval, road)
        except StaleRunner:
            chunk.drop_stale([road.refund_id])
    asked = chunk.at(Turn.ASK)
    await own_runs.create(asked, lambda road: _sleeper(road, form))
    sent = await _send_cards(chunk, [road for road in asked if road.own_run_id])
    for refund_id, receipt in sent.outputs.items():
        road = chunk.roads[refund_id]
        level = _first_level(road)
        step = every_time("record_approval", **_put(road))
        answer = Answer(decision=None, begun=1)
        wait = f"approval-{road.round}-{level}"
        done = {_key_of_level(road, "send_card"): receipt}
        await resting.lie_down(road, Rest(wait, level.until, step, answer, done=done))
    await asides.put_aside(chunk, sent.errors)
    asides.leave_for_later(road for road in asked if road.own_run_id is None)
    return len(asked)


async def _send_cards(chunk: Chunk, roads: Sequence[Road]) -> Endings:
    """One card each in one go; where a level has more than that, as the single chain does it."""
    everybody = await asyncio.to_thread(people.listed, books.ledger()) if roads else []
    personal = {
        road.refund_id
        for road in roads
        if _first_level(road).block or cards.recipients(everybody, _asked(road), _first_level(road))
    }
    sending = Doing(
        lambda road: cards.card(_asked(road), _first_level(road)),
        lambda road: _once_a_level(road, "send_card"),
        receipt_of,
    )
    sent = await perform([road for road in roads if road.refund_id not in personal], sending)
    if personal:
        await _send_each(chunk, [road for road in roads if road.refund_id in personal], sent)
    return sent


async def _send_each(chunk: Chunk, roads: Sequence[Road], sent: Endings) -> None:
    """Messengers and personal links; adds what came of it to `sent`."""
    gate, receipts = asyncio.Semaphore(_SENT_AT_ONCE), dict[str, Receipt]()

    async def one(road: Road) -> None:
        books.hold(road.refund_id, road.fence)
        try:
            async with gate:
                receipts[road.refund_id] = await cards.send(_asked(road), _first_level(road))
        except RefundError as error:
            sent.errors[road.refund_id] = error
        finally:
            books.let_go(road.refund_id)

    await asyncio.gather(*(one(road) for road in roads))
    await write(grouped.each, chunk.fences(receipts), _noting(chunk, receipts))
    sent.outputs |= receipts


def _noting(chunk: Chunk, receipts: Mapping[str, Receipt]) -> Callable[[Page], None]:
    def note(page: Page) -> None:
        road = chunk.roads[page.refund_id]
        road.journal.ended(page, _once_a_level(road, "send_card"), receipts[page.refund_id])

    return note


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


def _once_a_level(road: Road, name: str) -> Step:
    """A step that is done once a round and a level."""
    return Step(name, _key_of_level(road, name), _put(road))


def _key_of_level(road: Road, name: str) -> str:
    return key_of(road.refund_id, name, f"{road.round}:{_first_level(road)}")


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
        form=form(_asked(road), (), cards.timeline_page(road.refund_id)),
    )
