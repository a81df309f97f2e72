"""Durable state: one writing connection whose transactions commit in groups, one for reading."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sandbox.schema import SANDBOX_SCHEMA
from sandbox.shop.schema import SHOP_SCHEMA

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

# A reader of shop.db in another process may hold a lock while it checkpoints.
_BUSY_TIMEOUT_MS = 10_000
# About 10 ms of work: the event loop runs the jobs itself and must stay responsive.
_JOBS_PER_COMMIT = 64
# All statements of the sandbox fit, so that none is compiled twice.
_CACHED_STATEMENTS = 512


class Store:
    """The two databases of one home.

    Jobs run on the event loop, each in its own savepoint of a shared transaction, and only the
    commit (the wait for the disk) leaves it for a thread. Results are given after the commit.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._writer = _connect(home)
        self._writer.executescript(SANDBOX_SCHEMA)
        self._writer.executescript(SHOP_SCHEMA)
        self._reader = _connect(home)
        self._reader.execute("PRAGMA query_only = ON")
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-disk")
        self._waiting: list[tuple[Job[Any], asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def write(self, job: Job[T]) -> T:
        """Run `job` in a transaction and return its result once it is on disk.

        Whatever the job raises is raised here, and nothing of the job is kept.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_waiting())
        return await future

    def read(self, job: Job[T]) -> T:
        """Run `job` on committed data; writing in it is an error."""
        return job(self._reader)

    async def close(self) -> None:
        """Finish what is under way and close both connections."""
        if self._committing is not None:
            await self._committing
        self._disk.shutdown()
        self._reader.close()
        self._writer.close()

    async def _commit_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = self._waiting[:_JOBS_PER_COMMIT]
            del self._waiting[:_JOBS_PER_COMMIT]
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                results = [self._run(job) for job, _ in batch]
                await loop.run_in_executor(self._disk, self._writer.execute, "COMMIT")
            except sqlite3.Error as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                _resolve(future, result)

    def _run(self, job: Job[Any]) -> object:
        self._writer.execute("SAVEPOINT job")
        try:
            result: object = job(self._writer)
        except Exception as error:  # noqa: BLE001  the caller of write() gets it, whatever it is
            self._writer.execute("ROLLBACK TO job")
            result = error
        self._writer.execute("RELEASE job")
        return result


def _resolve(future: "asyncio.Future[Any]", result: object) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _connect(home: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        home / "sandbox.db",
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
    )
    connection.row_factory = sqlite3.Row
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("ATTACH DATABASE ? AS shop", (str(home / "shop.db"),))
    for database in ("main", "shop"):
        connection.execute(f"PRAGMA {database}.journal_mode = WAL")
        connection.execute(f"PRAGMA {database}.synchronous = FULL")
    return connection
