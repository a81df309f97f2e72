"""Prefect's task results in the ledger's database: atomic, and shared by all workers."""

import time
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from prefect.filesystems import WritableFileSystem
from prefect_sqlalchemy import SqlAlchemyConnector
from pydantic import Field, PrivateAttr
from sqlalchemy.dialects import postgresql, sqlite

from refunds.clock import system_clock
from refunds.ledger import schema
from refunds.ledger.engine import connect_to_read, engine_of, insert_if_absent

# The second question follows the first in a millisecond.
_TWICE_WITHIN_SECONDS = 0.2


class LedgerStorage(WritableFileSystem):
    """Stores each result as one row; a half-written result cannot be read.

    Losing a row is safe: the step runs again, and the ledger's effect answers in its place.
    """

    _block_type_name = "Ledger Storage"
    _block_type_slug = "ledger-storage"

    connector: SqlAlchemyConnector = Field(description="The ledger's database.")

    _just_read: tuple[str, float, bytes] | None = PrivateAttr(default=None)
    _writes: int = PrivateAttr(default=0)

    def read_path(self, path: str) -> bytes:  # type: ignore[override]  # sync, as Prefect allows
        """The content stored under `path`. Raises ValueError when there is none.

        Prefect looks whether there is a result and then reads it: one question answers both.
        """
        known, self._just_read = self._just_read, None
        if known is not None and known[0] == path and time.monotonic() < known[1]:
            return known[2]
        writes, content = self._writes, self._read(path)
        # Not what another thread may just have written anew.
        if writes == self._writes:
            self._just_read = path, time.monotonic() + _TWICE_WITHIN_SECONDS, content
        return content

    def _read(self, path: str) -> bytes:
        with connect_to_read(engine_of(self.connector)) as connection:
            content = connection.execute(
                sa.select(schema.results.c.content).where(schema.results.c.key == path)
            ).scalar()
        if content is None:
            raise ValueError(f"no result is stored under {path!r}")
        return bytes(content)

    def write_path(self, path: str, content: bytes) -> str:  # type: ignore[override]  # as above
        """Store `content` under `path`, in place of what was there."""
        values = {"key": path, "content": content, "written_at": system_clock()}
        engine = engine_of(self.connector)
        dialect: Any = postgresql if engine.dialect.name == "postgresql" else sqlite
        try:
            self._note_write()
            with engine.begin() as connection:
                connection.execute(
                    dialect.insert(schema.results)
                    .values(**values)
                    .on_conflict_do_update(index_elements=["key"], set_=values)
                )
        finally:
            self._note_write()
        return path

    def _note_write(self) -> None:
        """What was read before, or is being read, may be another's content soon, or by now."""
        self._writes += 1
        self._just_read = None

    async def aread_path(self, path: str) -> bytes:
        """As `read_path`: one indexed row, a fraction of a millisecond."""
        return self.read_path(path)

    async def awrite_path(self, path: str, content: bytes) -> str:
        """As `write_path`."""
        return self.write_path(path, content)


def keep(connection: sa.Connection, contents: dict[str, bytes], now: datetime) -> None:
    """Store results that a step has left elsewhere; what is stored already stays."""
    rows = [{"key": key, "content": contents[key], "written_at": now} for key in contents]
    if rows:
        connection.execute(insert_if_absent(connection, schema.results), rows)
