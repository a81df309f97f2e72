"""From a claimed flow run to a child at work on it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import anyio
from prefect.client.schemas.objects import Flow, FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.runner._control_channel import ControlChannel
from prefect.workers.base import BaseWorker

from deployments import anticipated
from deployments.forked_child import Child
from deployments.template import Template
from deployments.templates import Templates
from deployments.warm_worker_endings import Attempt
from deployments.warm_worker_job import WarmJobConfiguration
from deployments.warm_worker_known import Known

# A hook that hangs must not keep a cancelled run in Cancelling.
_HOOKS_LIMIT_SECONDS = 60.0


class Launcher:
    """Resolves the job of a flow run and forks its child from the right template."""

    def __init__(
        self,
        worker: BaseWorker[WarmJobConfiguration, Any, Any],
        control: ControlChannel,
        begun: Template | None = None,
    ) -> None:
        self._worker = worker
        self._control = control
        self._templates = Templates(begun)
        self._known = Known(worker)

    async def close(self) -> None:
        """End the templates; children still there go on as orphans."""
        await self._templates.close()

    async def resolve(
        self, flow_run: FlowRun
    ) -> tuple[DeploymentResponse | None, WarmJobConfiguration]:
        """The run's deployment and its complete job.

        Raises:
            ObjectNotFound: the deployment or the flow was deleted.
            CommandNotSupportedError: the job has a command of its own.
        """
        deployment, flow = await self._read(flow_run)
        # A heartbeat may bring a changed pool in the middle of this.
        work_pool = self._worker.work_pool.model_copy(deep=True)
        configuration = await WarmJobConfiguration.of_run(
            flow_run, deployment, work_pool, self._worker.client
        )
        configuration.prepare_for_flow_run(
            flow_run,
            deployment,
            flow,
            work_pool,
            self._worker.name,
            worker_id=self._worker.backend_id,
        )
        return deployment, configuration

    async def start(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None,
        configuration: WarmJobConfiguration,
    ) -> Child:
        """Fork a child that runs the flow run.

        Raises:
            TemplateBrokenError: with the traceback of the import that failed.
        """
        port, token = self._control.register(flow_run.id)
        environment = {
            "PREFECT__CONTROL_PORT": str(port),
            "PREFECT__CONTROL_TOKEN": token,
        }
        job = self._job("execute", flow_run, deployment, configuration, environment)
        # What cannot be told, for whatever reason, the run asks for itself.
        with contextlib.suppress(Exception):
            job["payload"]["known"] = await self._known.handed_to(flow_run, configuration.blocks)
        return await self._templates.fork(configuration.order(), job)

    async def run_hooks(self, attempt: Attempt, state: State[Any]) -> None:
        """Run the flow's hooks in a child; what goes wrong there is only logged."""
        try:
            deployment, configuration = await self.resolve(attempt.flow_run)
            job = self._job("run_hooks", attempt.flow_run, deployment, configuration, {})
            job["payload"]["state"] = state.model_dump(mode="json", exclude={"data"})
            child = await self._templates.fork(configuration.order(), job)
        except Exception:
            logger = self._worker.get_flow_run_logger(attempt.flow_run)
            logger.exception("The hooks for %s could not run.", state.name)
            return
        with anyio.move_on_after(_HOOKS_LIMIT_SECONDS):
            await child.exited.wait()
        await child.stop(grace_seconds=None)

    async def warm_up(self) -> None:
        """Start the template of the pool's own defaults, so that the first run is fast.

        Raises:
            TemplateBrokenError: with the traceback of the import that failed.
        """
        configuration = await self._defaults()
        configuration.env = {
            **WarmJobConfiguration._base_environment(),
            **configuration.env,
        }
        order = configuration.order()
        await self._templates.get(order)
        anticipated.keep(self._worker.work_pool.name, order)

    async def look_again(self) -> None:
        """Read again what runs are told, so that they need not ask. Raises httpx.HTTPError."""
        self._known.forget()
        await self._known.read((await self._defaults()).blocks)

    async def recovery(self) -> str:
        """The pool's function that starts lost runs again, `module:name`; empty for none."""
        return (await self._defaults()).recovery

    async def _defaults(self) -> WarmJobConfiguration:
        found = await WarmJobConfiguration.from_template_and_values(
            base_job_template=self._worker.work_pool.base_job_template,
            values={},
            client=self._worker.client,
        )
        return cast("WarmJobConfiguration", found)

    def _job(
        self,
        function: str,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None,
        configuration: WarmJobConfiguration,
        control_environment: dict[str, str],
    ) -> dict[str, Any]:
        run_environment = configuration.run_environment()
        return {
            "target": f"deployments.warm_run:{function}",
            "env": {
                **run_environment,
                **control_environment,
                # As with Prefect's runner: the worker, not the engine, reports a
                # cancellation and runs its hooks.
                "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
            },
            "stream_output": configuration.stream_output,
            "orphan_seconds": configuration.orphan_seconds,
            "stop_grace_seconds": configuration.stop_grace_seconds,
            "payload": {
                "flow_run": flow_run.model_dump(mode="json"),
                "deployment": deployment and deployment.model_dump(mode="json"),
                "settings": list(run_environment),
                "in_working_dir": configuration.working_dir is not None,
            },
        }

    async def _read(self, flow_run: FlowRun) -> tuple[DeploymentResponse | None, Flow]:
        """The run's deployment and flow, asked for at the same time. Raises ObjectNotFound."""
        reading_flow = asyncio.create_task(self._known.flow(flow_run.flow_id))
        deployment = None
        try:
            if flow_run.deployment_id is not None:
                deployment = await self._worker.client.read_deployment(flow_run.deployment_id)
        except BaseException:
            reading_flow.cancel()
            await asyncio.gather(reading_flow, return_exceptions=True)
            raise
        return deployment, await reading_flow
