"""Registers our worker and our result storage: Prefect imports it (entry point `prefect.collections`)."""

from deployments.warm_worker_type import WarmProcessWorker
from refunds.ledger import LedgerStorage

__all__ = ["LedgerStorage", "WarmProcessWorker"]
