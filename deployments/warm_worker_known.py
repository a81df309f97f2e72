"""What each run of a worker would ask Prefect's server for, read once by the worker.

It is read again every half minute, as the work pool is.
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
        if flow_id not in self._flows:
            self._flows[flow_id] = await self._client.read_flow(flow_id)
        return self._flows[flow_id]

    async def read_again(self, block_names: Iterable[str]) -> None:
        """Forget everything that was read, and read the blocks, `type-slug/name` each.

        One that is not there is left to the run, which says so. Raises httpx.HTTPError.
        """
        self._flows.clear()
        self._queues.clear()
        self._blocks.clear()
        self._read_at = asyncio.get_running_loop().time()
        for block in block_names:
            slug, _, name = block.partition("/")
            with suppress(ObjectNotFound):
                self._blocks[block] = await self._client.read_block_document_by_name(name, slug)

    async def handed_to(self, flow_run: FlowRun, block_names: Iterable[str]) -> dict[str, Any]:
        """What a run is told: `flow`, `work_pool`, `work_queue`, and `blocks` by their names.

        Raises httpx.HTTPError.
        """
        queue_id = flow_run.work_queue_id
        if queue_id is not None and queue_id not in self._queues:
            self._queues[queue_id] = await self._client.read_work_queue(queue_id)
        is_fresh = asyncio.get_running_loop().time() - self._read_at < _FRESH_SECONDS
        secrets = {"include_secrets": True}
        return {
            "flow": (await self.flow(flow_run.flow_id)).model_dump(mode="json"),
            # Without the job's template: it is long, and the environment in it has passwords.
            "work_pool": self._worker.work_pool.model_dump(
                mode="json", exclude={"base_job_template"}
            ),
            "work_queue": queue_id and self._queues[queue_id].model_dump(mode="json"),
            "blocks": {
                name: self._blocks[name].model_dump(mode="json", context=secrets)
                for name in block_names
                if is_fresh and name in self._blocks
            },
        }
