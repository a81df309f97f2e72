"""What a warm work pool can be told about its jobs, and what of it makes a template."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorkerResult
from pydantic import Field, PrivateAttr

from deployments.template import TemplateOrder

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Flow as APIFlow
    from prefect.client.schemas.objects import WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

# What every run needs: the engine, the event client that watches for a suspension, the
# loaders, what these only import when they are used (30 ms in each child), and the
# module whose functions the children call.
ENGINE_MODULES = (
    "prefect.main",
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.task_runners",
    "prefect.events.clients",
    "prefect.events.worker",
    "prefect._internal.observers",
    "prefect._internal.metrics",
    "prefect.deployments.steps.core",
    "prefect.deployments.steps.pull",
    "prefect.runner._hook_runner",
    "websockets.asyncio.client",
    "anyio._backends._asyncio",
    "encodings.idna",
    "prefect.utilities.visualization",
    "rich._emoji_codes",
    "deployments.warm_run",
    "deployments.warm_start",
)

# One refund takes seconds and a night's chunk minutes; an hour lets every ordinary run
# finish without its worker, and ends one that hangs the same night.
ORPHAN_SECONDS = 3600.0

# As long as Prefect's own runner waits between SIGTERM and SIGKILL.
STOP_GRACE_SECONDS = 30.0

_PRELOAD = "Modules to import once, in the template: usually those with the flows."
_DIRECTORY = "Where the flows' code is; by default where the worker was started."
_STREAM = "Whether the runs write to the worker's standard output, or to nowhere."
_BLOCKS = "Blocks that runs load, type-slug/name; a worker reads those of its pool for them."
_RECOVERY = "An async function, module:name, that starts lost runs again; often called."
_ORPHAN = "How long a run may go on, in seconds, after its worker was killed."
_GRACE = "How long a run may take, in seconds, to end when it is cancelled."


class CommandNotSupportedError(ValueError):
    """A job asks for a command of its own, and a forked child runs none."""


class WarmJobVariables(BaseVariables):
    """The fields of the pool, and what a deployment may set differently."""

    preload: list[str] = Field(default_factory=list, description=_PRELOAD)
    working_dir: Path | None = Field(default=None, description=_DIRECTORY)
    blocks: list[str] = Field(default_factory=list, description=_BLOCKS)
    recovery: str = Field(default="", description=_RECOVERY)
    stream_output: bool = Field(default=True, description=_STREAM)
    orphan_seconds: float = Field(default=ORPHAN_SECONDS, ge=0, description=_ORPHAN)
    stop_grace_seconds: float = Field(default=STOP_GRACE_SECONDS, ge=0, description=_GRACE)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        schema = super().model_json_schema(*args, **kwargs)
        # A forked child runs the flow itself: there is no command to configure.
        schema["properties"].pop("command", None)
        return schema


class WarmJobConfiguration(BaseJobConfiguration):
    """One run's job: the pool's fields with those of deployment and run over them."""

    preload: list[str] = Field(default_factory=list)
    working_dir: Path | None = None
    blocks: list[str] = Field(default_factory=list)
    recovery: str = ""
    stream_output: bool = True
    orphan_seconds: float = ORPHAN_SECONDS
    stop_grace_seconds: float = STOP_GRACE_SECONDS

    _run_names: frozenset[str] = PrivateAttr(default=frozenset())

    @classmethod
    def json_template(cls) -> dict[str, Any]:
        template = super().json_template()
        template.pop("command", None)
        return template

    @classmethod
    @functools.cache
    def _base_environment(cls) -> dict[str, str]:
        # The worker's own settings, which do not change: 20 ms of each run's start.
        return super()._base_environment()

    @classmethod
    async def of_run(
        cls,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None,
        work_pool: WorkPool,
        client: PrefectClient,
    ) -> Self:
        """The pool's fields, the deployment's over them, the run's over both.

        Environment variables one by one, all else whole, as any worker of Prefect has it.
        """
        ours = flow_run.job_variables or {}
        values = {**((deployment and deployment.job_variables) or {})}
        if isinstance(values.get("env"), dict):
            values["env"] = {**values["env"], **ours.get("env", {})}
            ours = {name: value for name, value in ours.items() if name != "env"}
        configuration: Self = await cls.from_template_and_values(
            base_job_template=work_pool.base_job_template,
            values={**values, **ours},
            client=client,
        )
        configuration._run_names = _environment_names(flow_run.job_variables or {})
        return configuration

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: APIFlow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Complete the environment as Prefect does for any worker.

        Raises:
            CommandNotSupportedError: the job has a command.
        """
        if self.command is not None:
            raise CommandNotSupportedError(
                f"A warm worker cannot run the command {self.command!r}; "
                "use a work pool of the type 'process' for this deployment."
            )
        super().prepare_for_flow_run(
            flow_run, deployment, flow, work_pool, worker_name, worker_id=worker_id
        )

    def order(self) -> TemplateOrder:
        """The template this job needs: all of its environment but what is the run's."""
        run_environment = self.run_environment()
        environment = {**os.environ, **self._set_environment()}
        shared = {
            name: value
            for name, value in environment.items()
            if name not in run_environment and not _is_of_the_run(name)
        }
        return TemplateOrder(
            modules=(*ENGINE_MODULES, *self.preload),
            environment=tuple(sorted(shared.items())),
            directory=str((self.working_dir or Path.cwd()).resolve()),
        )

    def run_environment(self) -> dict[str, str]:
        """The variables that are this run's own, set in its child."""
        return {
            name: value
            for name, value in self._set_environment().items()
            if name in self._run_names or _is_of_the_run(name)
        }

    def _set_environment(self) -> dict[str, str]:
        return {name: value for name, value in self.env.items() if value is not None}


class WarmWorkerResult(BaseWorkerResult):
    """Which process ran the flow (`ProcessIdentity`), and its exit code."""


def _is_of_the_run(name: str) -> bool:
    # `PREFECT_` is a setting; with two underscores it is the id or name of something
    # that belongs to one run.
    return name.startswith("PREFECT__")


def _environment_names(job_variables: dict[str, Any]) -> frozenset[str]:
    dotted = {name[4:] for name in job_variables if name.startswith("env.")}
    return frozenset(dotted | set(job_variables.get("env") or {}))
