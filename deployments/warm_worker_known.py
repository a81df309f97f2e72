"""What each run of a worker would ask Prefect's server for, read once by the worker.

Nothing of it is older than half a minute, as with the work pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.objects import Flow, FlowRun
from prefect.exceptions import ObjectNotFound

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import BlockDocument, WorkQueue
    from prefect.workers.base import BaseWorker

# The server was away when it was time to look again: a run then asks for itself.
_FRESH_SECONDS = 60.0


class Known:
    """The flows and work queues that runs were of, and the blocks that a pool names."""

    def __init__(self, worker: BaseWorker[Any, Any, Any]) -> None:
        self._worker = worker
        self._client = worker.client
        self._flows: dict[UUID, Flow] = {}
        self._queues: dict[UUID, WorkQueue] = {}
        self._blocks: dict[str, BlockDocument] = {}
        self._read_at = 0.0

    async def flow(self, flow_id: UUID) -> Flow:
        """Raises ObjectNotFound."""
        if (found := self._flows.get(flow_id)) is None:
            found = self._flows[flow_id] = await self._client.read_flow(flow_id)
        return found

    def forget(self) -> None:
        """Whatever was read is asked for again when it is needed."""
        self._flows.clear()
        self._queues.clear()
        self._blocks.clear()

    async def read(self, block_names: Iterable[str]) -> None:
        """Read blocks, `type-slug/name` each.

        One that is not there is left to the run, which says so. Raises httpx.HTTPError.
        """
        self._read_at = asyncio.get_running_loop().time()
        for block in block_names:
            slug, _, name = block.partition("/")
            with suppress(ObjectNotFound):
                self._blocks[block] = await self._client.read_block_document_by_name(name, slug)

    async def handed_to(self, flow_run: FlowRun, block_names: Iterable[str]) -> dict[str, Any]:
        """What a run is told: `flow`, `work_pool`, `work_queue`, and `blocks` by their names.

        Raises ObjectNotFound, httpx.HTTPError.
        """
        flow, queue = await self.flow(flow_run.flow_id), None
        if flow_run.work_queue_id is not None:
            queue = await self._queue(flow_run.work_queue_id)
        # Without the job's template: it is long, and a person may have put a password there.
        pool = self._worker.work_pool.model_dump(mode="json", exclude={"base_job_template"})
        is_fresh = asyncio.get_running_loop().time() - self._read_at < _FRESH_SECONDS
        known = self._blocks if is_fresh else {}
        secrets = {"include_secrets": True}
        return {
            "flow": flow.model_dump(mode="json"),
            "work_pool": pool,
            "work_queue": queue and queue.model_dump(mode="json"),
            "blocks": {
                name: known[name].model_dump(mode="json", context=secrets)
                for name in block_names
                if name in known
            },
        }

    async def _queue(self, queue_id: UUID) -> WorkQueue:
        if (found := self._queues.get(queue_id)) is None:
            found = self._queues[queue_id] = await self._client.read_work_queue(queue_id)
        return found
