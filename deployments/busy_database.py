"""A request that met a busy SQLite database is tried again by the server itself, and soon.

Most transactions of Prefect's server read first and write later. Where another one has committed in
between SQLite refuses the write at once, whatever the busy timeout; the server answers 503, and its
client tries again after two seconds: three times as long as a whole refund takes.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Others' transactions take tens of milliseconds. After the last try the client has the word, with
# its own longer pauses.
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4)

_UNAVAILABLE = 503


class TriesAgain:
    """An ASGI application around another one, whose 503 answers are not the last word."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        request = await _whole(receive)
        for pause_seconds in _PAUSES_SECONDS:
            answer = _Answer(send)
            try:
                await self._application({**scope}, _told(request, receive), answer.send)
            except Exception:
                # Starlette raises what it has answered with an error, for the log.
                if not answer.is_withheld:
                    raise
            if not answer.is_withheld:
                return
            await asyncio.sleep(pause_seconds)
        await self._application(scope, _told(request, receive), send)


class _Answer:
    """Sends an answer on, unless it is that the server is unavailable."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_withheld = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_withheld = message["status"] == _UNAVAILABLE
        if not self.is_withheld:
            await self._send(message)


async def _whole(receive: Receive) -> list[Message]:
    """All messages of a request, so that it can be told more than once."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def _told(request: list[Message], receive: Receive) -> Receive:
    """The request from its beginning, and then whatever else its client does."""
    left = iter(request)

    async def tell() -> Message:
        for message in left:
            return message
        return await receive()

    return tell
