"""Prefect's server, as `prefect server start` runs it, kept from standing still on SQLite.

`python -m deployments.prefect_server server start …`

A statement that fails ("database is locked", a broken constraint) leaves its cursor in the
traceback of the error. The garbage collector frees it some time later, in the event loop's
thread, and SQLite makes that wait as long as the same connection, in use again by then, waits
for the write lock. Whoever holds the lock needs the event loop to commit: all of them stand still
until SQLite's patience of a minute is over. So a cursor whose statement failed is closed at once,
by its own thread, while nobody else uses the connection. And what met a busy database is tried
again here (`busy_database`).
"""

import functools
import runpy
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from aiosqlite.cursor import Cursor
from prefect.server.api import server
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.engine import make_url

from deployments.busy_database import TriesAgain

Statement = Callable[..., Awaitable[Any]]


def close_failed_cursors() -> None:
    """Do so for every database that this process reaches through aiosqlite."""
    for name in ("execute", "executemany"):
        setattr(Cursor, name, _closing(getattr(Cursor, name)))


def _closing(statement: Statement) -> Statement:
    @functools.wraps(statement)
    async def run(cursor: Cursor, *arguments: Any) -> Any:
        try:
            return await statement(cursor, *arguments)
        except sqlite3.Error:
            await cursor.close()
            raise

    return run


def try_again_when_busy() -> None:
    """Do so for every request of the server that this process will make."""
    make = server.create_app

    @functools.wraps(make)
    def create_app(*arguments: Any, **options: Any) -> TriesAgain:
        return TriesAgain(make(*arguments, **options))

    server.create_app = create_app  # type: ignore[assignment]


if __name__ == "__main__":
    close_failed_cursors()
    if make_url(PREFECT_API_DATABASE_CONNECTION_URL.value()).get_backend_name() == "sqlite":
        try_again_when_busy()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
