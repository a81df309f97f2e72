"""Prefect's event stream as an alarm clock: something happened, not what is.

Whoever is woken asks the server; a missed event costs the time to the next poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from logging import Logger, LoggerAdapter
from typing import Any
from uuid import UUID

from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import (
    EventAnyResourceFilter,
    EventFilter,
    EventResourceFilter,
)

# A server restart takes about 10 s; half a minute between attempts keeps a long outage
# quiet, and the poll goes on meanwhile.
_RETRY_FIRST_SECONDS = 0.5
_RETRY_MOST_SECONDS = 30.0

_RUN_PREFIX = "prefect.flow-run."


def flow_run_id(event: Event) -> UUID:
    """The flow run whose state has changed."""
    return UUID(event.resource.id.removeprefix(_RUN_PREFIX))


def pool_filter(pool_id: UUID) -> EventFilter:
    """Runs of the pool that are to be started, or to be stopped.

    By state type and not by event name: Scheduled, Resuming, AwaitingRetry and Late are
    all names of the type SCHEDULED.
    """
    return EventFilter(
        resource=EventResourceFilter.model_validate(
            {"labels": {"prefect.state-type": ["SCHEDULED", "CANCELLING"]}}
        ),
        any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{pool_id}"]),
    )


async def listen(
    pool_id: UUID,
    on_scheduled: Callable[[], None],
    on_cancelling: Callable[[UUID], None],
    logger: Logger | LoggerAdapter[Any],
) -> None:
    """Call back for each event, over as many connections as it takes, for ever."""
    retry_seconds = _RETRY_FIRST_SECONDS
    while True:
        try:
            async with get_events_subscriber(filter=pool_filter(pool_id)) as events:
                # What was scheduled while nobody listened is found by asking once.
                on_scheduled()
                retry_seconds = _RETRY_FIRST_SECONDS
                async for event in events:
                    if event.resource.get("prefect.state-type") == "CANCELLING":
                        on_cancelling(flow_run_id(event))
                    else:
                        on_scheduled()
        except Exception as error:
            # Any failure of the stream: the worker must outlive all of them.
            logger.warning(
                "The event stream failed; polling goes on, next attempt in %.1f s: %r",
                retry_seconds,
                error,
            )
        await asyncio.sleep(retry_seconds)
        retry_seconds = min(2 * retry_seconds, _RETRY_MOST_SECONDS)
