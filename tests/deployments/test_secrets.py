"""Planted secrets are found nowhere after a day on which much went wrong."""

from __future__ import annotations

import base64
import json
import re
import traceback
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from psycopg import sql
from secrets_world import PLANTED, BadDay, bad_day, conninfo

from refunds.errors import BadInput
from refunds.settings import Settings, settings
from tests.browser.stack import Stack

# Long enough for a planted word in base64, short enough to find every pickled result.
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")

_PAGE = 200
_PREFECT = (
    *("flow_runs", "task_runs", "logs", "artifacts", "artifacts/latest", "deployments", "flows"),
    *("work_pools", "block_documents", "block_schemas", "block_types", "variables"),
)


@pytest.fixture(scope="module")
def after_a_bad_day(
    tmp_path_factory: pytest.TempPathFactory, postgresql_server: str
) -> Iterator[BadDay]:
    with bad_day(tmp_path_factory.mktemp("secrets") / "home", postgresql_server) as day:
        yield day


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
@pytest.mark.parametrize("name", ["ledger_url", "prefect_database_url"])
def test_no_secret_is_in_a_database_its_histories_or_its_results(
    after_a_bad_day: BadDay, name: str
) -> None:
    with psycopg.connect(conninfo(after_a_bad_day.databases[name])) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in names.fetchall()]
        dump = {
            table: connection.execute(
                sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
            ).fetchall()
            for table in tables
        }
    if name == "ledger_url":
        assert len(dump["history"]) > 50
        assert len(dump["results"]) > 10
        assert b"may not do this" in _bytes(dump["effects"])
        assert b"not with" in _bytes(dump["effects"])
    else:
        assert len(dump["log"]) > 50
    assert {t: found for t, rows in dump.items() if (found := _leaked(_bytes(rows)))} == {}


def _bytes(rows: list[tuple[Any, ...]]) -> bytes:
    return b"\n".join(
        cell if isinstance(cell, bytes) else str(cell).encode() for row in rows for cell in row
    )


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_what_prefects_api_tells(after_a_bad_day: BadDay) -> None:
    stack = after_a_bad_day.stack
    told = {name: _all_of(stack, f"{stack.prefect_url}/api/{name}/filter") for name in _PREFECT}
    events = _asked(stack, f"{stack.prefect_url}/api/events/filter", {"limit": 50})
    for name in ("flow_runs", "task_runs", "logs", "artifacts", "block_documents", "work_pools"):
        assert len(told[name]) > 10, name
    assert b"refund-facts" in told["artifacts"]
    told["events"] = events.content
    assert {name: found for name, text in told.items() if (found := _leaked(text))} == {}


def _asked(stack: Stack, url: str, body: dict[str, Any]) -> httpx.Response:
    """Prefect's answer to whoever knows the home's password."""
    auth = ("refunds", PLANTED["prefect_auth"])
    return httpx.post(url, json=body, auth=auth, timeout=30).raise_for_status()


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
def test_no_secret_is_in_any_file_of_the_home(after_a_bad_day: BadDay) -> None:
    """Logs, up.json and the sandbox's database; it needs no file to hold one."""
    stack = after_a_bad_day.stack
    files = [path for path in stack.home.rglob("*") if path.is_file()]
    assert {"up.json", "worker.log", "prefect.log"} <= {path.name for path in files}
    leaks = {str(path.relative_to(stack.home)): _leaked(path.read_bytes()) for path in files}
    assert {name: found for name, found in leaks.items() if found} == {}


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_a_list_of_processes(after_a_bad_day: BadDay) -> None:
    stack = after_a_bad_day.stack
    up = json.loads((stack.home / "up.json").read_text())
    processes = [psutil.Process(up["pid"])]
    processes += processes[0].children(recursive=True)
    assert len(processes) >= 5
    arguments = "\n".join(" ".join(process.cmdline()) for process in processes)
    assert _leaked(arguments.encode()) == []


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_what_commands_print(after_a_bad_day: BadDay) -> None:
    stack = after_a_bad_day.stack
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
    for words in (
        ("doctor",),
        ("verify",),
        ("audit", "export"),
        ("assess", str(stack.home / "requests.jsonl")),
    ):
        said += _whatever_it_ends_with(stack, *words)
    bundle = stack.home / "rf_1.bundle"
    stack.refunds("export", "rf_1", "--out", str(bundle))
    said += bundle.read_text()
    assert "reader-1" in said
    assert "needs_attention" in said
    assert _leaked(said.encode()) == []


def _whatever_it_ends_with(stack: Stack, *words: str) -> str:
    done = stack.run(*words)
    assert done.returncode in (0, 1)
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.postgresql
def test_no_secret_is_in_what_the_services_doors_say(after_a_bad_day: BadDay) -> None:
    assert _leaked(after_a_bad_day.said_at_the_door) == []


@pytest.mark.parametrize("name", [name for name in PLANTED if name in Settings.model_fields])
def test_a_setting_that_is_wrong_is_named_without_what_stands_beside_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"REFUNDS_{name.upper()}", PLANTED[name])
    monkeypatch.setenv("REFUNDS_PORT", "none")
    settings.cache_clear()
    with pytest.raises(BadInput, match=r"REFUNDS_(PORT|NOTICES_CHANNELS)") as wrong:
        settings()
    report = "".join(traceback.format_exception(wrong.value))
    assert _leaked(report.encode()) == []
