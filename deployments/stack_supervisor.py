"""Brings the stack up, restarts what dies, and takes it down in the reverse order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx

from deployments import stack_nights, stack_ready, stack_roles
from deployments.stack_home import Home, StackFailed
from deployments.stack_processes import Child
from deployments.stack_restarts import Restarts
from deployments.stack_roles import Role
from refunds.settings import Settings

# How often a full disk is tried again: often enough for whoever just made room on it.
_NO_ROOM_SECONDS = 8.0


class Supervisor:
    """One stack, from its first process to the end of its last.

    `say` is told what happened, `ready` is called with the pid of each role: once all of
    them are ready, and again whenever one was restarted.
    """

    def __init__(
        self,
        settings: Settings,
        home: Home,
        say: Callable[[str], None],
        ready: Callable[[dict[str, int]], None],
    ) -> None:
        self._settings = settings
        self._home = home
        self._say = say
        self._ready = ready
        self._children: dict[str, Child] = {}
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: StackFailed | None = None
        self._unnoted = asyncio.Event()
        # The system closes the writing end with this process, however it ends.
        self._lifeline, self._lifeline_writer = os.pipe()

    async def run(self, sample: Role | None, *, until_idle: bool) -> None:
        """Bring the stack up and keep it up until a signal, or the sample's end, says stop.

        Raises:
            StackFailed: it did not come up, or one of its processes dies again and again.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._heed)
        try:
            if await self._is_up():
                await self._stay_up(sample, until_idle=until_idle)
        finally:
            await self._take_down()
        if self._failure is not None:
            raise self._failure

    # --- Up ---

    async def _bring_up(self) -> None:
        """Start everything, side by side where nothing depends on the order."""
        try:
            async with (
                stack_ready.new_client(self._settings) as client,
                asyncio.TaskGroup() as group,
            ):
                group.create_task(self._serve(stack_roles.prefect(self._settings), client))
                if stack_roles.needs_sandbox(self._settings):
                    group.create_task(self._serve(stack_roles.sandbox(self._settings), client))
                # It loads its modules, which takes as long, while the server starts.
                set_up = await self._begin(stack_roles.set_up(self._settings))
                await stack_ready.until_done(set_up, self._home)
                del self._children[set_up.role.name]
                group.create_task(self._serve(stack_roles.service(self._settings), client))
                group.create_task(self._work(client))
        except* StackFailed as failures:
            # The others were cancelled because of it.
            raise failures.exceptions[0] from None
        self._ready(self._pids())

    async def _serve(self, role: Role, client: httpx.AsyncClient) -> None:
        began = time.monotonic()
        child = await self._begin(role)
        await stack_ready.until(child, lambda: stack_ready.is_healthy(child, client), self._home)
        self._say(f"{role.name} ready ({time.monotonic() - began:.1f} s)")

    async def _work(self, client: httpx.AsyncClient) -> None:
        began, since = time.monotonic(), datetime.now(UTC)
        pool_type = await stack_ready.pool_type(self._settings, client)
        child = await self._begin(stack_roles.worker(self._settings, pool_type))
        await stack_ready.until(
            child,
            lambda: stack_ready.worker_reports(self._settings, client, since),
            self._home,
        )
        self._say(f"worker ready ({time.monotonic() - began:.1f} s)")

    async def _begin(self, role: Role) -> Child:
        """Start a role's process and write it down, so that a later `up` or `down` finds it."""
        child = await self._start(role)
        self._note()
        return child

    async def _start(self, role: Role) -> Child:
        child = await Child.start(role, self._home, self._lifeline)
        self._children[role.name] = child
        return child

    def _note(self) -> None:
        self._home.write_processes({"supervisor": os.getpid(), **self._pids()})

    def _pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}

    async def _is_up(self) -> bool:
        """Bring everything up; False when somebody said stop before it was."""
        up = asyncio.create_task(self._bring_up())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((up, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if up.done():
            up.result()
            return True
        up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await up
        return False

    # --- Staying up ---

    async def _stay_up(self, sample: Role | None, *, until_idle: bool) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep(each)) for each in self._children.values()]
            tasks.append(group.create_task(self._keep_notes()))
            tasks.append(group.create_task(self._tell_nights()))
            if sample is not None:
                tasks.append(group.create_task(self._show(sample, until_idle=until_idle)))
            await self._stopping.wait()
            for task in tasks:
                task.cancel()

    async def _tell_nights(self) -> None:
        async with stack_ready.new_client(self._settings) as client:
            await stack_nights.tell(self._settings, client, self._say)

    async def _keep(self, child: Child) -> None:
        """Restart a role's process whenever it ends, until that is hopeless."""
        role, restarts = child.role, Restarts()
        while True:
            status = await asyncio.shield(child.ended)
            pause_seconds = restarts.pause_seconds(status, time.monotonic())
            what = f"{role.name} (pid {child.pid}) ended with status {status}"
            if pause_seconds is None:
                sentence = f"{what}, as it did again and again"
                self._fail(StackFailed(stack_ready.with_log(child, self._home, sentence)))
                return
            log = self._home.log(role.name)
            self._say(f"{what}; starting it again; see {log}{restarts.advice}")
            await asyncio.sleep(pause_seconds)
            child = await self._start_again(role)
            self._unnoted.set()

    async def _start_again(self, role: Role) -> Child:
        """Start a role's process, however long the machine has no room for it."""
        while True:
            try:
                return await self._start(role)
            except OSError as error:
                self._say(f"{role.name} could not be started, and will be: {error}")
                await asyncio.sleep(_NO_ROOM_SECONDS)

    async def _keep_notes(self) -> None:
        """Write down anew what runs whenever that changed; a full disk delays it."""
        while True:
            await self._unnoted.wait()
            self._unnoted.clear()
            try:
                self._note()
                self._ready(self._pids())
            except OSError as error:
                self._say(f"what runs could not be written down, and will be: {error}")
                self._unnoted.set()
                await asyncio.sleep(_NO_ROOM_SECONDS)

    async def _show(self, role: Role, *, until_idle: bool) -> None:
        """Run the sample; with `until_idle` its end is the stack's."""
        child = await self._begin(role)
        status = await asyncio.shield(child.ended)
        del self._children[role.name]
        if status != 0:
            failure = StackFailed(f"the sample ended with status {status}; its reason is above")
            if until_idle:
                self._fail(failure)
            else:
                self._say(f"{failure}; the stack goes on")
        elif until_idle:
            self._say("nothing is left to do but wait for people")
            self._stopping.set()

    # --- Down ---

    def _heed(self) -> None:
        """The first signal stops the stack in good order, the second in a hurry."""
        if self._stopping.is_set():
            self._hurry.set()
        else:
            self._say("stopping; runs under way get time to finish, press again to hand them back")
        self._stopping.set()

    def _fail(self, failure: StackFailed) -> None:
        self._failure = failure
        self._stopping.set()

    async def _take_down(self) -> None:
        """End every child: the last started first, so that nothing loses what it needs."""
        self._stopping.set()
        for child in reversed(self._children.values()):
            await child.stop(self._hurry)
        os.close(self._lifeline)
        os.close(self._lifeline_writer)
