"""Registers our worker: Prefect imports it (entry point `prefect.collections`)."""

from deployments.warm_worker_type import WarmProcessWorker

__all__ = ["WarmProcessWorker"]
