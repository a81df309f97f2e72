"""Why the embedded stack starts Prefect's server by way of `deployments.prefect_server`."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from aiosqlite.cursor import Cursor
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments import stack_roles
from deployments.prefect_server import close_failed_cursors
from refunds.settings import settings

pytestmark = pytest.mark.anyio

# CPython 3.12 resets a failed statement at once; 3.11 when its cursor is freed.
PYTHON_LEAVES_IT = sys.version_info < (3, 12)

INSERT = sa.text("INSERT INTO refund VALUES ('rf_1')")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncEngine]:
    """A database as Prefect's server opens it; what a test patches is undone after it."""
    for name in ("execute", "executemany"):
        monkeypatch.setattr(Cursor, name, getattr(Cursor, name))
    engine = await AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path / 'p.db'}").engine()
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE refund (id TEXT UNIQUE)"))
        await connection.execute(INSERT)
    yield engine
    await engine.dispose()


async def failed_statement(engine: AsyncEngine) -> BaseException:
    """The error of a statement that failed; its connection is back in the pool."""
    async with engine.connect() as connection:
        with pytest.raises(sa.exc.IntegrityError) as caught:
            await connection.execute(INSERT)
    return caught.value


async def is_free_while_in_use(engine: AsyncEngine, *, patience_seconds: float) -> bool:
    """Whether an error is forgotten in this thread while its connection, used anew, is busy."""
    kept = [await failed_statement(engine)]
    inside, forgotten = threading.Event(), threading.Event()

    def busy() -> bool:
        inside.set()
        return forgotten.wait(patience_seconds)

    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.create_function("busy", 0, busy)
        using = asyncio.create_task(connection.execute(sa.text("SELECT busy()")))
        await asyncio.to_thread(inside.wait)
        kept.clear()
        gc.collect()
        forgotten.set()
        return bool((await using).scalar_one())


async def test_forgetting_a_failed_statement_waits_for_its_connection(engine: AsyncEngine) -> None:
    is_free = await is_free_while_in_use(engine, patience_seconds=0.5)
    assert is_free is not PYTHON_LEAVES_IT


async def test_forgetting_a_failed_statement_whose_cursor_is_closed_waits_for_nothing(
    engine: AsyncEngine,
) -> None:
    close_failed_cursors()
    assert await is_free_while_in_use(engine, patience_seconds=60)


async def test_a_failed_statement_still_says_what_failed(engine: AsyncEngine) -> None:
    close_failed_cursors()
    assert "UNIQUE constraint failed: refund.id" in str(await failed_statement(engine))


def test_the_embedded_stack_starts_prefects_server_so() -> None:
    module, *arguments = stack_roles.prefect(settings()).command
    assert arguments[:2] == ["server", "start"]
    program = (
        "import atexit, runpy, sys\n"
        "from aiosqlite.cursor import Cursor\n"
        "atexit.register(lambda: print(hasattr(Cursor.execute, '__wrapped__')))\n"
        f"sys.argv = ['prefect', '--version']\n"
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    version, is_closing = done.stdout.split()
    assert version[0].isdigit()
    assert is_closing == "True"


@pytest.mark.parametrize(
    ("url", "tries_again"),
    [("", True), ("postgresql+asyncpg://nobody@127.0.0.1:9/none", False)],
    ids=["sqlite", "postgresql"],
)
def test_on_sqlite_that_server_tries_again_itself(url: str, *, tries_again: bool) -> None:
    module, *_ = stack_roles.prefect(settings()).command
    program = (
        "import atexit, runpy, sys\n"
        "from prefect.server.api import server\n"
        "atexit.register(lambda: print(type(server.create_app(ephemeral=True)).__name__))\n"
        "sys.argv = ['prefect', '--version']\n"
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
    )
    place = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url} if url else {}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == ("TriesAgain" if tries_again else "KeepsWhatItLoaded")
