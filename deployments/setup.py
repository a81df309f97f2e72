"""Sets Prefect up for refunds: ledger, blocks, work pool, deployments; again, nothing changes.

`python -m deployments.setup` waits for the Prefect API and then does it.
"""

import asyncio
import importlib
import math
import os
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import yaml  # type: ignore[import-untyped]  # its stubs are one more package to pin
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from prefect_sqlalchemy import SqlAlchemyConnector

from deployments.stack_environment import PROJECT, run_environment
from deployments.warm_worker_type import WarmProcessWorker
from refunds.errors import RefundError
from refunds.names import (
    CONNECTOR_TYPE,
    LEDGER_BLOCK,
    RESULTS_BLOCK,
    SHOP_BLOCK,
    UPKEEP_QUEUE,
    WORK_POOL,
    limit_name,
    rate_name,
)
from refunds.settings import Settings, settings

# Every module with a flow: its import is what a forked run does not have to pay for. And
# the results' storage: Prefect finds a block's class only once it is imported.
PRELOAD = ["refunds.ledger.storage", "flows.refund", "flows.batch", "flows.nightly", "flows.sweep"]

# What a worker calls to start again what a dead one left, without waiting for a sweep.
RECOVERY = "tasks.upkeep:recover"

# A server that migrates a large database on a loaded machine.
_API_WAIT_SECONDS = 180.0
# The server cannot be asked to tell; a tenth of a second is not noticed at a start of ten.
_API_ASK_SECONDS = 0.1

_WORKERS = {worker.type: worker for worker in (WarmProcessWorker, ProcessWorker)}


class SetUpFailed(RefundError):
    """Prefect could not be set up; says what to do."""


async def set_up(settings: Settings) -> None:
    """Bring ledger, blocks, work pool and deployments to what this version needs.

    Called at every start, against a reachable Prefect API. What people may change in the
    UI stays: a paused deployment or schedule, the other fields of the pool.
    """
    await asyncio.to_thread(_migrate, settings)
    with temporary_settings({PREFECT_API_URL: settings.prefect_api_url}):
        await _save_blocks(settings)
        async with get_client() as client:
            await _save_pool(client, settings)
            await _save_limits(client, settings)
            for entry in _entries():
                await _save_deployment(client, entry)


def _migrate(settings: Settings) -> None:
    """Bring the ledger to this version; refuse a version that cannot carry what waits in it."""
    from deployments import carried
    from refunds.ledger import migrate, open_ledger

    migrate(settings.ledger_database_url)
    if broken := carried.broken(open_ledger(settings.ledger_database_url)):
        raise SetUpFailed(carried.told(broken))


# --- Blocks ---


async def _save_blocks(settings: Settings) -> None:
    from refunds.ledger.engine import connector
    from refunds.ledger.storage import LedgerStorage

    for block_type in (SqlAlchemyConnector, LedgerStorage):
        await block_type.aregister_type_and_schema()
    ledger = connector(settings.ledger_database_url)
    await ledger.asave(LEDGER_BLOCK, overwrite=True)
    if not settings.shop_block:
        await connector(settings.shop_database_url).asave(SHOP_BLOCK, overwrite=True)
    # Refers to the ledger's block, which has an id now, and holds no copy of its password.
    results = LedgerStorage(connector=ledger)
    await results.asave(RESULTS_BLOCK.rpartition("/")[2], overwrite=True)


# --- The work pool ---


async def _save_pool(client: PrefectClient, settings: Settings) -> None:
    ours = {
        "preload": [*PRELOAD, *(["tasks.chat"] if settings.model_url else [])],
        "recovery": RECOVERY,
        "blocks": [RESULTS_BLOCK, f"{CONNECTOR_TYPE}/{settings.shop_block or SHOP_BLOCK}"],
        "working_dir": str(PROJECT),
        "env": run_environment(settings, os.environ),
    }
    wanted = settings.worker_type
    try:
        pool = await client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        kind = wanted or WarmProcessWorker.type
        template = _template(kind, {}, ours)
        await client.create_work_pool(
            WorkPoolCreate(name=WORK_POOL, type=kind, base_job_template=template)
        )
    else:
        if wanted not in ("", pool.type):
            raise SetUpFailed(
                f"the work pool {WORK_POOL} is of type {pool.type}, and REFUNDS_WORKER_TYPE asks "
                f"for {wanted}; Prefect changes no pool's type: leave the variable out, or delete "
                "the pool while no worker runs"
            )
        if pool.type in _WORKERS:
            template = _template(pool.type, pool.base_job_template, ours)
            await client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    with suppress(ObjectAlreadyExists):
        # First in line: the queue that Prefect makes by itself comes after it.
        await client.create_work_queue(UPKEEP_QUEUE, priority=1, work_pool_name=WORK_POOL)


def _template(kind: str, present: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """The worker's own template with our values, and with what people have set besides."""
    template = _WORKERS[kind].get_default_base_job_template()
    theirs = present.get("variables", {}).get("properties", {})
    for name, variable in template["variables"]["properties"].items():
        if name in ours:
            variable["default"] = ours[name]
        elif "default" in theirs.get(name, {}):
            variable["default"] = theirs[name]["default"]
    return template


# --- Limits ---


async def _save_limits(client: PrefectClient, settings: Settings) -> None:
    """What all processes together may send to a system; the settings have the last word."""
    for system, limit in settings.limits.items():
        if limit.at_once is not None:
            name = limit_name(system)
            await client.upsert_global_concurrency_limit_by_name(name, limit.at_once)
        if limit.per_second is not None:
            await client.upsert_global_concurrency_limit_by_name(
                rate_name(system), math.ceil(limit.per_second), limit.per_second
            )


# --- Deployments ---


def _entries() -> list[dict[str, Any]]:
    """The deployments of prefect.yaml."""
    content = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    return list(content["deployments"])


def _flow(entry: dict[str, Any]) -> Flow[..., Any]:
    """The flow; Prefect's own loader would hide why a module cannot be imported."""
    path, _, name = entry["entrypoint"].rpartition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    found: Flow[..., Any] = getattr(module, name)
    return found


async def _save_deployment(client: PrefectClient, entry: dict[str, Any]) -> UUID:
    """What `prefect deploy` makes of one entry of prefect.yaml, in 50 ms and not in 5 s."""
    flow = _flow(entry)
    limit = entry.get("concurrency_limit") or {}
    paused, inactive = await _paused_by_people(client, f"{flow.name}/{entry['name']}")
    return await client.create_deployment(
        flow_id=await client.create_flow_from_name(flow.name),
        name=entry["name"],
        version=flow.version,
        description=entry.get("description") or flow.description,
        tags=entry.get("tags"),
        schedules=[_schedule(s, active=s["slug"] not in inactive) for s in entry["schedules"]],
        concurrency_limit=limit.get("limit"),
        concurrency_options=(
            ConcurrencyOptions(collision_strategy=limit["collision_strategy"]) if limit else None
        ),
        work_pool_name=entry["work_pool"]["name"],
        work_queue_name=entry["work_pool"].get("work_queue_name"),
        entrypoint=entry["entrypoint"],
        parameter_openapi_schema=parameter_schema(flow).model_dump(exclude_unset=True),
        enforce_parameter_schema=True,
        paused=paused,
        pull_steps=[],
    )


async def _paused_by_people(client: PrefectClient, name: str) -> tuple[bool, set[str | None]]:
    """Whether the deployment is paused, and the slugs of its schedules that are."""
    try:
        deployment = await client.read_deployment_by_name(name)
    except ObjectNotFound:
        return False, set()
    return deployment.paused, {s.slug for s in deployment.schedules if not s.active}


def _schedule(entry: dict[str, Any], *, active: bool) -> DeploymentScheduleCreate:
    schedule: CronSchedule | IntervalSchedule
    if "cron" in entry:
        schedule = CronSchedule(cron=entry["cron"], timezone=entry.get("timezone", "UTC"))
    else:
        schedule = IntervalSchedule(interval=timedelta(seconds=entry["interval"]))
    return DeploymentScheduleCreate(schedule=schedule, active=active, slug=entry["slug"])


# --- The command ---


def _wait_for_api(settings: Settings) -> None:
    deadline = time.monotonic() + _API_WAIT_SECONDS
    while True:
        try:
            if httpx.get(f"{settings.prefect_api_url}/health").is_success:
                return
        except httpx.TransportError as error:
            problem = str(error)
        else:
            problem = "it answers, but not that it is healthy"
        if time.monotonic() > deadline:
            raise SetUpFailed(
                f"no Prefect API at {settings.prefect_api_url} ({problem}); "
                "start it or set PREFECT_API_URL"
            )
        time.sleep(_API_ASK_SECONDS)


def main() -> int:
    """Wait for the API and set up; 0 when done, 1 when the API does not answer."""
    try:
        # What can fail without a server fails before it is there, and costs no time after.
        for entry in _entries():
            _flow(entry)
        _migrate(settings())
        _wait_for_api(settings())
        asyncio.run(set_up(settings()))
    except RefundError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
