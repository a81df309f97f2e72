"""A batch's progress while it runs, and a night's report once it is over."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect import task
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger

from refunds.ledger import Ledger, batches, nights
from refunds.ledger.batches import Batch
from refunds.nights import sheet, words
from refunds.nights.compiling import Compiler
from refunds.nights.report import NightReport
from refunds.settings import settings
from tasks import reports
from tasks.batch.writer import write

# The artifact of each batch that this process shows the progress of.
_shown: dict[str, UUID] = {}


async def show_progress(batch: Batch) -> None:
    """Say in Prefect how far the batch has come; a burst is over before anybody could look."""
    if not batch.is_burst:
        await _show_progress(batch)


@task(name="show_progress", cache_policy=NO_CACHE, persist_result=False)
async def _show_progress(batch: Batch) -> float:
    """How far the batch has come, in percent."""
    found = await write(nights.progress, batch)
    told = f"{batch.batch_id}: {found.all - found.left:,} of {found.all:,} refunds"
    with _only_for_show():
        if batch.batch_id in _shown:
            await aupdate_progress_artifact(_shown[batch.batch_id], found.percent, description=told)
        else:
            _shown[batch.batch_id] = await acreate_progress_artifact(
                found.percent, key=_key(batch, "progress"), description=told
            )
    return found.percent


@task(name="close_batch", cache_policy=NO_CACHE, persist_result=False)
async def close_batch(batch: Batch) -> str | None:
    """Close the batch, a night with its report; returns the batch whose last shard it was.

    A report that is there already stays as it is.
    """
    if batch.kind == "night" and (report := await write(_written, batch)) is not None:
        with _only_for_show():
            await _show_report(batch, report)
    _shown.pop(batch.batch_id, None)
    return await write(batches.finish, batch)


@task(name="send_report", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=120)
async def send_report(batch: Batch) -> int:
    """Send the night's report, once; returns how many went out. The sweep sends what is left."""
    return await reports.send_due(batch.batch_id) if batch.kind == "night" else 0


async def _show_report(batch: Batch, report: NightReport) -> None:
    told = words.subject(report)
    table = words.table(report)
    await acreate_table_artifact(table=table, key=_key(batch, "table"), description=told)
    address = f"{settings().service_url}{words.page_of(batch.batch_id)}"
    await acreate_markdown_artifact(
        markdown=words.markdown(report, address), key=_key(batch, "report"), description=told
    )


@contextmanager
def _only_for_show() -> Iterator[None]:
    """What Prefect cannot be shown now is no reason to stop paying."""
    try:
        yield
    except (httpx.HTTPError, ObjectNotFound) as error:
        get_run_logger().warning("not shown in Prefect: %r", error)


def _written(ledger: Ledger, batch: Batch) -> NightReport | None:
    """Write the report of a batch's edition; None when it was written before."""
    if nights.latest(ledger, batch.batch_id, batch.edition) is not None:
        return None
    report, lines = compiled(ledger, batch)
    nights.write(ledger, batch, report.plain(), lines)
    return report


def compiled(ledger: Ledger, batch: Batch) -> tuple[NightReport, bytes]:
    """The report of a night as it stands now, and its sheet."""
    if batch.night is None:
        raise AssertionError(f"{batch.batch_id} is no night")
    compiler = Compiler(batch.opened_at)
    with ledger.streaming() as connection:
        for effect in nights.effects_of(connection, batch):
            compiler.effect(effect)
    with ledger.streaming() as connection:

        def noted() -> nights.Rows:
            for row in nights.refunds_of(connection, batch):
                compiler.refund(row)
                yield row

        lines = sheet.written(noted())
    report = compiler.report(batch.batch_id, batch.night, batch.edition, ledger.clock())
    return report, lines


def _key(batch: Batch, kind: str) -> str:
    """What Prefect calls an artifact: small letters, digits and dashes."""
    return f"{batch.batch_id.replace('.', '-')}-{kind}"
