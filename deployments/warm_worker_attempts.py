"""The flow runs in a worker's hands: claimed or adopted, and seen to their ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.runner._control_channel import ControlChannel
from prefect.states import Pending
from prefect.utilities.engine import propose_state

from deployments import warm_worker_recovery
from deployments.forked_child import Child
from deployments.process_identity import ProcessIdentity
from deployments.template import TemplateBrokenError
from deployments.warm_worker_endings import Attempt, Endings, Wish
from deployments.warm_worker_job import WarmWorkerResult
from deployments.warm_worker_launch import Launcher

if TYPE_CHECKING:
    from deployments.warm_worker_type import WarmProcessWorker

# Characters of an import's traceback in a state's message: the end of it, where the
# error is; the log has all.
_REASON_LENGTH = 1500


class Attempts:
    """Works on flow runs, one child each, and reports every end exactly once."""

    def __init__(self, worker: WarmProcessWorker, control: ControlChannel) -> None:
        self._worker = worker
        self._client = worker.client
        self._control = control
        self._identity = ProcessIdentity.of_this_process()
        self.launcher = Launcher(worker, control, worker.begun)
        self._endings = Endings(self._client, control, self.launcher.run_hooks)
        self._working: dict[UUID, Attempt] = {}
        # Cancelled between claim and fork.
        self._cancelled_early: set[UUID] = set()
        self._closed = False

    async def make(self, flow_run: FlowRun) -> None:
        """Claim a run, fork its child, and see to it until its end is known."""
        # Both ask the server; neither needs the other's answer.
        job = asyncio.create_task(self.launcher.resolve(flow_run))
        if not await self._claim(flow_run):
            job.cancel()
            return
        if self._closed:
            job.cancel()
            await warm_worker_recovery.release(self._client, flow_run)
            return
        try:
            deployment, configuration = await job
            submitted = self._worker._emit_flow_run_submitted_event(configuration)
            child = await self.launcher.start(flow_run, deployment, configuration)
        except Exception as error:
            await self._report_unstartable(flow_run, error)
            return
        await self._see_through(Attempt(flow_run, child, configuration))
        result = WarmWorkerResult(identifier=str(child.identity), status_code=child.exit_code or 0)
        self._worker._emit_flow_run_executed_event(result, configuration, submitted)

    async def adopt(self, flow_run: FlowRun, identity: ProcessIdentity) -> None:
        """See to a process of an earlier worker, alive or not, as if it were ours."""
        attempt = Attempt(flow_run, Child(identity), is_recorded=True)
        if flow_run.state and flow_run.state.is_cancelling():
            self._cancelled_early.add(flow_run.id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt.child.watch)
            tasks.start_soon(self._see_through, attempt)

    async def cancel(self, flow_run_id: UUID) -> None:
        """Stop the run's child, at once or as soon as there is one."""
        attempt = self._working.get(flow_run_id)
        if attempt is None:
            self._cancelled_early.add(flow_run_id)
        elif attempt.wish is None:
            await self._endings.stop(attempt, Wish.CANCEL, attempt.stop_grace_seconds)

    async def close(self, grace_seconds: float) -> None:
        """Stop all children, and have their runs scheduled again."""
        self._closed = True
        async with anyio.create_task_group() as stops:
            for attempt in self._working.values():
                stops.start_soon(self._endings.stop, attempt, Wish.RESCHEDULE, grace_seconds)

    async def _claim(self, flow_run: FlowRun) -> bool:
        """Take the run before another worker does."""
        message = warm_worker_recovery.claim(self._identity)
        try:
            state: Any = await propose_state(self._client, Pending(message=message), flow_run.id)
        except (Abort, Pause, ObjectNotFound) as refusal:
            self._worker.logger.info("%s is not to be started: %s", flow_run, refusal)
            return False
        flow_run.state = state
        return bool(state.is_pending())

    async def _see_through(self, attempt: Attempt) -> None:
        flow_run_id = attempt.flow_run.id
        self._working[flow_run_id] = attempt
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._record, attempt)
                if flow_run_id in self._cancelled_early:
                    tasks.start_soon(self.cancel, flow_run_id)
                await attempt.child.exited.wait()
            await self._endings.conclude(attempt)
            if attempt.child.exit_code != 0:
                self._worker.relaunching.soon()
        finally:
            self._cancelled_early.discard(flow_run_id)
            del self._working[flow_run_id]

    async def _record(self, attempt: Attempt) -> None:
        """Tell the server which process it is, so that any worker here can find it."""
        if attempt.is_recorded:
            return
        try:
            await self._client.update_flow_run(
                attempt.flow_run.id, infrastructure_pid=str(attempt.child.identity)
            )
        except Exception:
            # Only needed should this worker die before the child.
            self._worker.logger.exception("A process could not be recorded.")
        else:
            attempt.is_recorded = True

    async def _report_unstartable(self, flow_run: FlowRun, error: Exception) -> None:
        self._control.unregister(flow_run.id)
        if isinstance(error, ObjectNotFound):
            message = f"Deployment {flow_run.deployment_id} no longer exists."
            await self._worker._mark_flow_run_as_cancelled(flow_run, {"message": message})
            return
        reason = str(error) if isinstance(error, TemplateBrokenError) else repr(error)
        logger = self._worker.get_flow_run_logger(flow_run)
        logger.error("The run could not be started: %s", reason)
        message = f"The flow run could not be started: {reason[-_REASON_LENGTH:]}"
        await self._worker._propose_crashed_state(flow_run, message)
