"""Engines: made from a prefect-sqlalchemy connector, with SQLite taught to be a ledger."""

import json
import sqlite3
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url

from refunds.errors import BadInput

# How long a writer waits for another's transaction on SQLite, in milliseconds. Ours last
# milliseconds; half a minute only runs out when a process hangs inside one.
_SQLITE_BUSY_MILLISECONDS = 30_000

# How long PostgreSQL lets one statement wait for a lock before it fails and the step is retried,
# in milliseconds: a killed holder's lock must not hold the others for ever.
_POSTGRESQL_LOCK_MILLISECONDS = 30_000

# How long PostgreSQL lets a transaction of ours stand still, in milliseconds: a host that is cut
# off in the middle of one would hold its refund's row for the hours until the connection is given
# up. Ours last milliseconds, and a lease is longer.
_POSTGRESQL_IDLE_MILLISECONDS = 30_000

# Within a minute a connection to a host that vanished is an error, not a wait of a quarter of an
# hour; and a new one is refused in ten seconds. An address that says otherwise comes first.
_POSTGRESQL_NETWORK = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# A pooled connection that was used within this time, in seconds, is taken without asking whether it
# still lives: a run's statements follow each other in milliseconds, and a third of them were this
# question. One that has died meanwhile is an error like one that dies under a statement.
_FRESH_SECONDS = 1.0

_PLAIN_JSON = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)

_engines: dict[str, sa.Engine] = {}
_lock = threading.Lock()


def connector(database_url: str) -> SqlAlchemyConnector:
    """The connector block for a SQLAlchemy URL; passwords stay secrets inside it.

    Raises BadInput for a database other than SQLite or PostgreSQL.
    """
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return SqlAlchemyConnector(connection_info=str(url))
    if url.get_backend_name() != "postgresql":
        raise BadInput(f"{url.get_backend_name()} is not supported; use sqlite or postgresql")
    return SqlAlchemyConnector(
        connection_info=ConnectionComponents(
            driver="postgresql+psycopg",
            database=url.database or "postgres",
            username=url.username,
            password=url.password,
            host=url.host,
            port=url.port,
            query={key: str(value) for key, value in url.query.items()} or None,
        )
    )


def engine_of(block: SqlAlchemyConnector, *, is_ledger: bool = True) -> sa.Engine:
    """The process's one engine for a connector. Call it after a fork, never before.

    A database that is not the ledger is left as its owner set it up, and is only read.
    """
    url: URL = block._rendered_url  # noqa: SLF001 - the block offers no public way to its URL
    name = url.render_as_string(hide_password=False)
    with _lock:
        if name not in _engines:
            arguments = {"json_serializer": _json} if is_ledger else _read_only(url)
            engine = block.get_engine(**arguments, **_of_its_kind(url))
            _engines[name] = _prepared(engine) if is_ledger else engine
        return _engines[name]


def connect_to_read(engine: sa.Engine) -> sa.Connection:
    """A connection that only reads.

    On PostgreSQL each statement sees what is committed when it begins, as within a transaction
    of its default kind, without a BEGIN and a ROLLBACK to wait for.
    """
    alone = {"isolation_level": "AUTOCOMMIT"} if engine.dialect.name == "postgresql" else {}
    return engine.connect().execution_options(reads_only=True, **alone)


def insert_if_absent(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that changes nothing when the row is there already; RETURNING tells.

    On PostgreSQL it waits for another transaction that is inserting the same row.
    """
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def dispose_engines() -> None:
    """Close every pooled connection, for tests and before a fork."""
    with _lock:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()


def _json(value: Any) -> str:
    """What `json` writes, in a fifth of its time; it writes itself what is not JSON's plainest."""
    try:
        return orjson.dumps(value, option=_PLAIN_JSON).decode()
    except TypeError:
        return json.dumps(value)


def _of_its_kind(url: URL) -> dict[str, Any]:
    """No process of ours asks PostgreSQL first for a type that nobody here uses."""
    return {"use_native_hstore": False} if url.get_driver_name() == "psycopg" else {}


def _read_only(url: URL) -> dict[str, Any]:
    """What keeps us from ever writing: SQLite's own mode, PostgreSQL's read-only transactions."""
    if url.get_backend_name() != "sqlite":
        return {"pool_pre_ping": True, "execution_options": {"postgresql_readonly": True}}
    place = url.database or ""
    if not place.startswith("file:"):
        place = f"{Path(place).absolute().as_uri()}?mode=ro"
    return {"creator": partial(sqlite3.connect, place, uri=True, check_same_thread=False)}


def _prepared(engine: sa.Engine) -> sa.Engine:
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
    else:
        sa.event.listen(engine, "do_connect", _postgresql_network)
        sa.event.listen(engine, "connect", _postgresql_connect)
        sa.event.listen(engine, "checkin", _note_use)
        sa.event.listen(engine, "checkout", partial(_ask_if_idle, engine.dialect))
    return engine


def _sqlite_connect(connection: Any, _record: Any) -> None:
    # We begin transactions ourselves: the driver's own way would let a reader become a writer
    # half-way and fail with "database is locked" at once.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_SQLITE_BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    # An intent that is lost in a power cut would be a payment nobody remembers.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # INSERT OR REPLACE deletes, too: without this it would slip past the history's trigger.
    cursor.execute("PRAGMA recursive_triggers=ON")
    cursor.close()


def _sqlite_begin(connection: sa.Connection) -> None:
    reads_only = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _postgresql_network(_dialect: Any, _record: Any, _args: Any, given: dict[str, Any]) -> None:
    for name, value in _POSTGRESQL_NETWORK.items():
        given.setdefault(name, value)


def _postgresql_connect(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {_POSTGRESQL_LOCK_MILLISECONDS}")
        idle = _POSTGRESQL_IDLE_MILLISECONDS
        cursor.execute(f"SET idle_in_transaction_session_timeout = {idle}")
    connection.commit()


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _ask_if_idle(dialect: sa.Dialect, connection: Any, record: Any, _proxy: Any) -> None:
    """Make the pool take another connection for one that died while it was idle."""
    used_at = record.info.get("used_at")
    if used_at is None or time.monotonic() - used_at < _FRESH_SECONDS:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise sa.exc.DisconnectionError from error
