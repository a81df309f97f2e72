"""How an attempt ends: who says so, once, and what is left for the worker to say.

The engine in the child reports what it can. The worker speaks only where the child
could not, after it has ended, and only about a state that this attempt had left behind.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from prefect._internal.attempt_control import EngineOutcomeReceipt
from prefect._internal.infrastructure_exit_codes import get_infrastructure_exit_info
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.logging.loggers import flow_run_logger
from prefect.runner._control_channel import ControlChannel, ControlSignalStatus
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Crashed
from prefect.utilities.engine import propose_state

from deployments.forked_child import Child
from deployments.warm_worker_job import WarmJobConfiguration

# Prefect's client gives up after about a minute of refused calls. The report of a
# crash must not be lost to a longer outage, and once in ten seconds is no load.
_RETRY_SECONDS = 10.0


class Wish(enum.Enum):
    """Why the worker ends a child itself."""

    CANCEL = "cancel"
    RESCHEDULE = "reschedule"


@dataclass(eq=False)
class Attempt:
    """One child at work on one flow run; adopted ones have no configuration."""

    flow_run: FlowRun
    child: Child
    configuration: WarmJobConfiguration | None = None
    wish: Wish | None = None
    # Whether the server knows the child as the run's process.
    is_recorded: bool = False

    @property
    def stop_grace_seconds(self) -> float:
        return self.configuration.stop_grace_seconds if self.configuration else 0.0


class HookStarter(Protocol):
    """Runs the flow's hooks for a state, in a process of their own."""

    async def __call__(self, attempt: Attempt, state: State[Any]) -> None: ...


class Endings:
    """Stops children, and reports the ends that their engines could not."""

    def __init__(
        self, client: PrefectClient, control: ControlChannel, run_hooks: HookStarter
    ) -> None:
        self._client = client
        self._control = control
        self._run_hooks = run_hooks

    async def stop(self, attempt: Attempt, wish: Wish, grace_seconds: float) -> None:
        """End the attempt's child; `conclude` then says what the wish was.

        The engine is told why first: it then leaves the state to the worker instead of
        reporting a crash. One that does not hear it (it has hardly started, or belonged
        to an earlier worker) is killed before it can.
        """
        if attempt.wish is None:
            attempt.wish = wish
        told = await self._control.signal(attempt.flow_run.id, wish.value)
        if told is ControlSignalStatus.ALREADY_CONCLUDED:
            return
        heard = told is ControlSignalStatus.ACKNOWLEDGED
        await attempt.child.stop(grace_seconds if heard else None)

    async def conclude(self, attempt: Attempt) -> None:
        """Once the child has ended: report its end unless it is known already."""
        receipt = self._control.unregister(attempt.flow_run.id)
        reported = isinstance(receipt, EngineOutcomeReceipt)
        if reported and attempt.wish is not Wish.CANCEL:
            return
        while True:
            try:
                await self._report(attempt)
            except ObjectNotFound:
                # The flow run was deleted while it ran.
                return
            except Exception:
                self._logger(attempt).exception(
                    "The end of the flow run could not be reported; trying again."
                )
                await anyio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _report(self, attempt: Attempt) -> None:
        flow_run = await self._client.read_flow_run(attempt.flow_run.id)
        state = flow_run.state
        if state is None or not is_left_by(attempt, flow_run):
            return
        if state.is_cancelling() or attempt.wish is Wish.CANCEL:
            await self._cancel(attempt)
        elif attempt.wish is Wish.RESCHEDULE:
            message = "The worker was stopped; another attempt goes on from here."
            await self._propose(attempt, AwaitingRetry(message=message), state)
        else:
            await self._crash(attempt, state)

    async def _cancel(self, attempt: Attempt) -> None:
        message = "The flow run was cancelled and its process ended."
        await self._run_hooks(attempt, Cancelling(message=message))
        # As Prefect's runner does: the way from Cancelling to Cancelled has no rules.
        await self._client.set_flow_run_state(
            attempt.flow_run.id, Cancelled(message=message), force=True
        )

    async def _crash(self, attempt: Attempt, state: State[Any]) -> None:
        crashed: State[Any] = Crashed(message=describe_exit(attempt.child.exit_code))
        if await self._propose(attempt, crashed, state):
            await self._run_hooks(attempt, crashed)

    async def _propose(self, attempt: Attempt, proposed: State[Any], left: State[Any]) -> bool:
        # Prefect rejects a transition whose id is that of the run's latest: a second
        # report about the same state, from a retried request or from another worker on
        # this machine, changes nothing.
        proposed.state_details.transition_id = uuid.uuid5(left.id, "ended")
        try:
            now = await propose_state(self._client, proposed, attempt.flow_run.id)
        except (Abort, Pause) as refusal:
            self._logger(attempt).info("Prefect refused %s: %s", proposed.name, refusal)
            return False
        accepted = now is proposed
        if accepted:
            self._logger(attempt).warning("%s: %s", proposed.name, proposed.message)
        return accepted

    def _logger(self, attempt: Attempt) -> Any:
        return flow_run_logger(attempt.flow_run)


def is_left_by(attempt: Attempt, flow_run: FlowRun) -> bool:
    """Whether the run's state is one that this attempt's process left behind.

    Not so once the run is final, waits (paused, suspended, scheduled again), or belongs
    to a later process.
    """
    state = flow_run.state
    if state is None or state.is_final() or state.is_paused() or state.is_scheduled():
        return False
    is_latest = flow_run.infrastructure_pid == str(attempt.child.identity)
    return is_latest or not attempt.is_recorded


def describe_exit(exit_code: int | None) -> str:
    """The text of a crash: how the process ended and what that usually means."""
    if exit_code is None:
        return "The process of the flow run ended unseen, without a final state."
    info = get_infrastructure_exit_info(exit_code)
    return (
        f"The process of the flow run ended with exit code {exit_code} "
        f"and without a final state. {info.explanation}"
    )
