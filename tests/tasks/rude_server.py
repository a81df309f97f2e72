"""A web server that answers with whatever bytes it is told to, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

# What it does at a request: bytes are sent one after the other; CLOSE ends the connection, RESET
# breaks it, HANG says nothing more until the other side leaves.
CLOSE, RESET, HANG = "close", "reset", "hang"
Act = bytes | str


@dataclass
class RudeServer:
    """Each request is answered by the next of `script`; the last one stays."""

    script: list[Sequence[Act]]
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    # A connection was ended from this side.
    has_ended_one: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.under_way.add(task)
        try:
            with contextlib.suppress(
                asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
            ):
                await self._converse(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.has_ended_one.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.requests.append(await _request(reader))
            self.was_asked.set()
            acts = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if not await _act(acts, reader, writer):
                return


async def _act(
    acts: Sequence[Act], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Whether the connection goes on."""
    for act in acts:
        if isinstance(act, bytes):
            writer.write(act)
            await writer.drain()
            # Each part comes in by itself.
            await asyncio.sleep(0)
        elif act == RESET:
            # Without lingering the system sends a reset, and no orderly end.
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        elif act == CLOSE:
            return False
        else:
            await reader.read()
            return False
    return True


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return head + await reader.readexactly(int(lines.get(b"content-length", 0)))


@contextlib.asynccontextmanager
async def rude_server(
    *script: Sequence[Act], tls: ssl.SSLContext | None = None
) -> AsyncIterator[RudeServer]:
    """The server, on a port of its own."""
    rude = RudeServer(list(script))
    server = await asyncio.start_server(rude.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    rude.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{port}"
    try:
        yield rude
    finally:
        server.close()
        for task in rude.under_way:
            task.cancel()
        await asyncio.gather(*rude.under_way, return_exceptions=True)
