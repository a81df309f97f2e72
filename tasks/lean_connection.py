"""One HTTP/1.1 connection: a request is written, and its whole answer is waited for.

What went wrong is said in httpx's errors, by whether the request can have been sent.
"""

import asyncio
import select
from dataclasses import dataclass, field
from typing import cast

import httptools
import httpx

# What a system says of one call fits into a few kilobytes, and a page of a hundred refunds into
# some hundred; what goes on for longer is no answer to us. In bytes.
LONGEST_BODY = 16 * 1024 * 1024
LONGEST_HEAD = 64 * 1024

Headers = list[tuple[bytes, bytes]]

_CONTINUES = range(100, 200)


@dataclass
class Answer:
    """A response as it came in, its body not yet unpacked."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `is_reusable` says whether it can carry another."""

    def __init__(self) -> None:
        """Not connected yet."""
        self.is_reusable = False
        self._waiting: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._parts: list[bytes] = []
        self._body_bytes = self._head_bytes = 0
        self._is_head_over = self._has_length = False

    async def exchange(self, request: bytes, write_seconds: float, read_seconds: float) -> Answer:
        """Send a request and return the whole answer.

        The seconds are for taking the request off our hands, and from then for all of the answer.
        Raises httpx.WriteTimeout, ReadTimeout, ReadError or RemoteProtocolError: from here on
        nobody knows whether the other side acted.
        """
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Answer] = loop.create_future()
        self._begin(waiting)
        self._transport.write(request)
        try:
            if self._unsent():
                await self._taken(write_seconds)
            self._timer = loop.call_later(read_seconds, self._fail, httpx.ReadTimeout("no answer"))
            return await waiting
        except BaseException:
            # Whatever still comes in belongs to nobody.
            self.abort()
            raise
        finally:
            self._waiting = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def is_stale(self) -> bool:
        """Whether the other side has closed it, or has said something without being asked."""
        if not self.is_reusable or self._transport.is_closing():
            return True
        waits = select.poll()
        waits.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waits.poll(0))

    def abort(self) -> None:
        """Close it at once."""
        self.is_reusable = False
        self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        # asyncio's own promise; uvloop's is of another class.
        self._transport = cast("asyncio.Transport", transport)
        # A request that is not off our hands is one that may have gone out in part.
        self._transport.set_write_buffer_limits(high=0)
        self.is_reusable = True

    def pause_writing(self) -> None:
        """The other side is slow to take the request."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """It has taken it."""
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        """Let the parser call what is below."""
        if self._waiting is None:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(httpx.RemoteProtocolError("it wants to speak another protocol"))
        except httptools.HttpParserError as error:
            self._fail(httpx.RemoteProtocolError(f"no HTTP answer: {type(error).__name__}"))
        else:
            if not self._is_head_over:
                self._head_bytes += len(data)
                if self._head_bytes > LONGEST_HEAD:
                    self._fail(httpx.RemoteProtocolError("the answer's head has no end"))

    def eof_received(self) -> None:
        """The end of an answer that says of itself that it ends with the connection."""
        if self._is_head_over and not self._has_length:
            self._end(is_reusable=False)

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed."""
        self.is_reusable = False
        if error is not None:
            self._fail(httpx.ReadError(f"the connection broke: {type(error).__name__}"))
        else:
            self._fail(httpx.RemoteProtocolError("the connection was closed before the answer"))

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head; what follows the body is left out."""
        if self._is_head_over:
            return
        self._answer.headers.append((name, value))
        field_name = name.lower()
        if field_name == b"content-length":
            self._has_length = True
        elif field_name == b"transfer-encoding":
            self._has_length = True
            if value.strip().lower() != b"chunked":
                self._fail(httpx.RemoteProtocolError("an unknown transfer encoding"))

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._answer.status = self._parser.get_status_code()
        self._is_head_over = self._answer.status not in _CONTINUES

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._parts.append(part)
        self._body_bytes += len(part)
        if self._body_bytes > LONGEST_BODY:
            self._fail(httpx.RemoteProtocolError("the answer has no end"))

    def on_message_complete(self) -> None:
        """All of it is here, unless it only said that it goes on."""
        if self._is_head_over:
            self._end(is_reusable=self._parser.should_keep_alive())
        else:
            self._answer = Answer()

    def on_message_begin(self) -> None:
        """A second answer to one request is nobody's."""
        if self._waiting is not None and self._waiting.done():
            self.abort()

    def _begin(self, waiting: asyncio.Future[Answer]) -> None:
        self._waiting, self.is_reusable = waiting, False
        self._parser = httptools.HttpResponseParser(self)
        self._answer, self._parts = Answer(), []
        self._body_bytes = self._head_bytes = 0
        self._is_head_over = self._has_length = False

    def _end(self, *, is_reusable: bool) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._answer.body = b"".join(self._parts)
            # It may answer before it has taken all of the request.
            self.is_reusable = is_reusable and not self._unsent()
            self._may_write.set()
            self._waiting.set_result(self._answer)

    def _fail(self, error: httpx.TransportError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._may_write.set()
            self._waiting.set_exception(error)

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    async def _taken(self, write_seconds: float) -> None:
        try:
            async with asyncio.timeout(write_seconds):
                await self._may_write.wait()
        except TimeoutError as error:
            raise httpx.WriteTimeout("the request was not taken") from error
