"""What every request meets first and every answer last: sizes, and the browser's rules."""

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The longest request that `refunds submit` takes in a line; the gateway's events are smaller.
LARGEST_BODY_BYTES = 256 * 1024

# No script or style but our own files, nothing in a frame, no form that leads elsewhere.
_POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:"),
        *("connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
    )
)

_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # A link out of a page must not tell whose refund it was on.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}

# Half a year, as browsers' own lists ask for.
_HTTPS_ONLY = "max-age=15768000"


class Guard:
    """ASGI middleware: bodies of a bounded size, and headers on whatever is answered."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._headers = _HEADERS | ({"Strict-Transport-Security": _HTTPS_ONLY} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = LARGEST_BODY_BYTES
        declared = Headers(scope=scope).get("content-length", "0")

        async def bounded() -> Message:
            nonlocal left
            if declared.isascii() and declared.isdigit() and int(declared) > LARGEST_BODY_BYTES:
                raise _too_large()
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _too_large()
            return message

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                # What a shared computer keeps, the next person reads; our own files are nobody's.
                is_ours = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if is_ours else "no-store")
            await send(message)

        await self._app(scope, bounded, with_headers)


def _too_large() -> HTTPException:
    return HTTPException(413, f"a body has at most {LARGEST_BODY_BYTES:,} bytes here")
