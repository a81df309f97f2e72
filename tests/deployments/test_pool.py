"""The work pool is of the type that was asked for, or set-up says why it is not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound

from deployments import setup
from deployments.stack_environment import PROJECT
from refunds.settings import Settings


@dataclass
class Pools:
    """Prefect as far as it has pools, with a memory."""

    pools: dict[str, WorkPool] = field(default_factory=dict)
    queues: list[tuple[str, int]] = field(default_factory=list)

    async def read_work_pool(self, name: str) -> WorkPool:
        if name not in self.pools:
            raise ObjectNotFound(http_exc=LookupError(name))
        return self.pools[name]

    async def create_work_pool(self, wanted: WorkPoolCreate) -> None:
        self.pools[wanted.name] = WorkPool(
            id=uuid4(), name=wanted.name, type=wanted.type, default_queue_id=uuid4()
        )

    async def update_work_pool(self, name: str, wanted: WorkPoolUpdate) -> None:
        assert wanted.base_job_template is not None
        self.pools[name].base_job_template = wanted.base_job_template

    async def create_work_queue(self, name: str, priority: int, work_pool_name: str) -> None:
        self.queues.append((name, priority))


def save(pools: Pools, **wanted: Any) -> None:
    asyncio.run(setup._save_pool(cast("PrefectClient", pools), Settings(**wanted)))


def test_the_pool_is_served_by_warm_workers_unless_another_type_is_asked_for() -> None:
    pools = Pools()
    save(pools)
    assert pools.pools["refunds"].type == "warm-process"
    assert pools.queues == [("upkeep", 1)]


def test_a_pool_that_a_person_made_for_stock_workers_stays_and_gets_what_runs_need() -> None:
    pools = Pools()
    asyncio.run(pools.create_work_pool(WorkPoolCreate(name="refunds", type="process")))
    save(pools)
    [pool] = pools.pools.values()
    variables = pool.base_job_template["variables"]["properties"]
    assert pool.type == "process"
    assert variables["working_dir"]["default"] == str(PROJECT)
    assert pools.queues == [("upkeep", 1)]


def test_a_pool_of_another_type_than_asked_for_is_refused_with_what_to_do() -> None:
    pools = Pools()
    save(pools)
    with pytest.raises(setup.SetUpFailed, match="delete the pool while no worker runs"):
        save(pools, worker_type="process")
