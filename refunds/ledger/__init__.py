"""The ledger: the database that is the authority on what was asked, decided and done."""

from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

from refunds.ledger.book import Ledger, Page
from refunds.ledger.engine import connector, engine_of
from refunds.ledger.storage import LedgerStorage

__all__ = [
    "Ledger",
    "LedgerStorage",
    "Page",
    "connector",
    "engine_of",
    "migrate",
    "open_ledger",
]

_MIGRATIONS = Path(__file__).with_name("migrations")


def migrate(database_url: str) -> None:
    """Bring the schema to the newest version; an up-to-date ledger stays as it is."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine_of(connector(database_url)).begin() as connection:
        if url.get_backend_name() == "postgresql":
            # Two hosts that start at once migrate one after the other. The number is ours alone.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305461)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@lru_cache(maxsize=8)
def open_ledger(database_url: str) -> Ledger:
    """The ledger in a database, with the machine's clock."""
    return Ledger(engine_of(connector(database_url)))
