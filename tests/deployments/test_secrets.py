"""Planted secrets are found nowhere after a day on which much went wrong."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from sandbox.testing import customer_record, order_record
from tests.browser.stack import Stack, free_ports
from tests.tasks.model_server import ModelServer, Said

# Each is a word that nothing else contains.
PLANTED = {
    "the gateway's key": "sk_test_planted9gateway",
    "the webhook secret": "whsec_planted9webhook",
    "the model's key": "sk-planted9model",
    "the secret of the links": "planted9links",
    "the database's password": "planted9database",
    "the password in an address": "planted9notices",
}

# Long enough for a planted word in base64, short enough to find every pickled result.
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")

_PAGE = 200
_PREFECT = (
    *("flow_runs", "task_runs", "logs", "artifacts", "artifacts/latest", "deployments", "flows"),
    *("work_pools", "block_documents", "block_schemas", "block_types", "variables"),
)


class EchoingGateway:
    """Refuses every payment and repeats in its reason the key it was called with."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200, {"object": "list", "data": [], "has_more": False})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                text = f"{self.headers['Authorization']} may not do this"
                self._say(400, {"error": {"code": "forbidden", "message": text}})

            def _say(self, status: int, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing is written to the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[EchoingGateway]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture(scope="module")
def after_a_bad_day(
    tmp_path_factory: pytest.TempPathFactory, postgresql_url: str
) -> Iterator[tuple[Stack, str]]:
    """A stack with planted secrets, two refunds refused by a talkative gateway, one in need."""
    home = tmp_path_factory.mktemp("secrets") / "home"
    home.mkdir()
    stack = Stack(home, free_ports())
    ledger = make_url(postgresql_url).set(password=PLANTED["the database's password"])
    with EchoingGateway().running() as gateway, ModelServer().running() as server:
        model_key = PLANTED["the model's key"]
        server.behave = lambda _: Said.answer(reasons=[f"I was called with {model_key}."])
        notices = stack.sandbox_url.replace(
            "//", f"//user:{PLANTED['the password in an address']}@"
        )
        stack.environment |= {
            "REFUNDS_LEDGER_URL": ledger.render_as_string(hide_password=False),
            "REFUNDS_GATEWAY_URL": gateway.url,
            "REFUNDS_GATEWAY_KEY": PLANTED["the gateway's key"],
            "REFUNDS_WEBHOOK_SECRET": PLANTED["the webhook secret"],
            "REFUNDS_LINK_SECRET": PLANTED["the secret of the links"],
            "REFUNDS_MODEL_URL": server.url,
            "REFUNDS_MODEL_NAME": "reader-1",
            "REFUNDS_MODEL_KEY": model_key,
            "REFUNDS_NOTICES_URL": f"{notices}/notices",
            # The level at which programs say most.
            "PREFECT_LOGGING_LEVEL": "DEBUG",
        }
        stack.up()
        try:
            _have_a_bad_day(stack)
            yield stack, postgresql_url
        finally:
            stack.down()


def _have_a_bad_day(stack: Stack) -> None:
    orders = [order_record(f"#W{number}", paid_minor=10_000) for number in (1, 2, 3)]
    for kind, records in (("customers", [customer_record()]), ("orders", orders)):
        httpx.post(f"{stack.sandbox_url}/shop/{kind}", json=records).raise_for_status()
    fault = {"kind": "error_before", "status": 400, "match": {"refund_id": "rf_3"}}
    label = {"endpoint": "POST /logistics/v1/labels", **fault}
    busy = {"endpoint": "POST /notices/v1/messages", "kind": "reset_before", "times": 2}
    httpx.put(f"{stack.sandbox_url}/faults", json={"rules": [label, busy]}).raise_for_status()
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
                "refund_to": "card_ada_1",
                "reason": "broken",
            }
            for number in (1, 2, 3)
        ]
    )
    for number in (1, 2, 3):
        stack.until(f"rf_{number}", state="awaiting_approval")
        stack.refunds("decide", f"rf_{number}", "approve", "--as", "lea")
    for number in (1, 2):
        stack.until(f"rf_{number}", state="completed", outcome="FAILED")
    stack.until("rf_3", state="needs_attention")
    signed = {"Stripe-Signature": "t=1,v1=00"}
    webhook = stack.prefect_url.replace(
        stack.prefect_url.rpartition(":")[2], str(int(stack.prefect_url.rpartition(":")[2]) + 1)
    )
    assert httpx.post(f"{webhook}/webhooks/gateway", headers=signed).status_code == 400


def _leaked(content: bytes) -> list[str]:
    """The planted secrets in a content, as they are or in base64."""
    decoded = [content]
    for found in _BASE64.findall(content):
        padded = found.rstrip(b"=") + b"=" * (-len(found.rstrip(b"=")) % 4)
        try:
            decoded.append(base64.b64decode(padded))
        except ValueError:
            continue
    return [
        name for name, word in PLANTED.items() if any(word.encode() in part for part in decoded)
    ]


def test_the_search_finds_what_it_is_for() -> None:
    for name, word in PLANTED.items():
        assert _leaked(f"key={word}.".encode()) == [name]
        assert _leaked(base64.b64encode(f"a pickled {word} in it".encode())) == [name]
    assert _leaked(b"nothing") == []


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_the_ledger_its_histories_or_its_results(
    after_a_bad_day: tuple[Stack, str],
) -> None:
    _, url = after_a_bad_day
    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in names.fetchall()]
        dump = {
            table: connection.execute(
                sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
            ).fetchall()
            for table in tables
        }
    assert len(dump["history"]) > 50
    assert len(dump["results"]) > 10
    assert b"may not do this" in _bytes(dump["effects"])
    assert {t: found for t, rows in dump.items() if (found := _leaked(_bytes(rows)))} == {}


def _bytes(rows: list[tuple[Any, ...]]) -> bytes:
    return b"\n".join(
        cell if isinstance(cell, bytes) else str(cell).encode() for row in rows for cell in row
    )


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_what_prefects_api_tells(after_a_bad_day: tuple[Stack, str]) -> None:
    stack, _ = after_a_bad_day
    told = {name: _all_of(stack, f"{stack.prefect_url}/api/{name}/filter") for name in _PREFECT}
    events = _asked(stack, f"{stack.prefect_url}/api/events/filter", {"limit": 50})
    for name in ("flow_runs", "task_runs", "logs", "artifacts", "block_documents", "work_pools"):
        assert len(told[name]) > 10, name
    assert b"refund-facts" in told["artifacts"]
    told["events"] = events.content
    assert {name: found for name, text in told.items() if (found := _leaked(text))} == {}


def _asked(stack: Stack, url: str, body: dict[str, Any]) -> httpx.Response:
    """Prefect's answer to whoever knows the home's password."""
    person, _, password = (stack.home / "prefect-auth").read_text().strip().partition(":")
    return httpx.post(url, json=body, auth=(person, password), timeout=30).raise_for_status()


def _all_of(stack: Stack, url: str) -> bytes:
    pages: list[bytes] = []
    while True:
        body = {"limit": _PAGE, "offset": len(pages) * _PAGE}
        page = _asked(stack, url, body)
        pages.append(page.content)
        if len(page.json()) < _PAGE:
            return b"\n".join(pages)


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_any_file_of_the_home(after_a_bad_day: tuple[Stack, str]) -> None:
    """Logs, up.json, Prefect's own database and the sandbox's; it needs no file to hold one."""
    stack, _ = after_a_bad_day
    files = [path for path in stack.home.rglob("*") if path.is_file()]
    assert {"up.json", "worker.log", "prefect.db"} <= {path.name for path in files}
    leaks = {str(path.relative_to(stack.home)): _leaked(path.read_bytes()) for path in files}
    assert {name: found for name, found in leaks.items() if found} == {}


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_a_list_of_processes(after_a_bad_day: tuple[Stack, str]) -> None:
    stack, _ = after_a_bad_day
    up = json.loads((stack.home / "up.json").read_text())
    processes = [psutil.Process(up["pid"])]
    processes += processes[0].children(recursive=True)
    assert len(processes) >= 5
    arguments = "\n".join(" ".join(process.cmdline()) for process in processes)
    assert _leaked(arguments.encode()) == []


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_what_commands_print(after_a_bad_day: tuple[Stack, str]) -> None:
    stack, _ = after_a_bad_day
    said = ""
    for words in (
        ("list",),
        *(
            (command, f"rf_{number}", *flag)
            for command in ("show", "history")
            for number in (1, 3)
            for flag in ((), ("--json",))
        ),
    ):
        said += stack.refunds(*words)
    said += _whatever_it_ends_with(stack, "doctor") + _whatever_it_ends_with(stack, "verify")
    assert "reader-1" in said
    assert "needs_attention" in said
    assert _leaked(said.encode()) == []


def _whatever_it_ends_with(stack: Stack, *words: str) -> str:
    done = stack.run(*words)
    assert done.returncode in (0, 1)
    return done.stdout + done.stderr
