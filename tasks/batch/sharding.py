"""A large batch is shared out: by key range, to runs that several workers carry side by side."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from refunds.errors import SystemUnavailable
from refunds.ledger import batches
from refunds.ledger.batches import Batch
from refunds.settings import settings
from tasks import runs
from tasks.batch.writer import write


@task(name="share_out", cache_policy=NO_CACHE, persist_result=False)
async def share_out(batch: Batch) -> int:
    """Give each shard of a large batch a run of its own; returns how many are under way.

    Nobody waits for them: the last one goes on with what they are parts of. A run that cannot be
    started now is started by the sweep, as one that died is.
    """
    parts = await write(batches.split, batch, settings().shard_size)
    for part in parts:
        if part.run_id is not None:
            continue
        try:
            await runs.launch_batch(part.batch_id)
        except SystemUnavailable as error:
            get_run_logger().warning("%s is left to the sweep: %s", part.batch_id, error)
    if parts:
        await write(batches.release, batch)
    return len(parts)
