"""One child of the stack: started, awaited, asked to end."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from typing import Self

import psutil

from deployments.process_identity import ProcessIdentity
from deployments.stack_environment import PROJECT
from deployments.stack_home import Home
from deployments.stack_roles import Role

# What is left of an earlier stack has nobody to report to any more, and its own lifeline
# ends it as well.
_STALE_STOP_SECONDS = 10.0


class Child:
    """A running process of one role."""

    def __init__(self, role: Role, process: asyncio.subprocess.Process, log_start: int) -> None:
        self.role = role
        self.pid = process.pid
        # Where in the role's log this process begins.
        self.log_start = log_start
        self._process = process
        self.ended: asyncio.Task[int] = asyncio.create_task(process.wait())

    @classmethod
    async def start(cls, role: Role, home: Home, lifeline: int) -> Self:
        """Start it in a session of its own, so that Ctrl-C reaches the supervisor alone.

        Its output is appended to the role's log: a file outlives whoever reads it. The
        sample's is for the person in front of the terminal.
        """
        log_path = home.log(role.name)
        with log_path.open("ab") as log:
            output = None if role.name == "sample" else log
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "deployments.child"),
                *("--lifeline", str(lifeline), "--linger", str(role.linger_seconds)),
                *role.command,
                cwd=PROJECT,
                env=dict(role.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lifeline,),
                start_new_session=True,
            )
            return cls(role, process, log.tell())

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ask it to end, ask again when somebody is in a hurry, end it after its grace."""
        self._send(signal.SIGTERM)
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait(
            (self.ended, hurried),
            timeout=self.role.stop_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not self.ended.done() and hurried.done():
            self._send(signal.SIGTERM)
            # A hurried worker takes about a second to hand its runs back.
            await asyncio.wait((self.ended,), timeout=min(5.0, self.role.stop_seconds))
        hurried.cancel()
        self._send(signal.SIGKILL)
        await self.ended

    def _send(self, signal_number: signal.Signals) -> None:
        # It may end between the question and the signal.
        with contextlib.suppress(ProcessLookupError):
            if not self.ended.done():
                self._process.send_signal(signal_number)


def end_stale(processes: dict[str, ProcessIdentity]) -> None:
    """End what an earlier stack has left: last started first, after a grace by force."""
    living = [found for i in reversed(processes.values()) if (found := _same(i)) is not None]
    for process in living:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(living, timeout=_STALE_STOP_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_STALE_STOP_SECONDS)


def _same(identity: ProcessIdentity) -> psutil.Process | None:
    """The process, if it is still the noted one, and one of ours by its command line."""
    try:
        process = psutil.Process(identity.pid)
        ours = "deployments.child" in process.cmdline()
    except psutil.Error:
        return None
    return process if ours and identity.is_alive() else None
