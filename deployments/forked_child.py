"""A forked process as the worker sees it: to be signalled, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field

from deployments.process_identity import ProcessIdentity

# A child is only asked after when nobody reports its end (its template is dead, or it
# was left by another worker): twice a second is prompt and costs nothing.
_ASK_INTERVAL_SECONDS = 0.5


@dataclass(eq=False)
class Child:
    """A forked process, until and after its end."""

    identity: ProcessIdentity
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    # Negative for a signal; None while it lives, and when nobody saw how it ended.
    exit_code: int | None = None

    def send(self, signal_number: signal.Signals) -> None:
        """Signal the whole process group; nothing happens when it has ended."""
        if self.exited.is_set():
            return
        pid = self.identity.pid
        try:
            os.killpg(pid, signal_number)
        except ProcessLookupError:
            # Just forked, and not yet the leader of its own group; or just ended.
            if self.identity.is_alive():
                os.kill(pid, signal_number)

    async def stop(self, grace_seconds: float | None) -> None:
        """Ask it to end, and make it end after the grace; at once without one."""
        if grace_seconds is not None:
            self.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), grace_seconds)
        self.send(signal.SIGKILL)
        await self.exited.wait()

    def end(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        self.exited.set()

    async def watch(self) -> None:
        """Notice the end of a process that nobody else reports."""
        while not self.exited.is_set():
            if not self.identity.is_alive():
                self.end(None)
                return
            await asyncio.sleep(_ASK_INTERVAL_SECONDS)
