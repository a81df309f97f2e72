"""The money of a chunk is set aside, for those of whom nothing has changed."""

import asyncio

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.errors import NeedsAttention
from refunds.ledger import Ledger, Page, approvals, charges, effects, grouped, history
from refunds.ledger.effects import key_of
from tasks import books, records
from tasks.batch import asides, second_look
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.journaling import Step, in_round
from tasks.batch.writer import write


@task(name="reserve_money", cache_policy=NO_CACHE, persist_result=False)
async def reserve_money(chunk: Chunk) -> int:
    """Look at the world once more, then set the money aside; returns for how many.

    What changed since it was assessed, or has too little left now, is assessed again.
    """
    roads = {road.refund_id: road for road in chunk.at(Turn.RESERVE)}
    await asides.put_aside(
        chunk,
        {
            road.refund_id: NeedsAttention(f"{road.refund_id} changed {records.MOST_ROUNDS} times")
            for road in roads.values()
            if road.round > records.MOST_ROUNDS
        },
    )
    await asyncio.to_thread(_pass_by, chunk.at(Turn.RESERVE))
    changes = await second_look.changes(chunk, chunk.at(Turn.RESERVE))
    same = [road for road in chunk.at(Turn.RESERVE) if road.refund_id not in changes]
    cases = {road.refund_id: road.case for road in same}

    def reserved_on(page: Page) -> None:
        road = roads[page.refund_id]
        road.journal.ended(page, _reserving(road), True)

    reserved = await write(grouped.reserve, cases, chunk.fences(cases), reserved_on)
    chunk.drop_stale(reserved.stale)
    changes |= {refund_id: str(error) for refund_id, error in reserved.failed.items()}
    for refund_id, change in changes.items():
        await write(_reconsider, roads[refund_id], change)
        roads[refund_id].look_again()
    for refund_id in reserved.done:
        roads[refund_id].turn = Turn.PAY
    return sum(road.turn is Turn.PAY for road in roads.values())


def _pass_by(roads: list[Road]) -> None:
    """What an earlier run set aside, or sent to be paid, is what was approved: nobody looks."""
    ledger, ids = books.ledger(), [road.refund_id for road in roads]
    passed = charges.holding(ledger, ids) | effects.sent_to_be_paid(ledger, ids)
    for road in roads:
        if road.refund_id in passed:
            road.turn = Turn.PAY


def _reconsider(ledger: Ledger, road: Road, change: str) -> None:
    refund_id = road.refund_id
    history.append(ledger, refund_id, "payment.reconsidered", {"why": change}, road.fence)
    approval_id = key_of(refund_id, "approval", road.round)
    approvals.supersede(ledger, refund_id, approval_id, change)
    with ledger.page(refund_id, road.fence) as page:
        road.journal.ended(page, _reserving(road), False)


def _reserving(road: Road) -> Step:
    given = {"case": road.case, "assessment": road.assessment}
    return in_round(road.refund_id, "reserve_money", road.round, **given)
