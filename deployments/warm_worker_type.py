"""A Prefect worker whose runs are forked from a process that has imported the flows.

prefect work-pool create --type warm-process refunds
prefect worker start --pool refunds
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.runner._control_channel import ControlChannel
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS
from prefect.workers.base import BaseWorker

from deployments import warm_worker_recovery, warm_worker_wake
from deployments.process_identity import ProcessIdentity
from deployments.template import Template
from deployments.warm_worker_attempts import Attempts
from deployments.warm_worker_job import (
    WarmJobConfiguration,
    WarmJobVariables,
    WarmWorkerResult,
)
from deployments.warm_worker_relaunch import Relaunching
from deployments.warm_worker_settings import WarmWorkerSettings

# At the end of a drain: with the server away the next worker's recovery reports
# instead, and a container has seconds left.
_REPORT_LIMIT_SECONDS = 4.0

# As long as a worker may not hear of a changed pool.
_LOOK_AGAIN_SECONDS = 30.0

# A failed poll is tried again after this; the server is then usually back.
_POLL_RETRY_SECONDS = 1.0


class WarmProcessWorker(BaseWorker[WarmJobConfiguration, WarmJobVariables, WarmWorkerResult]):
    """Runs each flow run in a child forked from a preloaded template process."""

    type = "warm-process"
    job_configuration = WarmJobConfiguration
    job_configuration_variables = WarmJobVariables

    _display_name = "Warm process"
    _description = (
        "Execute flow runs as processes forked from one that has imported the flows "
        "already. For Linux and macOS; starts a run in a fraction of a second."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = WarmWorkerSettings()
        # A template begun before the worker itself was.
        self.begun: Template | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._hurry = asyncio.Event()
        self._recovery_due = asyncio.Event()
        self._synced = asyncio.Event()
        self._polling = asyncio.Lock()
        self.relaunching = Relaunching(self.settings.relaunch_seconds, self._wake.set)
        self._next_due: asyncio.TimerHandle | None = None
        self._draining = False
        # Runs that become due between two polls are started by a timer, not late: look
        # ahead as far as the longest pause between polls (Prefect adds 30 % at random).
        self._prefetch_seconds = max(
            self._prefetch_seconds, 2 * PREFECT_WORKER_QUERY_SECONDS.value()
        )

    # --- Life of the worker ---

    @property
    def logger(self) -> Any:
        """The worker's own logger; Prefect replaces it once the worker has an id."""
        return self._logger

    async def setup(self) -> None:
        await super().setup()
        control = await self._exit_stack.enter_async_context(ControlChannel())
        self._attempts = Attempts(self, control)
        self._services = [
            asyncio.create_task(service)
            for service in (
                self._warm_up_when_synced(),
                self._look_again_at_intervals(),
                self._poll_when_woken(),
                self._listen_when_synced(),
                self._recover_at_intervals(),
                self._relaunch_when_synced(),
            )
        ]

    async def teardown(self, *exc_info: Any) -> None:
        """Drain, whatever ends the worker; only then close what the runs depend on."""
        with anyio.CancelScope(shield=True):
            await self._drain()
            for service in self._services:
                service.cancel()
            await asyncio.gather(*self._services, return_exceptions=True)
            await self._attempts.launcher.close()
        await super().teardown(*exc_info)

    async def _drain(self) -> None:
        """Let runs finish; stop those that take too long, to go on elsewhere.

        They are scheduled again rather than crashed: the ledger knows what is done, and
        nothing failed.
        """
        self._draining = True
        if not self._submitting_flow_run_ids:
            return
        count = len(self._submitting_flow_run_ids)
        self.logger.info("Waiting for %d flow runs to finish.", count)
        self._idle.clear()
        waits = [asyncio.create_task(event.wait()) for event in (self._idle, self._hurry)]
        await asyncio.wait(
            waits,
            timeout=self.settings.drain_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        await self._attempts.close(self.settings.drain_stop_seconds)
        with anyio.move_on_after(_REPORT_LIMIT_SECONDS):
            await self._idle.wait()
        for wait in waits:
            wait.cancel()

    def hurry(self) -> None:
        """Cut the drain short: stop the runs that are left, to go on elsewhere."""
        self._hurry.set()

    # --- Finding work ---

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Poll once; also called when an event or a freed slot makes it worth it."""
        async with self._polling:
            if self._draining:
                return []
            await self.relaunching.first_look()
            return await super().get_and_submit_flow_runs()

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        now = datetime.now(UTC)
        due: list[WorkerFlowRunResponse] = []
        later: list[float] = []
        for entry in await super()._get_scheduled_flow_runs():
            start = entry.flow_run.next_scheduled_start_time
            if start is None or start <= now:
                due.append(entry)
            else:
                later.append(start.timestamp() - now.timestamp())
        if later:
            self._wake_in(min(later))
        return due

    def _wake_in(self, seconds: float) -> None:
        if self._next_due is not None:
            self._next_due.cancel()
        self._next_due = asyncio.get_running_loop().call_later(seconds, self._wake.set)

    async def _poll_when_woken(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.get_and_submit_flow_runs()
            except Exception:
                self.logger.exception("Polling failed; trying again.")
                await asyncio.sleep(_POLL_RETRY_SECONDS)
                self._wake.set()

    def _record_work_pool_snapshot(self, work_pool: WorkPool) -> None:
        super()._record_work_pool_snapshot(work_pool)
        self._synced.set()

    async def _warm_up_when_synced(self) -> None:
        await self._synced.wait()
        try:
            await self._attempts.launcher.warm_up()
        except Exception as error:
            # Each run that needs this template will report it; others may not.
            self.logger.error("The template is not ready: %s", error)

    async def _look_again_at_intervals(self) -> None:
        await self._synced.wait()
        while True:
            try:
                await self._attempts.launcher.look_again()
            except Exception as error:
                # Each run asks for itself then, and says what is wrong.
                self.logger.debug("Runs cannot be told what they need: %r", error)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _listen_when_synced(self) -> None:
        await self._synced.wait()
        await warm_worker_wake.listen(
            self.work_pool.id, self._wake.set, self._cancel_soon, self.logger
        )

    # --- Handling work ---

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Called by Prefect in a task of its own, for each run that it takes."""
        await self._in_hand(self._attempts.make, flow_run)

    async def _cancel_run(self, flow_run_id: UUID) -> None:
        """Stop a run that is to be cancelled, if it is in our hands."""
        if flow_run_id in self._submitting_flow_run_ids:
            await self._attempts.cancel(flow_run_id)
        else:
            # Perhaps a run whose process or worker is gone: soon cleared up.
            self._recovery_due.set()

    async def _in_hand(
        self, work: Callable[..., Awaitable[None]], flow_run: FlowRun, *more: Any
    ) -> None:
        try:
            await work(flow_run, *more)
        except Exception:
            # The worker and its other runs go on.
            self.logger.exception("Flow run %s was mishandled.", flow_run.id)
        finally:
            self._release_limit_slot(flow_run.id)
            self._submitting_flow_run_ids.discard(flow_run.id)
            if self._cancelling_observer is not None:
                self._cancelling_observer.remove_in_flight_flow_run_id(flow_run.id)
            if not self._submitting_flow_run_ids:
                self._idle.set()
            # The freed slot is for the next run, now; or for this one, resumed before its process
            # was gone: a poll leaves out what is in hand.
            self._wake.set()

    def _cancel_soon(self, flow_run_id: UUID) -> None:
        if self._runs_task_group is not None:
            self._runs_task_group.start_soon(self._cancel_run, flow_run_id)

    # --- What was missed, and what earlier workers left ---

    async def _recover_at_intervals(self) -> None:
        while True:
            self._recovery_due.clear()
            pause_seconds = self.settings.recovery_seconds
            try:
                if await self._recover():
                    pause_seconds = warm_worker_recovery.SETTLED_SECONDS
            except Exception:
                self.logger.exception("Looking for lost runs failed; trying again.")
            with anyio.move_on_after(pause_seconds):
                await self._recovery_due.wait()

    async def _relaunch_when_synced(self) -> None:
        await self._synced.wait()
        target = await self._attempts.launcher.recovery()
        await self.relaunching.at_intervals(target, self.logger)

    async def _recover(self) -> bool:
        """Take care of lost runs; whether some are too young to be judged."""
        findings = await warm_worker_recovery.find(
            self.client, self._work_pool_name, self._submitting_flow_run_ids
        )
        for run in findings.to_stop:
            self._cancel_soon(run.id)
        for run in findings.to_release:
            await warm_worker_recovery.release(self.client, run)
        for run in findings.to_cancel:
            message = "Cancelled; there was no process to end."
            await self._mark_flow_run_as_cancelled(run, {"message": message})
        for run, identity in findings.to_adopt:
            self._adopt_soon(run, identity)
        return bool(findings.unsettled)

    def _adopt_soon(self, flow_run: FlowRun, identity: ProcessIdentity) -> None:
        if self._runs_task_group is None:
            return
        if self._limiter is not None and identity.is_alive():
            # It runs already; beyond the limit it only keeps new ones from starting. A dead one
            # that is still to be reported keeps nobody.
            with contextlib.suppress(anyio.WouldBlock):
                self._limiter.acquire_on_behalf_of_nowait(flow_run.id)
        self._submitting_flow_run_ids.add(flow_run.id)
        self._runs_task_group.start_soon(self._in_hand, self._attempts.adopt, flow_run, identity)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: WarmJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> WarmWorkerResult:
        """Not used: `_submit_run` starts a run and reports its end.

        Raises:
            NotImplementedError: always; a forked child cannot run an ad-hoc bundle.
        """
        raise NotImplementedError("A warm worker runs deployments only.")
