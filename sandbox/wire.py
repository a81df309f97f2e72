"""Bytes in and out: bounded bodies, and connections that break on purpose."""

import asyncio
import socket
import struct
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.answers import Answer, Refused
from sandbox.records import error

BODY_LIMIT_BYTES = 256 * 1024
# Two thousand orders of the retail data are 1.8 MB.
SHOP_BODY_LIMIT_BYTES = 4 * 1024 * 1024
# A little more is read and thrown away, so that the client hears the 413 and not a broken pipe.
_DISCARD_LIMIT_BYTES = 16 * 1024 * 1024

_TRANSPORT = "sandbox.transport"


class ConnectionDropped(Exception):
    """The connection is closed on purpose, where there is no socket to close."""


def exposing_transport(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that an answer can break the connection under it, and so that a stop does.

    uvicorn's `send` is a method of an object that holds the transport; ASGI itself has no way to
    break a connection. Without uvicorn there is none, and a break raises ConnectionDropped.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        scope[_TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            # Only a stop cancels a request; its client sees what a crash would show.
            await _break(scope, receive, reset=False)

    return wrapped


async def read_body(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the whole body; raises Refused 413 when it is longer than the limit."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit_bytes:
            chunks.append(chunk)
        elif size > _DISCARD_LIMIT_BYTES:
            break
    if size > limit_bytes:
        text = f"The body is longer than {limit_bytes} bytes."
        raise Refused(error(413, "body_too_large", text))
    return b"".join(chunks)


class Reset(Response):
    """Answers nothing and resets the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Break the connection before anything is sent."""
        del send
        await _break(scope, receive, reset=True)


class HeldThenClosed(Response):
    """Answers nothing for `seconds`, then closes the connection."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the client to give up, or for the time to pass."""
        del send
        try:
            async with asyncio.timeout(self.seconds):
                await _disconnected(receive)
        except TimeoutError:
            await _break(scope, receive, reset=False)


class CutOff(Response):
    """Sends half of the answer and closes the connection."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body, status_code=answer.status, media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the first half and break the connection."""
        body = bytes(self.body)
        start: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        half = body[: len(body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _break(scope, receive, reset=False)


async def _break(scope: Scope, receive: Receive, *, reset: bool) -> None:
    transport: Any = scope.get(_TRANSPORT)
    if transport is None:
        raise ConnectionDropped
    if reset:
        # Lingering for zero seconds makes the kernel send RST and not FIN.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
