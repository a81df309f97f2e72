"""Registers our worker and our result storage (entry point `prefect.collections`)."""

from deployments.warm_worker_type import WarmProcessWorker
from refunds.ledger import LedgerStorage

__all__ = ["LedgerStorage", "WarmProcessWorker"]
