"""When a process of the stack is ready: asked of the process itself, for a bounded time."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime

import httpx

from deployments.stack_home import BAD_INPUT, Home, StackFailed
from deployments.stack_processes import Child
from deployments.stack_roles import WORKER_NAME
from refunds.names import WORK_POOL
from refunds.settings import Settings

# There is no way to be told; ten questions a second are not noticed by either side.
_ASK_SECONDS = 0.1
# A process that listens and does not answer within this is not ready.
_ANSWER_SECONDS = 5.0
# From here on an answer says that the process itself cannot answer.
_SERVER_ERROR = 500


def new_client(settings: Settings) -> httpx.AsyncClient:
    """For requests to this machine only: no proxy, and what the Prefect API asks for."""
    user, _, password = settings.embedded_auth_string.partition(":")
    auth = httpx.BasicAuth(user, password) if user else None
    return httpx.AsyncClient(trust_env=False, timeout=_ANSWER_SECONDS, auth=auth)


async def is_healthy(child: Child, client: httpx.AsyncClient) -> bool:
    """Whether the process answers at its address."""
    return (await client.get(child.role.health_url)).status_code < _SERVER_ERROR


async def worker_reports(settings: Settings, client: httpx.AsyncClient, since: datetime) -> bool:
    """Whether the worker has reported to its pool after `since`."""
    url = f"{settings.prefect_url}/api/work_pools/{WORK_POOL}/workers/filter"
    wanted = {"workers": {"status": {"any_": ["ONLINE"]}}, "limit": 200, "offset": 0}
    answer = await client.post(url, json=wanted)
    answer.raise_for_status()
    return any(
        worker["name"] == WORKER_NAME
        and datetime.fromisoformat(worker["last_heartbeat_time"]) > since
        for worker in answer.json()
    )


async def pool_type(settings: Settings, client: httpx.AsyncClient) -> str:
    """The type of the work pool, which says what worker serves it."""
    answer = await client.get(f"{settings.prefect_url}/api/work_pools/{WORK_POOL}")
    answer.raise_for_status()
    return str(answer.json()["type"])


async def until(child: Child, is_ready: Callable[[], Awaitable[bool]], home: Home) -> None:
    """Wait until the child is ready.

    Raises:
        StackFailed: it has ended, or takes longer than its role allows; with its log.
    """
    role = child.role
    deadline = asyncio.get_running_loop().time() + role.ready_seconds
    while not child.ended.done():
        try:
            if await is_ready():
                return
        except httpx.HTTPError as error:
            problem = f": {error}"
        else:
            problem = ""
        if asyncio.get_running_loop().time() > deadline:
            sentence = f"{role.name} is not ready after {role.ready_seconds:.0f} s{problem}"
            raise StackFailed(with_log(child, home, sentence))
        await asyncio.wait((child.ended,), timeout=_ASK_SECONDS)
    sentence = f"{role.name} ended with status {child.ended.result()} before it was ready"
    raise StackFailed(with_log(child, home, sentence))


async def until_done(child: Child, home: Home) -> None:
    """Wait until the child has done its work and ended.

    Raises:
        StackFailed: it failed, or takes longer than its role allows; with its log.
    """
    await asyncio.wait((child.ended,), timeout=child.role.ready_seconds)
    if not child.ended.done():
        sentence = f"{child.role.name} is not done after {child.role.ready_seconds:.0f} s"
        raise StackFailed(with_log(child, home, sentence))
    if child.ended.result() != 0:
        sentence = f"{child.role.name} failed with status {child.ended.result()}"
        raise StackFailed(with_log(child, home, sentence))


def with_log(child: Child, home: Home, sentence: str) -> str:
    """The sentence, where to read more, and the end of that."""
    tail = home.log_tail(child.role.name, child.log_start)
    return f"{sentence}; see {home.log(child.role.name)}\n{tail}".rstrip()


def refuse_taken_ports(settings: Settings, roles: dict[str, int]) -> None:
    """Make sure that nobody else listens where our processes will; `roles` has the ports.

    Raises:
        StackFailed: somebody does.
    """
    for role, port in roles.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise StackFailed(
                    f"port {port}, which {role} needs, is taken by another program "
                    f"({error.strerror}); end that or set REFUNDS_PORT "
                    f"(now {settings.port}) to another number",
                    BAD_INPUT,
                ) from error
