"""HTTP to other systems: every ending becomes done, refused, unavailable or unknown."""

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode
from urllib.request import getproxies, proxy_bypass

import httpx
import orjson

from refunds.clock import system_clock
from refunds.errors import StepFailed, StepRefused, StepUnknown, SystemBusy, SystemUnavailable
from refunds.settings import settings
from tasks import limits, secrets
from tasks.lean_transport import LeanTransport

# A system that has not answered in 12 seconds may have acted. Three attempts with the pauses
# between them fit into one lease of 45 seconds.
_TIMEOUT = httpx.Timeout(12.0, connect=5.0, pool=12.0)

# More at once to one system is for `REFUNDS_LIMITS` to say; what is kept open costs a file each.
_POOL = httpx.Limits(max_connections=100, max_keepalive_connections=64)

# The longest pause a 429 may ask for inside a step, in seconds; longer ones end the attempt and
# become a later one, and in the end a wait that holds no process.
_LONGEST_PAUSE_SECONDS = 2.0

# How often a 429 is obeyed within one attempt.
_PAUSES = 3

# One pool a system and loop: a slow CRM cannot use up the gateway's connections.
_pools: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[str, httpx.AsyncBaseTransport]
] = weakref.WeakKeyDictionary()

# Nothing reached the other side.
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)

# Answers that say that nothing was done and that a person or time has to change something.
_NOT_DONE = frozenset(
    {
        httpx.codes.UNAUTHORIZED,
        httpx.codes.FORBIDDEN,
        httpx.codes.PROXY_AUTHENTICATION_REQUIRED,
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_EARLY,
    }
)

# What a 4xx answer means to one system; the default is a refusal for good.
Refusal = Callable[[int, Any], StepFailed]


async def call(
    system: str,
    method: str,
    path: str,
    *,
    key: str | None = None,
    key_header: str = "Idempotency-Key",
    json: Any = None,
    form: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    refusal: Refusal | None = None,
    absent: tuple[int, ...] = (),
    any_body: bool = False,
) -> dict[str, Any]:
    """One call to a system; returns the JSON object it answered.

    A status in `absent` says that what was asked for is not there: an empty object. With
    `any_body` a 2xx is enough, and what is not a JSON object counts as an empty one.

    Raises StepRefused (4xx: final), SystemUnavailable (it did nothing) or StepUnknown (it may
    have acted), or what `refusal` makes of a 4xx. Details name the status and the system's own
    error, never what was sent.
    """
    content, kind = _content(json, form)
    sent_headers = {
        "Accept": "application/json",
        **({"Content-Type": kind} if kind else {}),
        **({key_header: key} if key else {}),
        **(headers or {}),
    }
    url = _url(settings().system_url(system), path, urlencode(params or {}, quote_via=quote))
    pause = 0.0
    for _ in range(_PAUSES):
        request = httpx.Request(
            method,
            url,
            headers=sent_headers,
            content=content,
            extensions={"timeout": _TIMEOUT.as_dict()},
        )
        async with limits.turn(system):
            status, headers_back, body = await _sent(system, request)
        if status != httpx.codes.TOO_MANY_REQUESTS:
            if status in absent:
                return {}
            return _answer(system, status, body, refusal, any_body=any_body)
        pause = _retry_after(headers_back)
        if pause > _LONGEST_PAUSE_SECONDS:
            break
        await asyncio.sleep(pause)
    raise SystemBusy(system, "it asks to send less (429)", pause)


def not_in_its_words(system: str, status: int) -> SystemUnavailable:
    """A 4xx that the system itself would not have put like this: a proxy's, or a wrong address."""
    return SystemUnavailable(
        system, f"the {status} is not in its own words; is REFUNDS_{system.upper()}_URL right?"
    )


def in_short(said: str) -> str:
    """What a system says of an error, cut short and without what we may have sent it."""
    return secrets.without_secrets(said)[:200] or "no reason given"


async def close() -> None:
    """Close this loop's connections."""
    await limits.close()
    for pool in _pools.pop(asyncio.get_running_loop(), {}).values():
        await pool.aclose()


async def _sent(system: str, request: httpx.Request) -> tuple[int, httpx.Headers, bytes]:
    """One exchange. The pool is called without a client around it.

    A client's cookies, redirects and default headers cost a third of a call and are not wanted:
    a redirected payment or another refund's cookie would only be trouble.
    """
    try:
        response = await _pool(system, request.url).handle_async_request(request)
        try:
            response.request = request
            return response.status_code, response.headers, await response.aread()
        finally:
            await response.aclose()
    except _NOT_SENT as error:
        raise SystemUnavailable(system, f"not reachable ({type(error).__name__})") from error
    except httpx.HTTPError as error:
        raise StepUnknown(system, f"no answer ({type(error).__name__})") from error


def _answer(
    system: str, status: int, body: bytes, refusal: Refusal | None, *, any_body: bool
) -> dict[str, Any]:
    if status in _NOT_DONE:
        raise SystemUnavailable(system, f"it does not let us in ({status})")
    is_redirect = httpx.codes.MULTIPLE_CHOICES <= status < httpx.codes.BAD_REQUEST
    if is_redirect or status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.CONFLICT:
        raise StepUnknown(system, f"it answered {status}")
    try:
        # An answer without a body (204) is an empty object.
        answer = orjson.loads(body) if body else {}
    except ValueError:
        answer = None
    if status >= httpx.codes.BAD_REQUEST:
        raise (refusal or _refused(system))(status, answer)
    if any_body:
        return answer if isinstance(answer, dict) else {}
    if not isinstance(answer, dict):
        raise StepUnknown(system, f"its {status} answer is not a JSON object")
    return answer


def _refused(system: str) -> Refusal:
    """A refusal, with the system's own code and message."""

    def refusal(status: int, answer: Any) -> StepFailed:
        error = answer.get("error") if isinstance(answer, dict) else None
        parts = error if isinstance(error, dict) else {}
        said = " ".join(str(parts[part]) for part in ("code", "message") if parts.get(part))
        return StepRefused(system, f"it answered {status}: {in_short(said)}")

    return refusal


def _content(json: Any, form: dict[str, str] | None) -> tuple[bytes | None, str]:
    if json is not None:
        return orjson.dumps(json), "application/json"
    if form is not None:
        return urlencode(form).encode(), "application/x-www-form-urlencoded"
    return None, ""


@lru_cache(maxsize=64)
def _base(address: str) -> httpx.URL:
    return httpx.URL(address)


def _url(address: str, path: str, query: str) -> httpx.URL:
    """The base's own path and query stay; parsing an address anew costs as much as sending it."""
    base = _base(address)
    target = base.raw_path.rstrip(b"/") + path.encode() if path else base.raw_path
    return base.copy_with(raw_path=target + (f"?{query}".encode() if query else b""))


def _retry_after(headers: httpx.Headers) -> float:
    """In seconds; a system may name them, or the time of day."""
    said = headers.get("Retry-After", "1")
    with suppress(ValueError):
        return max(0.0, float(said))
    with suppress(ValueError):
        return max(0.0, (parsedate_to_datetime(said) - system_clock()).total_seconds())
    return 1.0


def _pool(system: str, url: httpx.URL) -> httpx.AsyncBaseTransport:
    """The system's connections; through a proxy they are httpx's own."""
    pools = _pools.setdefault(asyncio.get_running_loop(), {})
    name = f"{system} {url.scheme}://{url.netloc.decode()}"
    if name not in pools:
        proxy = None if proxy_bypass(url.host) else getproxies().get(url.scheme)
        pools[name] = (
            httpx.AsyncHTTPTransport(limits=_POOL, proxy=proxy) if proxy else LeanTransport(_POOL)
        )
    return pools[name]
