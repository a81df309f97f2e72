"""Two API servers, services apart, two workers and a proxy: one of each kind may die."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from refunds.api import AsyncRefunds
from refunds.ledger.engine import dispose_engines
from refunds.settings import settings
from refunds.verify import verify
from sandbox.process import SandboxProcess
from sandbox.testing import customer_record, order_record
from tasks import books
from tests.house import services
from tests.scale.composed import Composed, answers, until

pytestmark = [pytest.mark.postgresql, pytest.mark.redis, pytest.mark.slow]

_AUTH = "operator:for-this-test"
# Enough that some are under way whenever something is killed.
_REFUNDS = 24


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def private_redis(home: Path) -> Iterator[str]:
    """A Redis of this test's own: what Prefect puts there is nobody else's business."""
    services.redis()  # left out where there is none
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server program: install Redis's own package")
    [port] = free_ports(1)
    home.mkdir()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home)]
    process = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def composed(
    postgresql_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    """Everything up, as compose.yaml has it."""
    if shutil.which("nginx") is None:
        pytest.skip("no nginx: install it to test the proxied set-up")
    home = tmp_path_factory.mktemp("scale")
    with ExitStack() as stack:
        prefect = make_url(stack.enter_context(services.fresh_database(postgresql_server)))
        ledger = make_url(stack.enter_context(services.fresh_database(postgresql_server)))
        redis = stack.enter_context(private_redis(home / "redis"))
        one, two, door, api, service = free_ports(5)
        webhook = f"http://127.0.0.1:{door}/webhooks/gateway"
        sandbox = stack.enter_context(
            SandboxProcess(home / "sandbox", extra=("--webhook-url", webhook))
        )
        addresses = {
            "refunds:none@postgres:5432/prefect": _place(prefect),
            "refunds:none@postgres:5432/ledger": _place(ledger),
            "redis:6379": redis,
            "prefect-1:4200": f"127.0.0.1:{one}",
            "prefect-2:4200": f"127.0.0.1:{two}",
            "proxy:4200": f"127.0.0.1:{api}",
            "service:8000": f"127.0.0.1:{service}",
            "listen 4200": f"listen 127.0.0.1:{api}",
            "listen 8080": f"listen 127.0.0.1:{door}",
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - it is what is taken out
            "8000": str(service),
        }
        variables = {
            "PREFECT_AUTH": _AUTH,
            "POSTGRES_PASSWORD": "none",
            "SHOP_URL": f"sqlite:///{sandbox.shop_database}",
            "GATEWAY_KEY": "sk_test_sandbox",
            "WEBHOOK_SECRET": "whsec_sandbox",
            "PUBLIC_URL": f"http://127.0.0.1:{door}",
            **{
                f"{system.upper()}_URL": f"{sandbox.url}/{system}"
                for system in ("gateway", "crm", "coupons", "logistics", "notices")
            },
        }
        found = Composed(home, addresses, variables)
        stack.callback(found.close)
        found.done("migrate")
        found.start("prefect-services")
        found.start_proxy()
        for name, port in (("prefect-1", one), ("prefect-2", two)):
            found.start(name, PREFECT_SERVER_API_PORT=str(port))
            until(partial(answers, f"http://127.0.0.1:{port}/api/health"), f"{name} answers")
        until(partial(answers, f"http://127.0.0.1:{api}/api/health"), "the proxy answers")
        found.done("setup")
        found.start("worker", "worker-1")
        found.start("worker", "worker-2")
        found.start("service")
        until(partial(answers, f"http://127.0.0.1:{door}/health"), "the service answers")
        yield found


@pytest.fixture
def refunds(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> Iterator[AsyncRefunds]:
    """This process as one more client of it."""
    for name, value in composed.environment("service", "client").items():
        if name.startswith(("REFUNDS_", "PREFECT_")):
            monkeypatch.setenv(name, value)
    settings.cache_clear()
    books._engine.cache_clear()
    yield AsyncRefunds()
    dispose_engines()
    books._engine.cache_clear()


def test_refunds_go_on_through_the_death_of_a_server_and_of_a_worker(
    composed: Composed, refunds: AsyncRefunds
) -> None:
    sandbox_url = composed.variables["CRM_URL"].removesuffix("/crm")
    requests = [_request(number, sandbox_url) for number in range(_REFUNDS)]
    taken = asyncio.run(refunds.submit(requests))
    assert len(taken) == _REFUNDS

    until(lambda: _in_state(refunds, "completed") >= 3, "some are through")
    composed.kill("worker-1")
    composed.kill("prefect-1")
    until(
        lambda: _in_state(refunds, "completed", "awaiting_approval") == _REFUNDS,
        "all are through, or wait for a person",
    )
    waiting = [r["refund_id"] for r in asyncio.run(refunds.list("awaiting_approval"))]
    assert waiting == [r["refund_id"] for r in requests if r["amount_minor"] > 100_000]
    for refund_id in waiting:
        asyncio.run(refunds.decide(refund_id, "approve", person="lea"))
    until(lambda: _in_state(refunds, "completed") == _REFUNDS, "what was approved is paid")

    report = asyncio.run(verify())
    assert report.problems == []
    assert {r["outcome"] for r in asyncio.run(refunds.list())} == {"PAID"}
    acts = httpx.get(f"{sandbox_url}/effects", params={"limit": 1_000}).json()["effects"]
    doubled = [key for key, times in Counter(act["key"] for act in acts).items() if times > 1]
    assert doubled == []


def _in_state(refunds: AsyncRefunds, *states: str) -> int:
    counts = asyncio.run(refunds.counts())
    return sum(counts.get(state, 0) for state in states)


def _request(number: int, sandbox_url: str) -> dict[str, Any]:
    """A request about an order that the shop knows; every eighth needs a person."""
    amount_minor = 200_000 if number % 8 == 0 else 5_000
    customer = f"ada_{number}"
    paid = {
        "type": "payment",
        "amount_minor": amount_minor,
        "payment_method_id": f"card_{customer}",
    }
    order = order_record(
        f"#S{number}", paid_minor=amount_minor, customer_id=customer, payments=[paid]
    )
    for kind, record in (("customers", customer_record(customer)), ("orders", order)):
        httpx.post(f"{sandbox_url}/shop/{kind}", json=[record]).raise_for_status()
    return {
        "refund_id": f"rf_scale_{number:03}",
        "kind": "return",
        "order_id": f"#S{number}",
        "customer_id": customer,
        "item_ids": ["i1"],
        "amount_minor": amount_minor,
        "currency": "USD",
        "refund_to": f"card_{customer}",
        "reason": "too small",
        "requested_by": "sam",
    }


def _place(url: Any) -> str:
    """user:password@host:port/name of a database."""
    return str(url.render_as_string(hide_password=False).partition("://")[2])
