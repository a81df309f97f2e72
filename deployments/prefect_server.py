"""Prefect's server, as `prefect server start` runs it, kept from standing still on SQLite.

`python -m deployments.prefect_server server start …`

A statement that fails ("database is locked", a broken constraint) leaves its cursor in the
traceback of the error. The garbage collector frees it some time later, in the event loop's
thread, and SQLite makes that wait as long as the same connection, in use again by then, waits
for the write lock. Whoever holds the lock needs the event loop to commit: all of them stand still
until SQLite's patience of a minute is over. So a cursor whose statement failed is closed at once,
by its own thread, while nobody else uses the connection. And what met a busy database is tried
again here (`busy_database`).

On every database it checks once that a schema is one: Prefect checks the schemas of a deployment
and of its work pool against JSON Schema's own each time a run is created, which is half of the
work. An event is read from its JSON once for the four services that look at it.
Its databases are given Python's own times: PostgreSQL's driver subtracts each of them from
the year 2000, and the subtraction of Prefect's kind of time is a tenth of all that the server
does. And what the server has loaded by its start is no garbage: to look through it takes a large
part of a second, in which nobody is answered.
"""

import functools
import gc
import json
import runpy
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timezone
from typing import Any

from aiosqlite.cursor import Cursor
from prefect.server.api import server
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.database import Timestamp
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from prefect.utilities.schema_tools import validation
from sqlalchemy.engine import make_url

from deployments.busy_database import Application, Message, Receive, Send, TriesAgain

Statement = Callable[..., Awaitable[Any]]

# A pool or a deployment that is changed has another schema; a server meets a handful.
_MOST_SCHEMAS = 1_000

# An event comes to all services at once; one that is far behind reads it again.
_MOST_EVENTS = 200


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


def check_schemas_once() -> None:
    """Do so by what a schema says: one that was found to be none is found so again."""
    validator: Any = validation._VALIDATOR
    check, known = validator.check_schema, set[str]()

    @functools.wraps(check)
    def check_once(schema: Any, *arguments: Any, **options: Any) -> None:
        text = json.dumps(schema, sort_keys=True, default=repr)
        if text in known:
            return
        check(schema, *arguments, **options)
        if len(known) < _MOST_SCHEMAS:
            known.add(text)

    validator.check_schema = check_once


def read_events_once() -> None:
    """Do so for the latest events; each who reads one has a copy, with the same resources in it."""
    event_class: Any = ReceivedEvent
    read = event_class.model_validate_json.__func__
    read_once = functools.lru_cache(_MOST_EVENTS)(functools.partial(read, ReceivedEvent))

    def read_or_copy(kind: type[Any], /, json_data: Any, **options: Any) -> Any:
        if kind is not ReceivedEvent or options or not isinstance(json_data, str | bytes):
            return read(kind, json_data, **options)
        return read_once(json_data).model_copy()

    event_class.model_validate_json = classmethod(read_or_copy)


def give_databases_plain_times() -> None:
    """Do so for every time that this process writes or asks for: the same moment, in UTC."""
    bind = Timestamp.process_bind_param

    @functools.wraps(bind)
    def bind_plain(column: Timestamp, value: datetime | None, dialect: Any) -> datetime | None:
        return bind(column, None if value is None else _plain(value), dialect)

    Timestamp.process_bind_param = bind_plain  # type: ignore[assignment,method-assign]


def _plain(value: datetime) -> datetime:
    offset = value.utcoffset()
    if type(value) is datetime or offset is None:
        return value
    day = (value.year, value.month, value.day)
    time = (value.hour, value.minute, value.second, value.microsecond)
    return datetime(*day, *time, tzinfo=timezone(offset)).astimezone(UTC)


def around_the_application(wrapper: Callable[[Application], Application]) -> None:
    """Put it around the application that this process will make."""
    make = server.create_app

    @functools.wraps(make)
    def create_app(*arguments: Any, **options: Any) -> Application:
        return wrapper(make(*arguments, **options))

    server.create_app = create_app  # type: ignore[assignment]


class KeepsWhatItLoaded:
    """An ASGI application that is never looked through for garbage again once it has started."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request; the first one is the server's own start."""

        async def told(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                gc.collect()
                gc.freeze()
            await send(message)

        await self._application(scope, receive, told if scope["type"] == "lifespan" else send)


if __name__ == "__main__":
    close_failed_cursors()
    check_schemas_once()
    read_events_once()
    give_databases_plain_times()
    around_the_application(KeepsWhatItLoaded)
    if make_url(PREFECT_API_DATABASE_CONNECTION_URL.value()).get_backend_name() == "sqlite":
        around_the_application(TriesAgain)
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
