"""What things are called at Prefect: blocks, the work pool and its queues."""

CONNECTOR_TYPE = "sqlalchemy-connector"
LEDGER_BLOCK = "refunds-ledger"
SHOP_BLOCK = "refunds-shop"
RESULTS_BLOCK = "ledger-storage/refunds-results"
WORK_POOL = "refunds"

# The sweep's own queue: it goes before any number of waiting refunds.
UPKEEP_QUEUE = "upkeep"


def limit_name(system: str) -> str:
    """Prefect's global concurrency limit on calls to a system at once."""
    return f"refunds-{system}"


def rate_name(system: str) -> str:
    """Prefect's global concurrency limit on calls to a system a second."""
    return f"refunds-{system}-a-second"
