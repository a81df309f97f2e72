"""What a run on a warm worker tells Prefect's server of itself: only news, and once it is running.

Each attempt tells its flow version, its retries, and its name where a wait has changed that. The
server has most of it from the attempt before, and a run that waited until it has the rest would
wait a tenth of the time that a refund has.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
from contextlib import suppress
from contextvars import copy_context
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy

_TOLD_AT_THE_BEGIN = {"flow_version", "empirical_policy"}

# Nobody waits longer for a server that does not answer: neither what is told next, nor the end.
_END_SECONDS = 4.0


def tell_only_news(flow_run: FlowRun) -> None:
    """Do so for the run of this process, of a flow that is async, until it has asked to be running.

    Another flow's engine has a client of its own kind, which is left as it is.
    """
    clients: Any = PrefectClient
    give_name, update = clients.set_flow_run_name, clients.update_flow_run
    enter_state = clients.set_flow_run_state
    news = _News(flow_run)

    @functools.wraps(give_name)
    async def keep_or_name(client: PrefectClient, flow_run_id: UUID, name: str) -> Any:
        if news.is_of(flow_run_id):
            return news.keep(name=name)
        await news.all_told()
        return await give_name(client, flow_run_id, name)

    @functools.wraps(update)
    async def keep_or_update(
        client: PrefectClient, flow_run_id: UUID, *arguments: Any, **told: Any
    ) -> Any:
        if news.is_of(flow_run_id) and not arguments and news.can_wait(told):
            return news.keep(flow_version=told["flow_version"])
        await news.all_told()
        return await update(client, flow_run_id, *arguments, **told)

    @functools.wraps(enter_state)
    async def enter_and_tell(client: PrefectClient, *arguments: Any, **options: Any) -> Any:
        await news.all_told()
        entered = await enter_state(client, *arguments, **options)
        news.tell()
        return entered

    clients.set_flow_run_name, clients.update_flow_run = keep_or_name, keep_or_update
    clients.set_flow_run_state = enter_and_tell


class _News:
    """What is to be told of a run when it has begun.

    A thread tells it: a signal to end the run may come at any moment, and is not to end the telling
    instead. What fails is not told; no step depends on it.
    """

    def __init__(self, flow_run: FlowRun) -> None:
        self._run_id = flow_run.id
        self._known = {"flow_version": flow_run.flow_version, "name": flow_run.name}
        self._policy = flow_run.empirical_policy.model_copy(deep=True)
        self._kept: dict[str, Any] = {}
        self._has_begun = False
        self._telling: threading.Thread | None = None

    def is_of(self, flow_run_id: UUID) -> bool:
        """Whether something of this run may still be kept."""
        return flow_run_id == self._run_id and not self._has_begun

    def can_wait(self, told: dict[str, Any]) -> bool:
        """Whether it is what each attempt tells, without retries that the server does not know."""
        if told.keys() != _TOLD_AT_THE_BEGIN:
            return False
        return _is_as_patient(told["empirical_policy"], self._policy)

    def keep(self, **told: Any) -> None:
        """Keep of this what the server does not know."""
        self._kept |= {key: told[key] for key in told if told[key] != self._known[key]}

    def tell(self) -> None:
        """Tell what was kept, beside what the run does next."""
        self._has_begun = True
        if not self._kept:
            return
        news, self._kept = self._kept, {}
        told = functools.partial(copy_context().run, _tell, self._run_id, news)
        self._telling = threading.Thread(target=told, name="news", daemon=True)
        self._telling.start()
        atexit.register(self._telling.join, _END_SECONDS)

    async def all_told(self) -> None:
        """Wait until nothing is being told: what is told next may not be overtaken."""
        if self._telling is not None and self._telling.is_alive():
            await asyncio.to_thread(self._telling.join, _END_SECONDS)


def _tell(flow_run_id: UUID, news: dict[str, Any]) -> None:
    with suppress(Exception), get_client(sync_client=True) as client:
        client.update_flow_run(flow_run_id, **news)


def _is_as_patient(one: FlowRunPolicy, other: FlowRunPolicy) -> bool:
    """Whether two policies come to the same retries: those unset are none."""
    return all(
        (getattr(one, field) or 0) == (getattr(other, field) or 0)
        for field in ("retries", "retry_delay")
    )
