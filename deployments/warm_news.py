"""What a run on a warm worker tells Prefect's server of itself: only news, and once it is running.

Each attempt tells its flow version, its retries, and its name where a wait has changed that. The
server has most of it from the attempt before, and a run that waited until it has the rest would
wait a tenth of the time that a refund has.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy

_TOLD_AT_THE_BEGIN = {"flow_version", "empirical_policy"}


def tell_only_news(flow_run: FlowRun) -> None:
    """Do so for the run of this process."""
    clients: Any = PrefectClient
    give_name, update = clients.set_flow_run_name, clients.update_flow_run
    enter_state, close = clients.set_flow_run_state, clients.__aexit__
    news = _News(flow_run, update)

    @functools.wraps(give_name)
    async def keep_name(client: PrefectClient, flow_run_id: UUID, name: str) -> Any:
        if flow_run_id != flow_run.id:
            return await give_name(client, flow_run_id, name)
        return news.keep(name=name)

    @functools.wraps(update)
    async def keep_or_tell(
        client: PrefectClient, flow_run_id: UUID, *arguments: Any, **told: Any
    ) -> Any:
        if flow_run_id == flow_run.id and not arguments and news.can_wait(told):
            return news.keep(flow_version=told["flow_version"])
        await news.all_told(client)
        return await update(client, flow_run_id, *arguments, **told)

    @functools.wraps(enter_state)
    async def enter_and_tell(client: PrefectClient, *arguments: Any, **options: Any) -> Any:
        entered = await enter_state(client, *arguments, **options)
        news.tell(client)
        return entered

    @functools.wraps(close)
    async def close_when_told(client: PrefectClient, *raised: Any) -> Any:
        await news.all_told(client)
        return await close(client, *raised)

    clients.set_flow_run_name, clients.update_flow_run = keep_name, keep_or_tell
    clients.set_flow_run_state, clients.__aexit__ = enter_and_tell, close_when_told


class _News:
    """What is to be told of a run, and what is being told.

    It is told before anything else is told of the run, and before a client closes. What fails is
    not told: no step depends on it.
    """

    def __init__(self, flow_run: FlowRun, update: Any) -> None:
        self._run_id, self._update = flow_run.id, update
        self._known = {"flow_version": flow_run.flow_version, "name": flow_run.name}
        self._policy = flow_run.empirical_policy.model_copy(deep=True)
        self._untold: dict[str, Any] = {}
        self._telling: set[asyncio.Task[Any]] = set()

    def can_wait(self, told: dict[str, Any]) -> bool:
        """Whether it is what each attempt tells, without retries that the server does not know."""
        if told.keys() != _TOLD_AT_THE_BEGIN:
            return False
        return _is_as_patient(told["empirical_policy"], self._policy)

    def keep(self, **told: Any) -> None:
        """Keep of this what the server does not know."""
        self._untold |= {key: told[key] for key in told if told[key] != self._known[key]}

    def tell(self, client: PrefectClient) -> None:
        """Begin to tell what was kept."""
        if self._untold:
            telling = self._update(client, self._run_id, **self._untold)
            self._telling.add(asyncio.ensure_future(telling))
            self._untold = {}

    async def all_told(self, client: PrefectClient) -> None:
        """Tell what was kept, and wait until all of it is told."""
        self.tell(client)
        await asyncio.gather(*self._telling, return_exceptions=True)


def _is_as_patient(one: FlowRunPolicy, other: FlowRunPolicy) -> bool:
    """Whether two policies come to the same retries: for the server those unset are none."""
    return all(
        (getattr(one, field) or 0) == (getattr(other, field) or 0)
        for field in ("retries", "retry_delay")
    )
