"""The service's doors: who may knock, and what an event is worth."""

import asyncio
import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from prefect.settings import PREFECT_API_URL, temporary_settings
from starlette.testclient import TestClient

from refunds.clock import system_clock
from refunds.ledger import history, migrate, requests, schema, waits
from refunds.ledger.engine import dispose_engines
from refunds.models import Case, PaymentStatus
from refunds.service.app import app
from refunds.settings import settings
from sandbox.process import SandboxProcess
from tasks import books, http, payments
from tests.tasks.tasks_world import PAY, Outside, World, fault

SECRET = "whsec_sandbox"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A sandbox, and one event loop for the steps that come before an event."""
    with (
        SandboxProcess(tmp_path_factory.mktemp("service") / "sandbox") as process,
        httpx.Client(base_url=process.url, timeout=20) as client,
        asyncio.Runner() as runner,
    ):
        yield Outside(process, "", client, runner)
        runner.run(close_connections())


async def close_connections() -> None:
    await http.close()


@pytest.fixture
def world(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The sandbox's gateway and shop, an empty ledger, and nobody at Prefect's address."""
    for system in ("gateway", "crm", "coupons", "logistics", "notices"):
        monkeypatch.setenv(f"REFUNDS_{system.upper()}_URL", f"{outside.process.url}/{system}")
    monkeypatch.setenv("REFUNDS_SHOP_URL", f"sqlite:///{outside.process.shop_database}")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        prefect = f"http://127.0.0.1:{nobody.getsockname()[1]}/api"
        settings.cache_clear()
        books._engine.cache_clear()
        with temporary_settings({PREFECT_API_URL: prefect}):
            migrate(settings().ledger_database_url)
            world = World(outside)
            world.faults()
            yield world
    books._engine.cache_clear()
    dispose_engines()


@pytest.fixture
def service(world: World) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client
        assert client.portal is not None
        client.portal.call(close_connections)


@pytest.fixture
def pending(service: TestClient, world: World) -> tuple[Case, str]:
    """A case whose payment the gateway works on, and the gateway's id of it."""
    case = world.running()
    world.faults(fault(PAY.endpoint, "pending"))
    payment = world.run(payments.issue_refund.fn(case))
    assert payment.status is PaymentStatus.PENDING
    return case, payment.reference


def event_of(case: Case, reference: str, event_id: str = "evt_1", **fields: Any) -> dict[str, Any]:
    """An event as the gateway sends it."""
    about = {
        "id": reference,
        "object": "refund",
        "status": "succeeded",
        "metadata": {"refund_id": case.refund_id, "key": f"{case.refund_id}:issue_refund"},
    }
    return {"id": event_id, "type": "refund.updated", "data": {"object": about | fields}}


def send(
    service: TestClient,
    event: object,
    *,
    secret: str = SECRET,
    age_seconds: int = 0,
    signature: str | None = None,
) -> int:
    """Deliver an event, or raw bytes, as the gateway does; returns the answer's status."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    at = int(system_clock().timestamp()) - age_seconds
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    given = f"t={at},v1={digest}" if signature is None else signature
    headers = {b"Stripe-Signature": given.encode()}
    return service.post("/webhooks/gateway", content=body, headers=headers).status_code


def state_of(world: World, case: Case) -> str:
    return world.effect(f"{case.refund_id}:issue_refund").state


def taken(world: World) -> list[str]:
    """The ids of the events that the ledger remembers."""
    with world.ledger.reading() as connection:
        return list(connection.execute(sa.select(schema.gateway_events.c.event_id)).scalars())


def test_health_says_that_the_ledger_can_be_reached(service: TestClient) -> None:
    answer = service.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_signed_event_settles_a_pending_payment(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    world.settle(reference, "succeeded")
    assert send(service, event_of(case, reference)) == 204
    assert state_of(world, case) == "succeeded"
    history.check(history.read(world.ledger, case.refund_id))


def test_an_event_tells_of_a_payment_that_failed(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    world.settle(reference, "failed", failure_reason="lost_or_stolen_card")
    assert send(service, event_of(case, reference)) == 204
    effect = world.effect(f"{case.refund_id}:issue_refund")
    assert (effect.state, effect.detail) == ("refused", "lost_or_stolen_card")


@pytest.mark.parametrize(
    "how",
    [
        {"secret": "whsec_other"},
        {"age_seconds": 301},
        {"age_seconds": -301},
        {"signature": ""},
        {"signature": "t=,v1="},
        {"signature": "t=\u0661,v1=00"},
        {"signature": "v1=00"},
        {"signature": "t=99999999999999999999,v1=00"},
        {"signature": "t=999999999999,v1=00"},
        {"signature": "t=1,t=2,v1=é"},
    ],
    ids=str,
)
def test_an_event_that_is_not_signed_now_by_the_gateway_changes_nothing(
    service: TestClient, world: World, pending: tuple[Case, str], how: dict[str, Any]
) -> None:
    case, reference = pending
    world.settle(reference, "succeeded")
    assert send(service, event_of(case, reference), **how) == 400
    assert state_of(world, case) == "pending"
    assert taken(world) == []


def test_a_signature_over_another_body_is_refused(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    at = int(system_clock().timestamp())
    digest = hmac.new(SECRET.encode(), f"{at}.{{}}".encode(), hashlib.sha256).hexdigest()
    event = event_of(case, reference)
    assert send(service, event, signature=f"t={at},v1={digest}") == 400
    assert taken(world) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"not json",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"id": 7}',
        b'{"id": "evt_1"',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_signed_body_that_is_no_event_is_refused(
    service: TestClient, world: World, body: bytes
) -> None:
    assert send(service, body) == 400
    assert taken(world) == []


@pytest.mark.parametrize(
    "parts",
    [
        {"data": None},
        {"data": []},
        {"data": {"object": None}},
        {"data": {"object": "refund"}},
        {"data": {"object": {"object": "refund", "id": "re_1", "metadata": ["refund_id"]}}},
        {"data": {"object": {"object": "refund", "id": ["re_1"], "metadata": {"refund_id": "x"}}}},
        {"data": {"object": {"object": "refund", "id": "re_1", "metadata": {"refund_id": 7}}}},
        {"type": {"a": 1}},
        {},
    ],
    ids=str,
)
def test_a_signed_event_of_an_unknown_shape_is_passed_over(
    service: TestClient, world: World, parts: dict[str, Any]
) -> None:
    assert send(service, {"id": "evt_odd", "type": "refund.updated", **parts}) == 204
    assert taken(world) == ["evt_odd"]


def test_a_body_larger_than_any_event_is_refused_unread(service: TestClient, world: World) -> None:
    assert send(service, b"x" * (256 * 1024 + 1)) == 413
    assert taken(world) == []


def test_an_event_that_comes_again_is_taken_once(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    world.settle(reference, "succeeded")
    for _ in range(3):
        assert send(service, event_of(case, reference)) == 204
    assert taken(world) == ["evt_1"]
    events = history.read(world.ledger, case.refund_id)
    assert [e["event"] for e in events].count("effect.succeeded") == 1


def test_an_event_about_a_refund_that_we_do_not_know_is_passed_over(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    foreign = event_of(case, reference, metadata={"refund_id": "rf_of_somebody"})
    assert send(service, foreign) == 204
    assert state_of(world, case) == "pending"


def test_an_event_that_lies_changes_nothing_because_the_gateway_is_asked(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    before = requests.read(world.ledger, case.refund_id)
    assert send(service, event_of(case, reference, status="succeeded")) == 204
    assert state_of(world, case) == "pending"
    assert requests.read(world.ledger, case.refund_id) == before


def test_an_event_about_anothers_payment_does_not_settle_ours(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, _ = pending
    world.faults()
    other = world.running()
    paid = world.run(payments.issue_refund.fn(other))
    assert send(service, event_of(case, paid.reference)) == 204
    assert state_of(world, case) == "pending"


def test_an_event_is_asked_for_again_while_the_gateway_cannot_tell(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    world.settle(reference, "succeeded")
    world.faults(fault("GET /gateway/v1/refunds/{id}", "error_before", status=503))
    assert send(service, event_of(case, reference)) == 503
    assert (state_of(world, case), taken(world)) == ("pending", [])
    assert send(service, event_of(case, reference)) == 204
    assert state_of(world, case) == "succeeded"


def test_an_event_about_a_payment_that_the_gateway_does_not_know_is_remembered_and_harmless(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, _ = pending
    before = requests.read(world.ledger, case.refund_id)
    for reference in ("re_999999", "re_none", "../charges", "a/b?c#d"):
        assert send(service, event_of(case, reference, f"evt_{reference}")) == 204
    assert len(taken(world)) == 4
    assert state_of(world, case) == "pending"
    assert requests.read(world.ledger, case.refund_id) == before


def test_a_payment_that_the_gateway_denied_once_is_settled_by_a_later_event(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    world.settle(reference, "succeeded")
    world.faults(fault("GET /gateway/v1/refunds/{id}", "error_before", status=404))
    assert send(service, event_of(case, reference)) == 204
    assert (state_of(world, case), taken(world)) == ("pending", ["evt_1"])
    assert send(service, event_of(case, reference, "evt_2")) == 204
    assert state_of(world, case) == "succeeded"


def test_the_gateways_word_is_kept_when_prefect_is_away(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    fence = requests.read(world.ledger, case.refund_id)["fence"]
    waits.open_wait(
        world.ledger,
        case.refund_id,
        "settlement-1",
        reason="callback",
        run_id="00000000-0000-0000-0000-000000000001",
        fence=fence,
    )
    world.settle(reference, "succeeded")
    assert send(service, event_of(case, reference)) == 204
    (wait,) = waits.open_waits(world.ledger, case.refund_id)
    assert wait["ended_at"] is not None
    assert state_of(world, case) == "succeeded"


# --- A secret that is being replaced, and events in the wrong order ---


def test_while_a_secret_is_replaced_both_the_old_and_the_new_one_are_taken(
    service: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUNDS_WEBHOOK_SECRET", "whsec_new, whsec_old")
    settings.cache_clear()
    event = {"id": "evt_odd", "type": "refund.updated"}
    assert send(service, event, secret="whsec_old") == 204
    assert send(service, {**event, "id": "evt_2"}, secret="whsec_new") == 204
    for other in ("whsec_sandbox", "", "whsec_new, whsec_old", ","):
        assert send(service, {**event, "id": "evt_3"}, secret=other) == 400
    assert taken(world) == ["evt_2", "evt_odd"]


@pytest.mark.parametrize("secret", ["", " ", ","])
def test_without_a_secret_nothing_is_taken_for_signed(
    service: TestClient, world: World, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("REFUNDS_WEBHOOK_SECRET", secret)
    settings.cache_clear()
    for signed_with in (secret, "", SECRET):
        assert send(service, {"id": "evt_1"}, secret=signed_with) == 400
    assert taken(world) == []


def test_an_older_event_that_comes_late_does_not_undo_what_the_gateway_says_now(
    service: TestClient, world: World, pending: tuple[Case, str]
) -> None:
    case, reference = pending
    world.settle(reference, "succeeded")
    assert send(service, event_of(case, reference, "evt_2", status="succeeded")) == 204
    late = event_of(case, reference, "evt_1", status="pending")
    failed = event_of(case, reference, "evt_0", status="failed")
    assert [send(service, event) for event in (late, failed)] == [204, 204]
    assert state_of(world, case) == "succeeded"
    events = history.read(world.ledger, case.refund_id)
    assert [e["event"] for e in events].count("effect.succeeded") == 1
