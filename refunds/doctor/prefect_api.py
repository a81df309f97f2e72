"""Prefect's server and what has been set up in it."""

import httpx
import prefect
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from refunds.doctor.findings import Unwell
from refunds.names import CONNECTOR_TYPE, LEDGER_BLOCK, RESULTS_BLOCK, SHOP_BLOCK, WORK_POOL
from refunds.settings import settings
from tasks import books, notifier

_DEPLOYMENTS = ("refund/refund", "batch/batch", "nightly/nightly", "sweep/sweep")
# The server's largest page; without a limit it answers 422.
_PAGE = 200
_SET_UP = "run `refunds up`, or `python -m deployments.setup` where Prefect runs by itself"


async def server() -> str:
    """It answers, and is of the client's version."""
    address = settings().prefect_api_url
    async with get_client(httpx_settings={"timeout": 10}) as client:
        problem = await client.api_healthcheck()
        if problem is not None:
            raise Unwell(
                f"{address} does not answer ({type(problem).__name__})",
                "start it with `refunds up`, or name another in PREFECT_API_URL",
            )
        try:
            found = await client.api_version()
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.UNAUTHORIZED:
                raise
            raise Unwell(
                f"{address} asks for a password and does not take ours",
                "set PREFECT_API_AUTH_STRING to what that server was started with, or "
                "REFUNDS_HOME to the home of the stack that it belongs to",
            ) from error
    if found != prefect.__version__:
        raise Unwell(
            f"{address} has version {found}, this program {prefect.__version__}",
            "install the same version on both sides",
        )
    guard = "asks for a password" if settings().prefect_auth_string else "open to this machine"
    return f"{address}, version {found}, {guard}"


async def blocks() -> str:
    """The connectors and the storage that the workers load."""
    missing = []
    theirs = settings().shop_block
    wanted = [f"{CONNECTOR_TYPE}/{name}" for name in (LEDGER_BLOCK, theirs or SHOP_BLOCK)]
    wanted.append(RESULTS_BLOCK)
    async with get_client() as client:
        for block in wanted:
            slug, _, name = block.partition("/")
            try:
                await client.read_block_document_by_name(name, slug, include_secrets=False)
            except ObjectNotFound:
                missing.append(block)
    if missing:
        raise Unwell(f"missing: {', '.join(missing)}", _SET_UP)
    return ", ".join(wanted)


async def card_blocks() -> str:
    """Every notification block that the policy sends cards through."""
    named = {level.name: level.block for level in books.policy().approval.levels if level.block}
    absent = [
        f"{block} (level {level})"
        for level, block in named.items()
        if await notifier.load(block) is None
    ]
    if absent:
        raise Unwell(
            f"no notification block {', '.join(absent)}; its cards go to the inbox instead",
            "make it in the Prefect UI under Blocks, or name another in the policy's levels",
        )
    return ", ".join(dict.fromkeys(named.values())) or "none: cards go to the inbox"


async def work_pool() -> str:
    """The pool is there, and somebody works in it."""
    async with get_client() as client:
        try:
            pool = await client.read_work_pool(WORK_POOL)
        except ObjectNotFound as error:
            raise Unwell(f"there is no pool {WORK_POOL}", _SET_UP) from error
        online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
        workers = await client.read_workers_for_work_pool(
            WORK_POOL, worker_filter=online, offset=0, limit=_PAGE
        )
    if pool.is_paused:
        raise Unwell(f"{WORK_POOL} is paused", f"`prefect work-pool resume {WORK_POOL}`")
    if not workers:
        raise Unwell(
            f"nobody works in {WORK_POOL}",
            f"`refunds up`, or `prefect worker start --pool {WORK_POOL}`",
        )
    return f"{WORK_POOL} ({pool.type}), {len(workers)} online"


async def deployments() -> str:
    """All of them are there, and nobody paused them or their schedules."""
    missing, paused = [], []
    async with get_client() as client:
        for name in _DEPLOYMENTS:
            try:
                deployment = await client.read_deployment_by_name(name)
            except ObjectNotFound:
                missing.append(name)
                continue
            if deployment.paused or not all(s.active for s in deployment.schedules):
                paused.append(name)
    if missing:
        raise Unwell(f"missing: {', '.join(missing)}", _SET_UP)
    if paused:
        raise Unwell(
            f"paused: {', '.join(paused)}",
            "resume it in the Prefect UI; until then nothing expires, wakes or runs at night",
        )
    return ", ".join(_DEPLOYMENTS)
