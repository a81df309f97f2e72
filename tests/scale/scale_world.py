"""All of compose.yaml on loopback: two Prefect servers behind nginx, two workers, the service."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import make_url

from refunds.ledger import Ledger, batches, open_ledger, requests
from refunds.ledger.access import api_keys
from refunds.ledger.engine import dispose_engines
from refunds.scopes import Scope
from sandbox.process import SandboxProcess
from sandbox.testing import customer_record, order_record
from tests.house import services
from tests.house.patience import until
from tests.scale.composed import Composed, answers

# Clear of the ports that `refunds up` and other tests use, and of ephemeral ones.
_FIRST_PORT = 6800
_ROLES = ("prefect-1", "prefect-2", "prefect-proxy", "service", "service-proxy", "redis")

# The policy asks a person above it, in minor units.
_FOR_A_PERSON_MINOR = 150_000


_AUTH = ("operator", "secret")


@dataclass
class World:
    """What the test sees of the running whole."""

    composed: Composed
    sandbox: httpx.Client
    ledger: Ledger
    shop: httpx.Client
    ann: httpx.Client
    prefect: httpx.Client

    # --- Asking ---

    def request(self, refund_id: str, *, for_a_person: bool = False) -> dict[str, Any]:
        """A request about a new order, which the shop knows from now on."""
        amount = _FOR_A_PERSON_MINOR if for_a_person else 10_000
        customer, order_id = f"customer_{refund_id}", f"#{refund_id}"
        paid = {"type": "payment", "amount_minor": amount, "payment_method_id": f"card_{customer}"}
        order = order_record(order_id, paid_minor=amount, customer_id=customer, payments=[paid])
        for kind, record in (("customers", customer_record(customer)), ("orders", order)):
            self.sandbox.post(f"/shop/{kind}", json=[record]).raise_for_status()
        return {
            "refund_id": refund_id,
            "kind": "return",
            "order_id": order_id,
            "customer_id": customer,
            "item_ids": ["i1"],
            "amount_minor": amount,
            "currency": "USD",
            "refund_to": f"card_{customer}",
            "reason": "no longer needed",
            "requested_by": "sam",
        }

    def submit(self, *refund_ids: str, for_a_person: bool = False) -> None:
        """Hand requests in at the service's door, one by one."""
        for refund_id in refund_ids:
            body = self.request(refund_id, for_a_person=for_a_person)
            self.shop.post("/refunds", json=body).raise_for_status()

    def submit_together(self, *refund_ids: str) -> None:
        """Hand a file in, as a batch."""
        lines = "\n".join(json.dumps(self.request(refund_id)) for refund_id in refund_ids)
        path = self.composed.home / "requests.jsonl"
        path.write_text(lines)
        self.refunds("submit", str(path))

    def approve(self, refund_id: str) -> None:
        """Decide through the service, as Ann."""
        digest = self.shop.get(f"/refunds/{refund_id}").raise_for_status().json()["approval"]
        body = {"decision": "approve", "digest": digest["digest"], "reason": "It is broken."}
        self.ann.post(f"/refunds/{refund_id}/decisions", json=body).raise_for_status()

    def refunds(self, *words: str) -> str:
        """`refunds …` on a machine of its own; it has to succeed."""
        done = subprocess.run(
            ["refunds", *words],
            env=self.composed.environment("service", "operator"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop_workers(self) -> None:
        for name in self.composed.running("worker"):
            self.composed.stop(name)

    def change_to_stock_workers(self) -> None:
        """As docs/scaling.md has it: no worker runs, delete the pool, set up, start others."""
        self.prefect.delete("/work_pools/refunds").raise_for_status()
        self.composed.done("setup", REFUNDS_WORKER_TYPE="process")
        command = ("prefect", "worker", "start", "--pool", "refunds", "--limit", "8")
        self.composed.start_instead("worker", "worker-stock", *command)

    def hold_answer(self, refund_id: str) -> None:
        """The gateway pays this one and its answer does not come."""
        rule = {
            "endpoint": "POST /gateway/v1/refunds",
            "kind": "timeout_after",
            "times": 1,
            "match": {"refund_id": refund_id},
        }
        self.sandbox.put("/faults", json={"rules": [rule]}).raise_for_status()

    # --- Looking ---

    def row(self, refund_id: str) -> dict[str, Any]:
        return requests.read(self.ledger, refund_id)

    def until_all(self, refund_ids: tuple[str, ...], **wanted: Any) -> None:
        """Wait until every refund's row says so."""

        def so() -> bool:
            rows = map(self.row, refund_ids)
            return all(row[name] == value for row in rows for name, value in wanted.items())

        until(so, f"{refund_ids} have {wanted}")

    def payments(self) -> list[str]:
        """The keys under which the gateway paid, each as often as it did."""
        return [act["key"] for act in self.acts() if act["kind"] == "create_refund"]

    def acts(self) -> list[dict[str, Any]]:
        """Everything that the outside world did."""
        listed = self.sandbox.get("/effects", params={"limit": 1_000}).raise_for_status().json()
        return list(listed["effects"])

    def worker_of(self, refund_id: str) -> str:
        """The worker whose child carries the batch that a refund is in."""
        # run@host:pid:born
        holder = batches.read(self.ledger, self.row(refund_id)["batch_id"]).lease_holder or ""
        return self.composed.starter_of(int(holder.rsplit(":", 2)[1]))


@contextlib.contextmanager
def scaled_out(home: Path, postgresql: str) -> Iterator[World]:
    """Start everything in the order that compose.yaml says; stop it afterwards."""
    nginx, _ = services.program("nginx"), services.program("redis-server")
    port = dict(zip(_ROLES, _free_ports(), strict=False))
    with ExitStack() as running:
        running.callback(dispose_engines)
        ledger, prefect = (
            make_url(running.enter_context(services.fresh_database(postgresql))) for _ in range(2)
        )
        here = {name: f"http://127.0.0.1:{number}" for name, number in port.items()}
        sandbox = running.enter_context(
            SandboxProcess(
                home / "sandbox",
                extra=("--webhook-url", f"{here['service-proxy']}/webhooks/gateway"),
            )
        )
        composed = Composed(home, _addresses(port, ledger, prefect), _variables(sandbox, here))
        running.callback(composed.close)
        _start(composed, port, here, nginx)
        books = open_ledger(ledger.render_as_string(hide_password=False))
        yield World(
            composed,
            running.enter_context(httpx.Client(base_url=sandbox.url, timeout=20)),
            books,
            running.enter_context(_client(here["service-proxy"], _shop_key(books))),
            running.enter_context(_client(here["service-proxy"], _ann_key(books))),
            running.enter_context(
                httpx.Client(base_url=f"{here['prefect-proxy']}/api", auth=_AUTH, timeout=60)
            ),
        )


def _start(composed: Composed, port: dict[str, int], here: dict[str, str], nginx: str) -> None:
    composed.start("redis", "redis", "--port", str(port["redis"]), "--dir", str(composed.home))
    composed.done("migrate")
    composed.start("prefect-1", PREFECT_SERVER_API_PORT=str(port["prefect-1"]))
    composed.start_proxy(nginx)
    until(lambda: answers(f"{here['prefect-1']}/api/health"), "prefect-1 is healthy")
    composed.start("prefect-2", PREFECT_SERVER_API_PORT=str(port["prefect-2"]))
    composed.start("prefect-services")
    composed.done("setup")
    composed.start("worker", "worker-1")
    composed.start("worker", "worker-2")
    composed.start("service")
    until(lambda: answers(f"{here['prefect-2']}/api/health"), "prefect-2 is healthy")
    until(lambda: answers(f"{here['service-proxy']}/health"), "the service is healthy")
    until(lambda: _workers_online(here["prefect-proxy"]) == 2, "two workers have reported")


def _workers_online(prefect: str) -> int:
    url = f"{prefect}/api/work_pools/refunds/workers/filter"
    wanted = {"workers": {"status": {"any_": ["ONLINE"]}}}
    return len(httpx.post(url, json=wanted, auth=_AUTH).raise_for_status().json())


def _addresses(port: dict[str, int], ledger: Any, prefect: Any) -> dict[str, str]:
    """What stands in the file, and what it is here; replaced in this order."""

    def place(url: Any) -> str:
        found: str = url.render_as_string(hide_password=False).partition("://")[2]
        return found

    return {
        "refunds:secret@postgres:5432/prefect": place(prefect),
        "refunds:secret@postgres:5432/ledger": place(ledger),
        "redis:6379": f"127.0.0.1:{port['redis']}",
        "resolver 127.0.0.11 valid=5s;": "",
        "prefect-1:4200": f"127.0.0.1:{port['prefect-1']}",
        "prefect-2:4200": f"127.0.0.1:{port['prefect-2']}",
        "proxy:4200": f"127.0.0.1:{port['prefect-proxy']}",
        "listen 4200": f"listen 127.0.0.1:{port['prefect-proxy']}",
        "listen 8080": f"listen 127.0.0.1:{port['service-proxy']}",
        "service:8000": f"127.0.0.1:{port['service']}",
        "8000": str(port["service"]),
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced, not listened on
    }


def _variables(sandbox: SandboxProcess, here: dict[str, str]) -> dict[str, str]:
    """What .env would hold."""
    systems = ("gateway", "crm", "coupons", "logistics", "notices")
    return {
        "POSTGRES_PASSWORD": "secret",
        "PREFECT_AUTH": ":".join(_AUTH),
        "LINK_SECRET": "for links",
        "SERVICE_SECRET": "for cookies",
        "PUBLIC_URL": here["service-proxy"],
        "PREFECT_PUBLIC_URL": here["prefect-proxy"],
        "SHOP_URL": f"sqlite:///{sandbox.shop_database}",
        "GATEWAY_KEY": "sk_test_sandbox",
        "WEBHOOK_SECRET": "whsec_sandbox",
        **{f"{system.upper()}_URL": f"{sandbox.url}/{system}" for system in systems},
    }


def _client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def _shop_key(ledger: Ledger) -> str:
    return api_keys.create(ledger, "shop", [Scope.WRITE, Scope.READ])


def _ann_key(ledger: Ledger) -> str:
    return api_keys.create(ledger, "ann", [Scope.DECIDE], person_id="ann")


def _free_ports() -> Iterator[int]:
    for port in itertools.count(_FIRST_PORT):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                yield port
