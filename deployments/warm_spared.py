"""What a run on a warm worker need not ask Prefect's server, or wait for.

Each of these answers is known already, or is the same a second later. A call costs the server 5 to
10 ms, in which it answers nobody else, and a refund has a second in all.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from prefect import flow_engine
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument, Flow, FlowRun, WorkPool, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.related import RESOURCE_CACHE
from prefect.types._datetime import now

# As long as Prefect itself waits for the end of its watch, and for the thread that it is in.
_END_SECONDS = 4.0

Watch = Callable[..., AbstractContextManager[None]]


def watch_for_suspension_beside() -> None:
    """Let runs of this process begin while Prefect's watch for their suspension still connects.

    The engine starts a thread with a connection to the event stream for it, and waits 90 ms until
    it is there. A suspension meanwhile is noticed all the same: the watch begins with a look at the
    run's state, and the engine itself looks when the flow begins.
    """
    engine: Any = flow_engine
    engine.observe_flow_run_suspension = _beside(engine.observe_flow_run_suspension)


def _beside(watch: Watch) -> Watch:
    @contextmanager
    @functools.wraps(watch)
    def watch_beside(*arguments: Any, **options: Any) -> Iterator[None]:
        over = threading.Event()

        def watch_until_over() -> None:
            with watch(*arguments, **options):
                over.wait()

        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(watch_until_over,), name="watch", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(_END_SECONDS)

    return watch_beside


def take_blocks(documents: dict[str, dict[str, Any]]) -> None:
    """Load these blocks, by `type-slug/name`, once each as the worker has read them.

    A run that loads one a second time, hours later, asks the server.
    """
    given = dict(documents)

    def take(name: str, block_type_slug: str) -> BlockDocument | None:
        document = given.pop(f"{block_type_slug}/{name}", None)
        return None if document is None else BlockDocument.model_validate(document)

    read: Callable[..., Any] = PrefectClient.read_block_document_by_name
    read_sync: Callable[..., Any] = SyncPrefectClient.read_block_document_by_name

    @functools.wraps(read)
    async def take_or_read(client: Any, name: str, block_type_slug: str, **options: Any) -> Any:
        found = take(name, block_type_slug)
        return found or await read(client, name, block_type_slug, **options)

    @functools.wraps(read_sync)
    def take_or_read_sync(client: Any, name: str, block_type_slug: str, **options: Any) -> Any:
        return take(name, block_type_slug) or read_sync(client, name, block_type_slug, **options)

    for client, method in ((PrefectClient, take_or_read), (SyncPrefectClient, take_or_read_sync)):
        setattr(client, "read_block_document_by_name", method)  # noqa: B010 - not as it declares it


def know_related(flow_run: FlowRun, known: dict[str, Any]) -> None:
    """Know what the run's events name besides the run; Prefect reads all four for the first one."""
    queue, deployment = known["work_queue"], known["deployment"]
    pool = WorkPool.model_validate(known["work_pool"])
    objects: dict[str, Any] = {
        f"flow.{flow_run.flow_id}": Flow.model_validate(known["flow"]),
        f"work-pool.{pool.name}": pool,
    }
    if deployment is not None:
        objects[f"deployment.{flow_run.deployment_id}"] = DeploymentResponse.model_validate(
            deployment
        )
    if queue is not None:
        objects[f"work-queue.{flow_run.work_queue_id}"] = WorkQueue.model_validate(queue)
    cache: dict[str, Any] = RESOURCE_CACHE
    for key, found in objects.items():
        cache[key] = ({"kind": key.partition(".")[0], "object": found}, now("UTC"))
