"""A day on which every secret is planted and every system that is told one repeats it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
from sqlalchemy import make_url

from refunds.settings import Settings
from sandbox.process import SandboxProcess
from tests.browser.stack import Stack, free_ports
from tests.house import services
from tests.tasks.model_server import ModelServer, Said

# Every setting that is a secret, be it a new one: each a word that nothing else contains.
PLANTED = {
    name: f"planted9{name.replace('_', '')}9"
    for name, field in Settings.model_fields.items()
    if "SecretStr" in str(field.annotation)
} | {name: f"planted9{name.replace(' ', '')}9" for name in ("an address", "a path", "a channel")}


class Talkative:
    """Gateway, CRM, voucher service, messenger and sign-in in one: no, and what it was told."""

    def __init__(self) -> None:
        # How often the messenger still fails.
        self.deaf = 2
        talkative = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(*talkative.shows(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                told = f"{self.headers['Authorization']} {body}"
                self._say(*talkative.takes(self.path, body, told))

            def _say(self, status: int, content: Any) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing is written to the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def shows(self, path: str) -> tuple[int, Any]:
        """What it answers who only looks."""
        if path.startswith("/id/"):
            pages = {
                "authorization_endpoint": "door",
                "token_endpoint": "token",
                "jwks_uri": "keys",
            }
            return 200, {"issuer": self.url} | {k: f"{self.url}/id/{v}" for k, v in pages.items()}
        if path.startswith("/api/v2/"):
            return 200, {"tickets": []}
        return 200, {"object": "list", "data": [], "has_more": False}

    def takes(self, path: str, body: str, told: str) -> tuple[int, Any]:
        """What it answers who wants something."""
        if path.startswith("/notices"):
            self.deaf -= 1
            return (500, told) if self.deaf >= 0 else (200, "taken")
        if path.startswith("/id/"):
            return 400, {"error": "invalid_client", "error_description": f"not with {told}"}
        if path.startswith("/api/v2/"):
            refused = {"error": "RecordInvalid", "description": f"not with {told}"}
            return (422, refused) if "rf_1:" in body else (201, {"ticket": {"id": 1}})
        return 400, {"error": {"code": "forbidden", "message": f"{told} may not do this"}}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[Talkative]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


# A shop with names of its own, in a database that asks for a password.
_SHOP = """
CREATE TABLE sale (nr TEXT, st TEXT, who TEXT);
CREATE TABLE line (sale TEXT, sku TEXT, title TEXT, cents INTEGER);
CREATE TABLE paid (sale TEXT, way TEXT, cents INTEGER, card TEXT, charge TEXT);
CREATE TABLE card (id TEXT, kind TEXT, who TEXT);
INSERT INTO card VALUES ('card_1', 'credit_card', 'ada_1');
"""
_SHOP_MAPPING = """
amounts = "minor"
[orders]
table = "sale"
[orders.columns]
order_id = "nr"
customer_id = "who"
status = "st"
currency = { value = "USD" }
[items]
table = "line"
found_by = "sale"
columns = { item_id = "sku", name = "title", price = "cents" }
[payments]
table = "paid"
found_by = "sale"
columns = { type = "way", amount = "cents", payment_method_id = "card", charge_id = "charge" }
[payment_methods]
table = "card"
found_by = "who"
columns = { payment_method_id = "id", source = "kind" }
"""
_SYSTEMS_MAPPING = """
[coupons]
make = { path = "/vouchers", body = { ref = "{key}" }, id = "code" }
undo = { path = "/vouchers/{id}/void" }
[holds]
make = { path = "/v1/holds", body = { refund_id = "{refund_id}" }, id = "hold_id" }
undo = { path = "/v1/holds/{id}/release" }
[labels]
undo = { path = "/v1/labels/{id}/cancel" }
[labels.make]
path = "/v1/labels"
id = "label_id"
[labels.make.body]
refund_id = "{refund_id}"
order_id = "{order_id}"
item_ids = "{item_ids}"
reference = "{key}"
"""


@dataclass(frozen=True)
class BadDay:
    """What is left of it: the stack, its databases by name, and what the service's doors said."""

    stack: Stack
    databases: dict[str, str]
    said_at_the_door: bytes


def _with_password(url: str, name: str) -> str:
    return make_url(url).set(password=PLANTED[name]).render_as_string(hide_password=False)


def _planted_settings(
    databases: dict[str, str], world: Talkative, sandbox: SandboxProcess, home: Path
) -> dict[str, str]:
    """Every secret in the form that it has, and all that brings it into use."""
    in_form = {
        **{name: _with_password(url, name) for name, url in databases.items()},
        "prefect_auth": f"refunds:{PLANTED['prefect_auth']}",
        "gateway_key": f"sk_test_{PLANTED['gateway_key']}",
        "webhook_secret": f"whsec_{PLANTED['webhook_secret']}",
        "crm_key": f"bot@shop.example/token:{PLANTED['crm_key']}",
        "notices_channels": json.dumps(
            dict.fromkeys(
                ("customer", "service", "approver", "operations"),
                world.url.replace("http://", f"json://bot:{PLANTED['notices_channels']}@")
                + f"/notices/{PLANTED['a channel']}",
            )
        ),
    }
    secrets = {name: word for name, word in PLANTED.items() if name in Settings.model_fields}
    logistics = sandbox.url.replace("//", f"//bot:{PLANTED['an address']}@")
    others = {
        "gateway_url": world.url,
        "crm_url": world.url,
        "crm_adapter": "zendesk",
        "coupons_url": f"{world.url}/{PLANTED['a path']}",
        "coupons_adapter": "mapped",
        "logistics_url": f"{logistics}/logistics",
        "logistics_adapter": "mapped",
        "notices_adapter": "apprise",
        "oidc_issuer": f"{world.url}/id",
        "oidc_client_id": "r",
        "systems_mapping": str(home / "systems.toml"),
        "shop_mapping": str(home / "shop.toml"),
    }
    return {f"REFUNDS_{k.upper()}": v for k, v in (secrets | in_form | others).items()}


@contextmanager
def bad_day(home: Path, postgresql_server: str) -> Iterator[BadDay]:
    """A stack with every secret planted, and refunds that four talkative systems refused."""
    home.mkdir()
    stack = Stack(home, free_ports())
    with ExitStack() as held:
        databases = {
            name: held.enter_context(services.fresh_database(postgresql_server))
            for name in ("ledger_url", "shop_url", "prefect_database_url")
        }
        world = held.enter_context(Talkative().running())
        # No system is left to the stack, which then starts none.
        sandbox = held.enter_context(SandboxProcess(home / "sandbox"))
        server = held.enter_context(ModelServer().running())
        model_key = PLANTED["model_key"]
        server.behave = lambda _: Said.answer(reasons=[f"I was called with {model_key}."])
        (home / "shop.toml").write_text(_SHOP_MAPPING)
        (home / "systems.toml").write_text(_SYSTEMS_MAPPING)
        _fill_shop(databases["shop_url"])
        stack.environment |= {
            **_planted_settings(databases, world, sandbox, home),
            "REFUNDS_MODEL_URL": server.url,
            "REFUNDS_MODEL_NAME": "reader-1",
            # The level at which programs say most.
            "PREFECT_LOGGING_LEVEL": "DEBUG",
        }
        stack.up()
        try:
            _have_a_bad_day(stack, sandbox)
            yield BadDay(stack, databases, _knock(stack))
        finally:
            stack.down()


def conninfo(url: str) -> str:
    """The address as psycopg takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _fill_shop(url: str) -> None:
    with psycopg.connect(conninfo(url)) as shop:
        for statement in filter(str.strip, _SHOP.split(";")):
            shop.execute(statement.encode())
        for n in _NUMBERS:
            shop.execute("INSERT INTO sale VALUES (%s, 'delivered', 'ada_1')", (f"#W{n}",))
            shop.execute("INSERT INTO line VALUES (%s, 'i1', 'A lamp', 10000)", (f"#W{n}",))
            shop.execute(
                "INSERT INTO paid VALUES (%s, 'payment', 10000, 'card_1', %s)",
                (f"#W{n}", f"ch_{n}"),
            )


_NUMBERS = (1, 2, 3, 4)


def _have_a_bad_day(stack: Stack, sandbox: SandboxProcess) -> None:
    fault = {"kind": "error_before", "status": 400, "match": {"refund_id": "rf_3"}}
    label = {"endpoint": "POST /logistics/v1/labels", **fault}
    httpx.put(f"{sandbox.url}/faults", json={"rules": [label]}).raise_for_status()
    stack.submit(
        [
            {
                "refund_id": f"rf_{number}",
                "kind": "return",
                "order_id": f"#W{number}",
                "customer_id": "ada_1",
                "item_ids": ["i1"],
                "amount_minor": 10_000 - number,
                "currency": "USD",
                "refund_to": "card_1",
                "reason": "broken",
                "goodwill_minor": 500 if number == 4 else 0,
            }
            for number in _NUMBERS
        ]
    )
    for number in _NUMBERS:
        stack.until(f"rf_{number}", state="awaiting_approval")
        stack.refunds("decide", f"rf_{number}", "approve", "--as", "lea")
    # Refused by the CRM, by the gateway, by the warehouse, by the voucher service.
    stack.until("rf_2", state="completed", outcome="FAILED")
    for number in (1, 3, 4):
        stack.until(f"rf_{number}", state="needs_attention")


def _knock(stack: Stack) -> bytes:
    """What the service says to strangers, and to one whom the company's sign-in sends away."""
    signed = {"Stripe-Signature": "t=1,v1=00"}
    with httpx.Client(base_url=stack.service_url, follow_redirects=False) as door:
        refused = door.post("/webhooks/gateway", headers=signed)
        assert refused.status_code == 400
        sent = door.get("/sign-in/company")
        state = parse_qs(urlsplit(sent.headers["Location"]).query)["state"][0]
        back = door.get("/sign-in/company/back", params={"code": "c", "state": state})
        assert b"not with" in back.content
        others = [door.get(path) for path in ("/health", "/metrics", "/inbox", "/openapi.json")]
    return b"\n".join(answer.content for answer in (refused, sent, back, *others))
