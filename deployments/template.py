"""The worker's side of a template: start it, let it fork, learn how children end."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.forked_child import Child
from deployments.process_identity import ProcessIdentity

# Importing Prefect takes 1.3 s here and a flow's libraries as much again; ten times
# that on a loaded machine is still a start, beyond it something hangs.
START_LIMIT_SECONDS = 60.0

# A job carries a flow run's parameters, at most 512 KiB each way in Prefect.
_LINE_LIMIT_BYTES = 1 << 22

_ROOT = str(Path(__file__).resolve().parent.parent)
_BOOTSTRAP = (
    f"import sys; sys.path.append({_ROOT!r}); from deployments.forkserver import main; main()"
)


class TemplateBrokenError(Exception):
    """The template could not import what it was told to, or died; the text says why."""


@dataclass(frozen=True)
class TemplateOrder:
    """What makes one template differ from another: modules, environment, directory."""

    modules: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    directory: str


class Template:
    """A running template; `start` makes one."""

    def __init__(self, order: TemplateOrder) -> None:
        self.order = order
        self.last_used = time.monotonic()
        self._numbers = itertools.count(1)
        self._children: dict[int, Child] = {}
        self._forking: dict[int, asyncio.Future[Child]] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._retired = False
        self._gone = False
        self._socket: socket.socket | None = None

    def begin(self) -> None:
        """Start the process, and let it import while others do something else."""
        if self._socket is None:
            self._socket = self._spawn()

    async def start(self) -> None:
        """Start the process unless it was begun, and wait until it has imported everything.

        Raises:
            TemplateBrokenError: with the traceback of the import that failed.
        """
        self.begin()
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._socket, limit=_LINE_LIMIT_BYTES
        )
        try:
            first = await asyncio.wait_for(self._reader.readline(), START_LIMIT_SECONDS)
        except TimeoutError:
            first = b""
        answer = json.loads(first or b"{}")
        if "ready" not in answer:
            await self._bury()
            raise TemplateBrokenError(answer.get("broken") or self._epitaph())
        self._sources: dict[str, list[int]] = answer["ready"]
        self._began_ns: int = answer["began_ns"]
        self._listening = asyncio.create_task(self._listen())

    def _spawn(self) -> socket.socket:
        """Start the process; our end of the socket that it speaks through."""
        ours, theirs = socket.socketpair()
        life_read, self._lifeline = os.pipe()
        order = {
            "socket": theirs.fileno(),
            "lifeline": life_read,
            "modules": self.order.modules,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, json.dumps(order)],
            pass_fds=(theirs.fileno(), life_read),
            env=dict(self.order.environment),
            cwd=self.order.directory,
            stdin=subprocess.DEVNULL,
            # Ctrl-C in a terminal is for the worker alone, which then drains.
            start_new_session=True,
        )
        theirs.close()
        os.close(life_read)
        return ours

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether it lives and its source files are those that it has imported."""
        return not (self._gone or self._retired or self._is_stale())

    @property
    def is_busy(self) -> bool:
        return bool(self._children or self._forking)

    async def fork(self, job: dict[str, Any]) -> Child:
        """Fork a child for the job (see `forkserver_child`, without the id).

        Raises:
            TemplateBrokenError: the template is gone, or could not fork.
        """
        if self._gone:
            raise TemplateBrokenError(self._epitaph())
        self.last_used = time.monotonic()
        number = next(self._numbers)
        forked: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._forking[number] = forked
        self._writer.write(json.dumps({"id": number, **job}).encode() + b"\n")
        return await forked

    def retire(self) -> None:
        """Fork no more, and end as soon as the children have."""
        self._retired = True
        self._close_when_idle()

    async def close(self) -> None:
        """End the template; children still there go on as orphans."""
        if not self._gone:
            self._writer.close()
            await self._listening
        for watch in self._watches:
            watch.cancel()

    async def abandon(self) -> None:
        """End a template that was begun and is not needed."""
        if self._socket is not None:
            self._socket.close()
            os.close(self._lifeline)
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def _is_stale(self) -> bool:
        now_ns = time.time_ns()
        for path, imported in self._sources.items():
            try:
                found = os.stat(path)
            except FileNotFoundError:
                return True
            if [found.st_mtime_ns, found.st_size] != imported:
                return True
            # Written while the template was importing: which half it saw is unknown.
            if self._began_ns <= found.st_mtime_ns <= now_ns:
                return True
        return False

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                self._hear(json.loads(line))
                if self._retired:
                    self._close_when_idle()
        except ConnectionError:
            # The template was killed with a job unread: the same as a closed socket.
            pass
        await self._bury()

    def _hear(self, message: dict[str, Any]) -> None:
        if "exited" in message:
            self._children.pop(message["exited"]).end(message["status"])
            return
        forked = self._forking.pop(message["job"])
        if "refused" in message:
            forked.set_exception(TemplateBrokenError(message["refused"]))
            return
        child = Child(ProcessIdentity.local(message["pid"], message["born"]))
        self._children[child.identity.pid] = child
        forked.set_result(child)

    def _close_when_idle(self) -> None:
        if not self.is_busy and not self._gone:
            self._writer.close()

    async def _bury(self) -> None:
        self._gone = True
        self._writer.close()
        # After its socket is closed it has nothing left to do; one that hangs in an
        # import never reads it.
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        for forked in self._forking.values():
            forked.set_exception(TemplateBrokenError(self._epitaph()))
        self._forking.clear()
        if not self._children:
            os.close(self._lifeline)
        for child in self._children.values():
            self._watches.add(asyncio.create_task(child.watch()))

    def _epitaph(self) -> str:
        return f"The template process ended with exit code {self._process.poll()}."
