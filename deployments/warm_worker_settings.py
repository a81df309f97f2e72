"""How a warm worker itself behaves, as opposed to its jobs."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class WarmWorkerSettings(BaseSettings):
    """Read from `WARM_WORKER_…` environment variables."""

    model_config = SettingsConfigDict(env_prefix="WARM_WORKER_")

    # A container gets 30 s (Kubernetes) between SIGTERM and SIGKILL: most refunds are
    # through in 20 s, and 5 s more let the others stop and be scheduled again.
    drain_seconds: float = Field(default=20.0, ge=0)
    drain_stop_seconds: float = Field(default=5.0, ge=0)

    # How often to look for what events and reports have missed. As often as Prefect's
    # heartbeat; events make the usual case immediate.
    recovery_seconds: float = Field(default=30.0, gt=0)

    # How often to look for refunds that nobody carries on: with the 45 s of a lease, a dead
    # host's are taken over within a minute. It is one query while nothing is lost.
    relaunch_seconds: float = Field(default=5.0, gt=0)
