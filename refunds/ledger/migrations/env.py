"""Alembic's entry: it runs on the connection it is handed."""

from alembic import context

from refunds.ledger.access import schema as access  # noqa: F401 - its tables join the metadata
from refunds.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
