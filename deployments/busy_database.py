"""A request that met a busy SQLite database is tried again by the server itself, and soon.

Most transactions of Prefect's server read first and write later. Where another one has committed in
between SQLite refuses the write at once, whatever the busy timeout; the server answers 503, and its
client tries again after two seconds: three times as long as a whole refund takes.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Others' transactions take tens of milliseconds.
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4)
# What is busy for longer is the client's to try again, who may have gone away meanwhile.
_MOST_SECONDS = 1.0

# Prefect's requests are smaller by far; a larger one is not kept, and told once.
_MOST_BYTES = 4 << 20

_UNAVAILABLE = 503


class TriesAgain:
    """An ASGI application around another one, whose word that it is busy is not the last."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        request = await _whole(receive) if scope["type"] == "http" else []
        if not request or request[-1].get("more_body", False):
            await self._application(scope, _told(request, receive), send)
            return
        began = asyncio.get_running_loop().time()
        for pause_seconds in (*_PAUSES_SECONDS, None):
            answer = _Answer(send)
            try:
                await self._application({**scope}, _told(request, receive), answer.send)
            except Exception as error:
                # Starlette raises what it has answered with an error, for the log.
                is_late = asyncio.get_running_loop().time() - began > _MOST_SECONDS
                if pause_seconds is None or is_late or not (answer.withheld and _is_busy(error)):
                    await answer.give_up()
                    raise
                await asyncio.sleep(pause_seconds)
            else:
                await answer.give_up()
                return


class _Answer:
    """Sends an answer on, but keeps back that the server is unavailable."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.withheld: list[Message] = []

    async def send(self, message: Message) -> None:
        if self.withheld or message.get("status") == _UNAVAILABLE:
            self.withheld.append(message)
        else:
            await self._send(message)

    async def give_up(self) -> None:
        """Send what was kept back: it is the last word after all."""
        for message in self.withheld:
            await self._send(message)


def _is_busy(error: Exception) -> bool:
    cause = getattr(error, "orig", None)
    name = getattr(cause, "sqlite_errorname", "")
    return isinstance(cause, sqlite3.OperationalError) and name.startswith("SQLITE_BUSY")


async def _whole(receive: Receive) -> list[Message]:
    """All messages of a request, so that it can be told again; the first ones of a large one."""
    messages = [await receive()]
    size = len(messages[0].get("body", b""))
    while messages[-1].get("more_body", False) and size <= _MOST_BYTES:
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
    return messages


def _told(request: list[Message], receive: Receive) -> Receive:
    """The request from its beginning, and then whatever else its client does."""
    left = iter(request)

    async def tell() -> Message:
        for message in left:
            return message
        return await receive()

    return tell
