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
from uuid import UUID

from prefect import flow_engine
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

# Most runs are over or asleep by then, and the watch costs more than one of their steps.
QUICK_SECONDS = 1.0

# As long as Prefect itself waits for the end of its watch.
_END_SECONDS = 2.0

Watch = Callable[..., AbstractContextManager[None]]


def watch_for_suspension_later(quick_seconds: float = QUICK_SECONDS) -> None:
    """Let runs of this process begin before Prefect watches whether somebody suspends them.

    The engine starts a thread with a connection to the event stream for it, and waits until it is
    there, 90 ms. A suspension meanwhile is noticed when it is: the watch begins with a look at
    the run's state, and the engine itself looks when the flow begins.
    """
    engine: Any = flow_engine
    engine.observe_flow_run_suspension = _beginning_later(
        engine.observe_flow_run_suspension, quick_seconds
    )


def _beginning_later(watch: Watch, seconds: float) -> Watch:
    @contextmanager
    @functools.wraps(watch)
    def watch_later(*arguments: Any, **options: Any) -> Iterator[None]:
        over = threading.Event()

        def begin() -> None:
            if not over.wait(seconds):
                with watch(*arguments, **options):
                    over.wait()

        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(begin,), name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(_END_SECONDS)

    return watch_later


def tell_only_news(flow_run: FlowRun) -> None:
    """Do not tell the server the flow version and retries that this run has there already.

    They are told by each attempt. After a wait they are what the attempt before it told.
    """
    known = {
        "flow_version": flow_run.flow_version,
        "empirical_policy": flow_run.empirical_policy.model_copy(deep=True),
    }
    tell = PrefectClient.update_flow_run

    @functools.wraps(tell)
    async def tell_news(
        client: PrefectClient, flow_run_id: UUID, *arguments: Any, **news: Any
    ) -> Any:
        if flow_run_id == flow_run.id and not arguments and news == known:
            return None
        return await tell(client, flow_run_id, *arguments, **news)

    PrefectClient.update_flow_run = tell_news  # type: ignore[assignment,method-assign]
