"""Prefect's task results in the ledger's database: atomic, and shared by all workers."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from prefect.filesystems import WritableFileSystem
from prefect_sqlalchemy import SqlAlchemyConnector
from pydantic import Field
from sqlalchemy.dialects import postgresql, sqlite

from refunds.clock import system_clock
from refunds.ledger import schema
from refunds.ledger.engine import connect_to_read, engine_of, insert_if_absent


class LedgerStorage(WritableFileSystem):
    """Stores each result as one row; a half-written result cannot be read.

    Losing a row is safe: the step runs again, and the ledger's effect answers in its place.
    """

    _block_type_name = "Ledger Storage"
    _block_type_slug = "ledger-storage"

    connector: SqlAlchemyConnector = Field(description="The ledger's database.")

    def read_path(self, path: str) -> bytes:  # type: ignore[override]  # sync, as Prefect allows
        """The content stored under `path`. Raises ValueError when there is none."""
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
        with engine.begin() as connection:
            connection.execute(
                dialect.insert(schema.results)
                .values(**values)
                .on_conflict_do_update(index_elements=["key"], set_=values)
            )
        return path

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
