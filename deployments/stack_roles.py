"""The processes of the embedded stack: what each runs, and when it is ready."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.stack_environment import SYSTEMS, client_environment, server_environment
from refunds.names import WORK_POOL
from refunds.settings import Settings

# SQLite has one writer: beyond four runs at once they mostly wait for each other.
_SQLITE_RUN_LIMIT = 4
# PostgreSQL was 45 % faster with more at once; each run holds 60 MB.
_POSTGRESQL_RUN_LIMIT = 8

WORKER_NAME = "embedded"


@dataclass(frozen=True, kw_only=True)
class Role:
    """One process of the stack: a module with its arguments, run by `deployments.child`."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    # Answers below 500 once the process is ready; empty where readiness is not an address.
    health_url: str = ""
    ready_seconds: float
    stop_seconds: float
    # How long it goes on after its supervisor was killed.
    linger_seconds: float = 0.0


# Others still report to these while they end: longer than a worker needs to hand back.
_SERVER_LINGER_SECONDS = 3.0


def prefect(settings: Settings) -> Role:
    """The Prefect server with its UI."""
    return Role(
        name="prefect",
        command=(
            *("deployments.prefect_server", "server", "start", "--host", "127.0.0.1"),
            *("--port", str(settings.port)),
        ),
        environment=server_environment(settings, os.environ),
        health_url=f"{settings.prefect_url}/api/health",
        # 10 to 15 s on two idle cores; an old home's database is migrated first.
        ready_seconds=180.0,
        # It flushes events and closes its database in about two.
        stop_seconds=10.0,
        linger_seconds=_SERVER_LINGER_SECONDS,
    )


def sandbox(settings: Settings) -> Role:
    """The outside world in a box."""
    # It signs with the newest.
    secret = settings.webhook_secret.get_secret_value().partition(",")[0].strip()
    return Role(
        name="sandbox",
        command=(
            *("sandbox", "--home", str(settings.home_dir / "sandbox")),
            *("--port", str(settings.port + 2)),
            *("--webhook-url", f"http://127.0.0.1:{settings.port + 1}/webhooks/gateway"),
        ),
        # Every user of the machine may read a process's arguments; only we its environment.
        environment={
            **client_environment(settings, os.environ),
            "SANDBOX_WEBHOOK_SECRET": secret,
        },
        health_url=f"{settings.sandbox_url}/health",
        # It takes half a second; a loaded machine may need a hundred times that.
        ready_seconds=60.0,
        # One second for held connections, and two databases to close.
        stop_seconds=5.0,
        linger_seconds=_SERVER_LINGER_SECONDS,
    )


def service(settings: Settings) -> Role:
    """The HTTP entry, the approval pages and the webhooks."""
    return Role(
        name="service",
        command=(
            *("uvicorn", "refunds.service.app:app", "--host", "127.0.0.1"),
            *("--port", str(settings.port + 1)),
            # Of a system's addresses asyncio tries the next one soon; uvloop waits for the first.
            *("--loop", "asyncio"),
            # Paths carry refund ids, and a health check every second fills a disk.
            "--no-access-log",
            # Nobody stands before it here, so nobody may say for whom a request is.
            *("--no-proxy-headers", "--no-server-header"),
            # A page is served in milliseconds; longer is a connection that is only held.
            *("--timeout-graceful-shutdown", "2"),
        ),
        environment=client_environment(settings, os.environ),
        health_url=f"http://127.0.0.1:{settings.port + 1}/health",
        # It imports Prefect, which takes 2 s.
        ready_seconds=60.0,
        stop_seconds=5.0,
        linger_seconds=_SERVER_LINGER_SECONDS,
    )


def set_up(settings: Settings) -> Role:
    """Ledger, blocks, pool and deployments; runs to its end while the server starts."""
    return Role(
        name="setup",
        command=("deployments.setup",),
        environment=client_environment(settings, os.environ),
        # The server's start, and a large ledger's migration beside it.
        ready_seconds=240.0,
        stop_seconds=5.0,
    )


def worker(settings: Settings, pool_type: str) -> Role:
    """The worker that fits the pool."""
    on_sqlite = not settings.prefect_database_url.get_secret_value()
    limit = _SQLITE_RUN_LIMIT if on_sqlite else _POSTGRESQL_RUN_LIMIT
    warm = pool_type == "warm-process"
    program = ("deployments.warm_worker",) if warm else ("prefect", "worker", "start")
    return Role(
        name="worker",
        command=(
            *program,
            *("--pool", WORK_POOL, "--name", WORKER_NAME, "--limit", str(limit)),
        ),
        environment=client_environment(settings, os.environ),
        # It imports Prefect and asks for its pool: 4 s on an idle machine.
        ready_seconds=60.0,
        # Its drain takes 20 s, stopping what is left 5 s, reporting 4 s.
        stop_seconds=35.0,
    )


def sample(settings: Settings, *, load: bool, until_idle: bool) -> Role:
    """Loads and submits the sample and shows where everything stands."""
    flags = [name for name, wanted in (("--load", load), ("--until-idle", until_idle)) if wanted]
    return Role(
        name="sample",
        command=("deployments.stack_sample", *flags),
        environment={
            # It shares the terminal with its own table; a user's wish for more comes first.
            "PREFECT_LOGGING_LEVEL": "WARNING",
            **client_environment(settings, os.environ),
        },
        ready_seconds=0.0,
        # It has nothing to put down.
        stop_seconds=3.0,
    )


def needs_sandbox(settings: Settings) -> bool:
    """Whether any system, or the shop's database, is the sandbox's."""
    reached = {system: getattr(settings, f"{system}_url") for system in SYSTEMS}
    # A model is asked only where one is named, and Apprise's channels have addresses of their own.
    del reached["model"]
    if settings.notices_adapter == "apprise":
        del reached["notices"]
    has_shop = settings.shop_block or settings.shop_url.get_secret_value()
    return settings.is_sandbox_model or not (all(reached.values()) and has_shop)
