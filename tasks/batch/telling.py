"""The end of the chain for a chunk: everybody is told, and the books are closed."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.ledger import Page, grouped
from refunds.models import Outcome, State
from tasks import books, crm, notices, records
from tasks.batch import asides
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.journaling import Step, once
from tasks.batch.performing import Doing, perform, receipt_of
from tasks.batch.writer import write


@task(name="sync_crm", cache_policy=NO_CACHE, persist_result=False)
async def sync_crm(chunk: Chunk) -> int:
    """Write each refund's ending to the customer's file."""
    return await _tell(
        chunk,
        Doing(
            lambda road: crm.crm_case(road.case, _outcome(road), road.why),
            lambda road: _step(road, "sync_crm", why=road.why),
            receipt_of,
            entering=State.SYNCING,
        ),
    )


@task(name="notify_customers", cache_policy=NO_CACHE, persist_result=False)
async def notify_customers(chunk: Chunk) -> int:
    """Tell the customers."""
    return await _tell(
        chunk,
        Doing(
            lambda road: notices.customer_notice(road.case, _outcome(road)),
            lambda road: _step(road, "notify_customer"),
            receipt_of,
        ),
    )


@task(name="notify_service", cache_policy=NO_CACHE, persist_result=False)
async def notify_service(chunk: Chunk) -> int:
    """Tell customer service, who the customers will ask."""
    return await _tell(
        chunk,
        Doing(
            lambda road: notices.service_notice(road.case, _outcome(road), road.why),
            lambda road: _step(road, "notify_service", why=road.why),
            receipt_of,
        ),
    )


@task(name="write_audits", cache_policy=NO_CACHE, persist_result=False)
async def write_audits(chunk: Chunk) -> int:
    """Close the refunds' books: outcome, reason, and the leases given back."""
    roads = {road.refund_id: road for road in chunk.at(Turn.CONCLUDE)}

    def close(page: Page) -> None:
        road = roads[page.refund_id]
        records.close_books(page, _outcome(road), road.why)
        road.journal.ended(page, _step(road, "write_audit", why=road.why), _outcome(road))
        page.change(lease_holder=None, lease_expires_at=None)

    closed = await write(grouped.each, chunk.fences(roads), close)
    chunk.drop_stale(closed.stale)
    for refund_id in closed.done:
        books.let_go(refund_id)
        roads[refund_id].leave("it is over")
    return len(closed.done)


async def _tell(chunk: Chunk, doing: Doing) -> int:
    told = await perform(chunk.at(Turn.CONCLUDE), doing)
    await asides.put_aside(chunk, told.errors)
    return len(told.outputs)


def _step(road: Road, name: str, **inputs: Any) -> Step:
    return once(road.refund_id, name, case=road.case, outcome=_outcome(road), **inputs)


def _outcome(road: Road) -> Outcome:
    if road.outcome is None:
        raise AssertionError("nobody is told before it is over")
    return road.outcome
