"""A worker begins the template that its pool needed the last time, before it knows better."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import pytest

from deployments import anticipated
from deployments.template import Template, TemplateOrder
from deployments.templates import Templates

pytestmark = pytest.mark.anyio

POOL = "a/pool of ours"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("OF_THE_WORKER", "before")
    return tmp_path


def an_order(**environment: str) -> TemplateOrder:
    given = {**os.environ, **environment}
    return TemplateOrder(("json",), tuple(sorted(given.items())), str(Path.cwd()))


def _kept_in(home: Path) -> Path:
    [kept] = [path for path in home.rglob("*") if path.is_file()]
    return kept


def _begun() -> Template:
    found = anticipated.begin(POOL)
    assert found is not None
    return found


@pytest.mark.usefixtures("home")
async def test_what_was_begun_is_used_when_it_is_what_the_pool_says() -> None:
    order = an_order(REFUNDS_OF_THE_POOL="yes")
    anticipated.keep(POOL, order)
    begun = _begun()
    templates = Templates(begun)
    try:
        assert await templates.get(order) is begun
        assert psutil.Process(begun.pid).environ()["REFUNDS_OF_THE_POOL"] == "yes"
    finally:
        await templates.close()


@pytest.mark.usefixtures("home")
async def test_it_is_ended_when_the_pool_says_something_else() -> None:
    anticipated.keep(POOL, an_order(REFUNDS_OF_THE_POOL="then"))
    begun = _begun()
    templates = Templates(begun)
    try:
        other = await templates.get(an_order(REFUNDS_OF_THE_POOL="now"))
        assert other.pid != begun.pid
        assert not psutil.pid_exists(begun.pid)
        assert psutil.Process(other.pid).environ()["REFUNDS_OF_THE_POOL"] == "now"
    finally:
        await templates.close()


@pytest.mark.usefixtures("home")
async def test_it_is_ended_with_a_worker_that_never_came_to_need_it() -> None:
    anticipated.keep(POOL, an_order())
    begun = _begun()
    await Templates(begun).close()
    assert not psutil.pid_exists(begun.pid)


async def test_the_workers_own_environment_is_that_of_today(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_PASSWORD", "of the worker's own environment")
    anticipated.keep(POOL, an_order(PREFECT_OF_THE_PROFILE="yes"))
    kept = _kept_in(home)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "of the worker's own" not in kept.read_text()
    monkeypatch.setenv("OF_THE_WORKER", "after")
    begun = _begun()
    assert begun.order == an_order(PREFECT_OF_THE_PROFILE="yes")
    await begun.abandon()


@pytest.mark.parametrize(
    "name", ["TOKEN", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_DATABASE_CONNECTION_URL"]
)
def test_what_may_be_a_password_is_kept_nowhere(home: Path, name: str) -> None:
    anticipated.keep(POOL, an_order())
    kept = _kept_in(home)
    anticipated.keep(POOL, an_order(**{name: "hunter2"}))
    assert not kept.exists()
    assert anticipated.begin(POOL) is None


@pytest.mark.parametrize("text", ["", "[]", '{"modules": 1}', "nonsense"])
async def test_what_cannot_be_read_is_no_template(home: Path, text: str) -> None:
    assert anticipated.begin(POOL) is None
    anticipated.keep(POOL, an_order())
    _kept_in(home).write_text(text)
    assert anticipated.begin(POOL) is None
