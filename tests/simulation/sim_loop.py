"""An event loop that turns once at every step of an actor, and whose clock is the story's."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from typing import Any


@types.coroutine
def turn_by_turn(
    begin: Callable[[], Coroutine[Any, Any, Any]],
    now: Callable[[], datetime],
    pass_time: Callable[[float], None],
) -> Generator[str, None, Any]:
    """What does many things at once, as one actor: others may go first between two turns."""
    loop = _Loop(now, pass_time)
    whole = loop.create_task(begin())
    try:
        while not whole.done():
            loop.turn()
            yield "a turn of its loop"
        return whole.result()
    finally:
        loop.forget()


def _copy(done: Future[Any], heard: asyncio.Future[Any]) -> None:
    error = done.exception()
    if error is None:
        heard.set_result(done.result())
    else:
        heard.set_exception(error)


class _Loop(asyncio.BaseEventLoop):
    """No sockets and no threads: what a thread would do is done at once, and heard of later."""

    def __init__(self, now: Callable[[], datetime], pass_time: Callable[[float], None]) -> None:
        super().__init__()
        self._now, self._pass_time = now, pass_time
        # The story's clock knows no less than a microsecond.
        self._clock_resolution = 1e-5
        self._selector = self
        self._tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._made)

    def time(self) -> float:
        return self._now().timestamp()

    def select(self, timeout: float | None) -> list[Any]:
        """Nobody is ready: it is later."""
        assert timeout is not None, "everybody waits for somebody else"
        if timeout > 0:
            self._pass_time(timeout)
        return []

    def _process_events(self, _events: list[Any]) -> None:
        """There are none."""

    def run_in_executor(self, _executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        done: Future[Any] = Future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever waits for it has to hear it
            done.set_exception(error)
        heard = self.create_future()
        # At its next turn, and not if it was cancelled meanwhile.
        self.call_soon(lambda: None if heard.done() else _copy(done, heard))
        return heard

    def turn(self) -> None:
        """Everybody who is ready goes on to their next await."""
        asyncio._set_running_loop(self)
        try:
            self._run_once()  # type: ignore[attr-defined]  # there is no public single turn
        finally:
            asyncio._set_running_loop(None)

    def _made(self, loop: Any, work: Any, **given: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **given)
        self._tasks.append(task)
        return task

    def forget(self) -> None:
        """The process is gone: what was under way is not told of it."""
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(BaseException):
                task.get_coro().close()
        self.set_exception_handler(lambda *_: None)
        self.close()
