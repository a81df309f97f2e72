"""The real process: broken connections, crashes, and webhooks that arrive in the end."""

import hashlib
import hmac
import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.process import SandboxProcess
from sandbox.testing import AUTHORIZATION, customer_record, order_record, until

REFUNDS = "POST /gateway/v1/refunds"
SECRET = "whsec_test"


class Receiver:
    """Takes webhooks, or refuses them with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[str, bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.headers["Stripe-Signature"], body))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                del arguments

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.received]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def hooked(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SandboxProcess]:
    monkeypatch.setenv("SANDBOX_WEBHOOK_SECRET", SECRET)
    extra = ("--webhook-url", receiver.url)
    with SandboxProcess(tmp_path / "hooked", extra=extra) as process:
        load(process)
        yield process


def load(process: SandboxProcess) -> None:
    for path, record in (("customers", customer_record()), ("orders", order_record())):
        httpx.post(f"{process.url}/shop/{path}", json=[record]).raise_for_status()


def refund(process: SandboxProcess, key: str = "k", *, timeout: float = 10) -> httpx.Response:
    return httpx.post(
        f"{process.url}/gateway/v1/refunds",
        data={"charge": "ch_W1", "amount": "400", "metadata[refund_id]": "rf_1"},
        headers=AUTHORIZATION | {"Idempotency-Key": key},
        timeout=timeout,
    )


def faults(process: SandboxProcess, *rules: dict[str, Any]) -> None:
    httpx.put(f"{process.url}/faults", json={"rules": list(rules)}).raise_for_status()


def effects(process: SandboxProcess) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = httpx.get(f"{process.url}/effects").json()["effects"]
    return listed


def test_a_reset_before_the_act_is_seen_as_a_broken_connection(process: SandboxProcess) -> None:
    load(process)
    faults(process, {"endpoint": REFUNDS, "kind": "reset_before", "times": 1})
    with pytest.raises(httpx.ReadError):
        refund(process)
    assert effects(process) == []


def test_a_reset_after_the_act_cuts_the_answer_off(process: SandboxProcess) -> None:
    load(process)
    faults(process, {"endpoint": REFUNDS, "kind": "reset_after", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        refund(process)
    assert refund(process).headers["Idempotent-Replayed"] == "true"
    assert len(effects(process)) == 1


def test_a_client_that_gives_up_waiting_has_been_acted_for(process: SandboxProcess) -> None:
    load(process)
    faults(process, {"endpoint": REFUNDS, "kind": "timeout_after", "times": 1})
    with pytest.raises(httpx.ReadTimeout):
        refund(process, timeout=0.3)
    assert refund(process).headers["Idempotent-Replayed"] == "true"


def test_a_held_connection_is_closed_in_the_end(process: SandboxProcess) -> None:
    load(process)
    rule = {"endpoint": REFUNDS, "kind": "timeout_after", "seconds": 0.1}
    faults(process, rule)
    with pytest.raises(httpx.RemoteProtocolError):
        refund(process)


def test_everything_is_there_after_a_kill(process: SandboxProcess) -> None:
    load(process)
    faults(
        process,
        {"endpoint": REFUNDS, "kind": "pending", "times": 2, "settle_after_seconds": 0.5},
        {"endpoint": "*", "kind": "rate_limited", "match": {"refund_id": "rf_9"}, "times": 3},
    )
    first = refund(process).json()
    assert first["status"] == "pending"
    seen = effects(process)
    process.kill()
    process.start()
    assert effects(process) == seen
    [pending, limited] = httpx.get(f"{process.url}/faults").json()["rules"]
    assert (pending["remaining"], limited["remaining"]) == (1, 3)
    again = refund(process)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first
    path = f"{process.url}/gateway/v1/refunds/{first['id']}"
    until(lambda: httpx.get(path, headers=AUTHORIZATION).json()["status"] == "succeeded")


def test_the_shop_database_is_read_by_others_while_the_sandbox_runs(
    process: SandboxProcess,
) -> None:
    load(process)
    connection = sqlite3.connect(f"file:{process.shop_database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT spent_minor FROM risk_features").fetchall()
    finally:
        connection.close()
    assert rows == [(10_000,)]


def test_a_stop_is_clean_even_while_a_connection_is_held(process: SandboxProcess) -> None:
    load(process)
    faults(process, {"endpoint": REFUNDS, "kind": "timeout_after", "times": 1})
    errors: list[Exception] = []

    def wait_in_vain() -> None:
        try:
            refund(process)
        except httpx.HTTPError as problem:
            errors.append(problem)

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    until(lambda: len(effects(process)) == 1)
    assert process.stop() == 0
    waiting.join()
    assert len(errors) == 1


def test_two_sandboxes_cannot_share_a_home(process: SandboxProcess) -> None:
    with pytest.raises(RuntimeError, match="status 2"):
        SandboxProcess(process.home).start()
    assert httpx.get(f"{process.url}/health").json() == {"status": "ok"}


def test_a_port_in_use_is_bad_input(process: SandboxProcess, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="status 2"):
        SandboxProcess(tmp_path / "other", port=process.port).start()


def test_webhooks_are_signed_over_time_and_body(hooked: SandboxProcess, receiver: Receiver) -> None:
    made = refund(hooked).json()
    until(lambda: len(receiver.received) == 2)
    assert sorted(receiver.types()) == ["charge.refunded", "refund.created"]
    for signature, body in receiver.received:
        at, given = (part.split("=")[1] for part in signature.split(","))
        expected = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        assert given == expected
        event = json.loads(body)
        fetched = httpx.get(
            f"{hooked.url}/gateway/v1/events/{event['id']}", headers=AUTHORIZATION
        ).json()
        assert fetched == event
        if event["type"] == "refund.created":
            assert event["data"]["object"] == made
            assert event["request"]["idempotency_key"] == "k"


def test_webhooks_are_sent_until_they_are_taken_even_over_a_kill(
    hooked: SandboxProcess, receiver: Receiver
) -> None:
    receiver.status = 500
    refund(hooked)
    until(lambda: len(receiver.received) >= 3)
    hooked.kill()
    receiver.status = 200
    receiver.received.clear()
    hooked.start()
    until(lambda: set(receiver.types()) == {"charge.refunded", "refund.created"})


def test_webhooks_can_be_dropped_doubled_and_overtaken(
    hooked: SandboxProcess, receiver: Receiver
) -> None:
    dropped = {"kind": "webhook_drop", "match": {"event_type": "charge.refunded"}}
    doubled = {"kind": "webhook_duplicate", "match": {"event_type": "refund.failed"}}
    overtaken = {"kind": "webhook_reorder", "match": {"event_type": "refund.created"}}
    faults(hooked, *({"endpoint": "webhook"} | rule for rule in (dropped, doubled, overtaken)))
    made = refund(hooked).json()
    httpx.put(f"{hooked.url}/gateway/settle", json={"refund": made["id"], "status": "failed"})
    until(lambda: len(receiver.received) == 4)
    assert receiver.types()[-1] == "refund.created"
    assert sorted(receiver.types()[:-1]) == ["refund.failed", "refund.failed", "refund.updated"]
