"""One Prefect server, one sandbox and one service for all tests of the flows."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import stack_roles
from deployments.setup import set_up
from deployments.stack_environment import PROJECT, client_environment, server_environment
from flows import waiting
from refunds.ledger import schema
from refunds.ledger.engine import dispose_engines
from refunds.settings import Settings, settings
from sandbox.process import SandboxProcess
from tasks import books, coupons, crm, logistics, notices, payments
from tasks import http as tasks_http
from tests.flows.flows_world import World, policy_file
from tests.house.patience import until


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The stack without a worker; the environment of whoever works with it."""
    home = tmp_path_factory.mktemp("flows") / "refunds"
    port = _first_of_three_ports()
    ours = {
        "REFUNDS_HOME": str(home),
        "REFUNDS_PORT": str(port),
        # What several tests leave woken is no burst: each run goes on for itself.
        "REFUNDS_BURST_FROM": "1000",
    }
    given = {**os.environ, **ours, "PREFECT_SERVER_UI_ENABLED": "false"}
    where = Settings(home=home, port=port)
    client = client_environment(where, given) | {"PYTHONPATH": str(PROJECT)}
    home.mkdir(parents=True)
    webhook = f"{where.service_url}/webhooks/gateway"
    with ExitStack() as running:
        prefect = [sys.executable, "-m", *stack_roles.prefect(where).command]
        running.enter_context(_process(prefect, server_environment(where, given)))
        running.enter_context(
            SandboxProcess(home / "sandbox", port=port + 2, extra=("--webhook-url", webhook))
        )
        service = [sys.executable, "-m", "uvicorn", "refunds.service.app:app"]
        running.enter_context(_process([*service, "--port", str(port + 1)], client))
        _until_answers(f"{where.prefect_url}/api/health")
        asyncio.run(set_up(where))
        _until_answers(f"{where.service_url}/health")
        yield client
        dispose_engines()


@pytest.fixture
async def world(
    stack: dict[str, str], anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """This process as a laptop that works with the stack."""
    for name in ("REFUNDS_HOME", "REFUNDS_PORT", "REFUNDS_LEDGER_URL", "REFUNDS_BURST_FROM"):
        if name in stack:
            monkeypatch.setenv(name, stack[name])
    settings.cache_clear()
    books._engine.cache_clear()
    # The quick retries are quicker; what they do is what is tested.
    for task in (
        *(payments.issue_refund, crm.sync_crm, coupons.issue_coupon, logistics.hold_shipment),
        *(logistics.create_return_label, notices.notify_customer),
    ):
        monkeypatch.setattr(task, "retry_delay_seconds", [0.05] * 4)
    # So are looks whether a run was woken.
    monkeypatch.setattr(waiting, "_LOOK_SECONDS", 0.2)
    with (
        temporary_settings({PREFECT_API_URL: stack["PREFECT_API_URL"]}),
        httpx.Client(base_url=settings().sandbox_url, timeout=20) as sandbox,
    ):
        world = World(sandbox, stack)
        world.faults()
        # What one test's faults made of a system is not the next one's outage.
        with world.ledger.writing() as connection:
            connection.execute(schema.outages.delete())
        yield world
        await world.close()
        policy_file().unlink(missing_ok=True)
        await tasks_http.close()
    books._engine.cache_clear()


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _until_answers(url: str) -> None:
    def answers() -> bool:
        try:
            return httpx.get(url).is_success
        except httpx.TransportError:
            return False

    until(answers, f"{url} answers")


def _first_of_three_ports() -> int:
    """The ports of Prefect, the service and the sandbox follow each other."""
    while True:
        with ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                for number in (port + 1, port + 2):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except (OSError, OverflowError):
                continue
            return port
