"""httpx's transport for plain calls of an API, at a fifth of what its own costs.

A pool of HTTP/1.1 connections over asyncio, with httptools for the parsing. A request is sent
once: a kept connection that breaks under it ends in an error, since the other side may have
acted. An answer is read whole and bounded. What it does not do (a request whose body is a stream,
HEAD, other protocols) goes through httpx's own transport; a proxy needs that one from the start.

Timeouts are httpx's by phase, but for one: `read` bounds the whole answer and not each part of
it, so that a system that sends a byte a second holds nobody for longer than it may.
"""

import asyncio
import ssl
import time
import zlib
from collections import defaultdict
from typing import Any

import httpx

from tasks.lean_connection import LONGEST_BODY, Answer, Connection, Headers

# What RFC 8305 recommends to wait for an address before the next one is tried as well, in seconds.
_NEXT_ADDRESS_SECONDS = 0.25

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

# What would end a line of the head early.
_BREAKS = (b"\r", b"\n", b"\0")

_PACKED_HEADER = b"content-encoding"

_Origin = tuple[bytes, str, int]


class LeanTransport(httpx.AsyncBaseTransport):
    """For one event loop; `limits` and `extensions["timeout"]` are meant as in httpx."""

    def __init__(self, limits: httpx.Limits) -> None:
        """Nothing is connected yet."""
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.max_connections or 1_000)
        # The last one used goes first, so that the others may close.
        self._idle: dict[_Origin, list[tuple[float, Connection]]] = defaultdict(list)
        self._idle_count = 0
        self._tls: ssl.SSLContext | None = None
        self._httpx: httpx.AsyncHTTPTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request once. Raises httpx's transport errors."""
        origin = _origin(request)
        if origin is None:
            return await self._own().handle_async_request(request)
        sent = _written(request)
        seconds = _Seconds(request)
        await self._take_turn(seconds.pool)
        try:
            connection = self._kept(origin) or await self._connected(origin, seconds.connect)
            answer = await connection.exchange(sent, seconds.write, seconds.read)
            self._keep(origin, connection)
        finally:
            self._turns.release()
        headers, body = _unpacked(answer)
        return httpx.Response(answer.status, headers=headers, content=body)

    async def aclose(self) -> None:
        """Close every connection that is not in use."""
        for kept in self._idle.values():
            for _, connection in kept:
                connection.abort()
        self._idle.clear()
        self._idle_count = 0
        if self._httpx is not None:
            await self._httpx.aclose()

    async def _take_turn(self, pool_seconds: float) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(pool_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("every connection is in use") from error

    def _kept(self, origin: _Origin) -> Connection | None:
        """An idle connection that is still good."""
        kept = self._idle[origin]
        while kept:
            expires_at, connection = kept.pop()
            self._idle_count -= 1
            if time.monotonic() < expires_at and not connection.is_stale():
                return connection
            connection.abort()
        return None

    def _keep(self, origin: _Origin, connection: Connection) -> None:
        most = self._limits.max_keepalive_connections
        if not connection.is_reusable or (most is not None and self._idle_count >= most):
            connection.abort()
            return
        expiry = self._limits.keepalive_expiry
        expires_at = time.monotonic() + expiry if expiry is not None else float("inf")
        self._idle[origin].append((expires_at, connection))
        self._idle_count += 1

    async def _connected(self, origin: _Origin, connect_seconds: float) -> Connection:
        scheme, host, port = origin
        tls = self._tls_context() if scheme == b"https" else None
        options: dict[str, Any] = {"ssl": tls, "server_hostname": host if tls else None}
        loop = asyncio.get_running_loop()
        if isinstance(loop, asyncio.BaseEventLoop):
            # uvloop tries one address after the other.
            options["happy_eyeballs_delay"] = _NEXT_ADDRESS_SECONDS
        connection: Connection
        try:
            async with asyncio.timeout(connect_seconds):
                _, connection = await loop.create_connection(Connection, host, port, **options)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"{host} does not let us connect") from error
        except (OSError, ValueError) as error:
            raise httpx.ConnectError(str(error)) from error
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _own(self) -> httpx.AsyncHTTPTransport:
        if self._httpx is None:
            self._httpx = httpx.AsyncHTTPTransport(limits=self._limits)
        return self._httpx


class _Seconds:
    """How long each phase may take; None is for ever."""

    def __init__(self, request: httpx.Request) -> None:
        given = request.extensions.get("timeout", {})
        self.connect, self.pool, self.read, self.write = (
            float("inf") if given.get(phase) is None else float(given[phase])
            for phase in ("connect", "pool", "read", "write")
        )


def _origin(request: httpx.Request) -> _Origin | None:
    """Where a request goes; None for one that is not sent from here."""
    url, is_whole = request.url, isinstance(request.stream, httpx.ByteStream)
    if request.method not in _METHODS or not is_whole or "upgrade" in request.headers:
        return None
    scheme = url.raw_scheme
    if scheme not in (b"http", b"https") or not url.host:
        return None
    # A name with other letters than ASCII's goes out as the registries know it.
    host = url.raw_host.decode("ascii").strip("[]")
    return scheme, host, url.port or (443 if scheme == b"https" else 80)


def _written(request: httpx.Request) -> bytes:
    """The request as it is sent. Raises httpx.LocalProtocolError; nothing was sent then."""
    target = request.url.raw_path
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), target)]
    lines += [b"%b: %b" % (name, value) for name, value in request.headers.raw]
    if any(mark in line for line in lines for mark in _BREAKS) or b" " in target:
        raise httpx.LocalProtocolError("a header holds what would end it early")
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.content


def _unpacked(answer: Answer) -> tuple[Headers, bytes]:
    """The headers and the body, unpacked as far as we take a body. Raises httpx.DecodingError."""
    packed = [
        value.strip().lower() for name, value in answer.headers if name.lower() == _PACKED_HEADER
    ]
    if packed in ([], [b"identity"]) or not answer.body:
        return answer.headers, answer.body
    if packed not in ([b"gzip"], [b"x-gzip"], [b"deflate"]):
        raise httpx.DecodingError("the answer is packed in a way that nobody asked for")
    # What is called deflate comes with zlib's two bytes before it or without; gzip has its own.
    is_raw = packed == [b"deflate"] and answer.body[0] & 0x0F != zlib.DEFLATED
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
    try:
        body = unpacking.decompress(answer.body, LONGEST_BODY)
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
    if not unpacking.eof:
        raise httpx.DecodingError("the packed answer is cut off, or has no end")
    return [pair for pair in answer.headers if pair[0].lower() != _PACKED_HEADER], body
