"""HTTP to other systems: every ending becomes done, refused, unavailable or unknown."""

import asyncio
import weakref
from typing import Any

import httpx

from refunds.errors import StepRefused, StepUnknown, SystemUnavailable
from refunds.settings import settings
from tasks import secrets

# A system that has not answered in 12 seconds may have acted. Three attempts with the pauses
# between them fit into one lease of 45 seconds.
_TIMEOUT = httpx.Timeout(12.0, connect=5.0, pool=12.0)

# The longest pause a 429 may ask for inside a step, in seconds; longer ones end the attempt and
# become a later one, and in the end a wait that holds no process.
_LONGEST_PAUSE_SECONDS = 2.0

# How often a 429 is obeyed within one attempt.
_PAUSES = 3

_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
    weakref.WeakKeyDictionary()
)

# Nothing reached the other side.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

# Answers that say that nothing was done and that a person or time has to change something.
_NOT_DONE = (
    httpx.codes.UNAUTHORIZED,
    httpx.codes.FORBIDDEN,
    httpx.codes.REQUEST_TIMEOUT,
    httpx.codes.TOO_EARLY,
)


async def call(
    system: str,
    method: str,
    path: str,
    *,
    key: str | None = None,
    json: dict[str, Any] | None = None,
    form: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """One call to a system; returns the JSON object it answered.

    Raises StepRefused (4xx: final), SystemUnavailable (it did nothing) or StepUnknown (it may
    have acted). Details name the status and the system's own error, never what was sent.
    """
    sent_headers = {**(headers or {}), **({"Idempotency-Key": key} if key else {})}
    for _ in range(_PAUSES):
        try:
            response = await _client().request(
                method,
                settings().system_url(system) + path,
                json=json,
                data=form,
                params=params,
                headers=sent_headers,
            )
        except _NOT_SENT as error:
            raise SystemUnavailable(system, f"not reachable ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise StepUnknown(system, f"no answer ({type(error).__name__})") from error
        if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
            return _answer(system, response)
        pause = _retry_after(response)
        if pause > _LONGEST_PAUSE_SECONDS:
            break
        await asyncio.sleep(pause)
    raise SystemUnavailable(system, "it asks to send less (429)")


def _answer(system: str, response: httpx.Response) -> dict[str, Any]:
    status = response.status_code
    if status in _NOT_DONE:
        raise SystemUnavailable(system, f"it does not let us in ({status})")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.CONFLICT:
        raise StepUnknown(system, f"it answered {status}")
    if status >= httpx.codes.BAD_REQUEST:
        raise StepRefused(system, f"it answered {status}: {_error_of(response)}")
    try:
        answer = response.json()
    except ValueError as error:
        raise StepUnknown(system, f"its {status} answer is not JSON") from error
    if not isinstance(answer, dict):
        raise StepUnknown(system, f"its {status} answer is not a JSON object")
    return answer


def _error_of(response: httpx.Response) -> str:
    """The system's own code and message, cut short."""
    try:
        error = response.json().get("error", {})
        said = " ".join(str(error[part]) for part in ("code", "message") if error.get(part))
    except (ValueError, AttributeError, TypeError):
        said = ""
    return secrets.without_secrets(said)[:200] or "no reason given"


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0


def _client() -> httpx.AsyncClient:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = httpx.AsyncClient(timeout=_TIMEOUT)
    return _clients[loop]
