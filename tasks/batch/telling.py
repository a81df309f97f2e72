"""The end of the chain for a chunk: everybody is told, and the books are closed."""

from collections.abc import Callable

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.ledger import Page, grouped
from refunds.models import Outcome, State
from tasks import books, crm, notices, records
from tasks.batch import asides
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.performing import perform
from tasks.batch.writer import write
from tasks.effect import Action


@task(name="sync_crm", cache_policy=NO_CACHE, persist_result=False)
async def sync_crm(chunk: Chunk) -> int:
    """Write each refund's ending to the customer's file."""
    return await _tell(
        chunk,
        lambda road, outcome: crm.crm_case(road.case, outcome, road.why),
        entering=State.SYNCING,
    )


@task(name="notify_customers", cache_policy=NO_CACHE, persist_result=False)
async def notify_customers(chunk: Chunk) -> int:
    """Tell the customers."""
    return await _tell(chunk, lambda road, outcome: notices.customer_notice(road.case, outcome))


@task(name="notify_service", cache_policy=NO_CACHE, persist_result=False)
async def notify_service(chunk: Chunk) -> int:
    """Tell customer service, who the customers will ask."""
    return await _tell(
        chunk, lambda road, outcome: notices.service_notice(road.case, outcome, road.why)
    )


@task(name="write_audits", cache_policy=NO_CACHE, persist_result=False)
async def write_audits(chunk: Chunk) -> int:
    """Close the refunds' books: outcome, reason, and the leases given back."""
    roads = {road.refund_id: road for road in chunk.at(Turn.CONCLUDE)}

    def close(page: Page) -> None:
        road = roads[page.refund_id]
        records.close_books(page, _outcome(road), road.why)

    closed = await write(grouped.each, chunk.fences(roads), close)
    chunk.drop_stale(closed.stale)
    for refund_id in closed.done:
        books.let_go(refund_id)
        roads[refund_id].leave("it is over")
    return len(closed.done)


async def _tell(
    chunk: Chunk,
    action_for: Callable[[Road, Outcome], Action],
    entering: State | None = None,
) -> int:
    roads = chunk.at(Turn.CONCLUDE)
    told = await perform(roads, lambda road: action_for(road, _outcome(road)), entering)
    await asides.put_aside(chunk, told.errors)
    return len(told.effects)


def _outcome(road: Road) -> Outcome:
    if road.outcome is None:
        raise AssertionError("nobody is told before it is over")
    return road.outcome
