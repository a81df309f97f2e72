"""Prefect's API: launch a refund's run, wake it, label it, read the answers given in its UI."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import FlowRunWaitTimeout, ObjectNotFound
from prefect.flow_runs import wait_for_flow_run
from prefect.runtime import flow_run
from prefect.states import Crashed, Running, Scheduled

from refunds.errors import SystemUnavailable
from refunds.ledger import Ledger, Page, batches, bursts, leases, requests, storage
from refunds.models import RefundRequest
from refunds.settings import settings
from tasks import books, certificates, found_before

REFUND_DEPLOYMENT = "refund/refund"
BATCH_DEPLOYMENT = "batch/batch"
NIGHTLY_DEPLOYMENT = "nightly/nightly"

# A queue is worked off by scheduled time; a run that goes on with something goes before all that
# were started within this time.
_AHEAD = timedelta(days=1)

# Prefect's client tries for minutes, and whoever stands at a door would wait with it. It answers in
# a second and a busy one in ten; a gateway that sends a webhook gives up after about thirty.
_ANSWER_SECONDS = 20

# The ids of deployments that this process has asked for, by Prefect's address and their names.
_deployments: dict[tuple[str, str], UUID] = {}

certificates.share()


def prefect() -> PrefectClient:
    """Prefect's API: the run's own inside a flow run, the configured one elsewhere."""
    if FlowRunContext.get() is not None:
        return get_client()
    return PrefectClient(
        settings().prefect_api_url, auth_string=settings().prefect_auth_string or None
    )


@asynccontextmanager
async def asked(limit_seconds: float = _ANSWER_SECONDS) -> AsyncIterator[PrefectClient]:
    """Prefect's API for something that can be asked again. Raises SystemUnavailable."""
    try:
        async with asyncio.timeout(limit_seconds), prefect() as client:
            yield client
    except TimeoutError as error:
        raise SystemUnavailable("prefect", f"no answer in {limit_seconds} seconds") from error
    except (httpx.HTTPError, ObjectNotFound) as error:
        raise SystemUnavailable("prefect", f"{type(error).__name__}: {error}") from error


async def launch(
    refund_id: str, *, again: bool = False, judged: dict[str, Any] | None = None
) -> str:
    """Start the refund's run, or with `again` a further one that takes over; returns its id.

    Asking twice starts one: the n-th run of a refund has one idempotency key. `judged` is the row
    by which the refund was found lost; if it has a run since, or a living lease, that one stays.
    """
    ledger = books.ledger()
    row = requests.read(ledger, refund_id)
    if row["run_id"] is not None and (not again or _is_alive_since(judged, row, ledger)):
        return str(row["run_id"])
    number = row["run_number"] + 1
    request = RefundRequest.model_validate(row["request"])
    async with asked() as client:
        run = await _create(
            client,
            REFUND_DEPLOYMENT,
            parameters={"request": request.plain()},
            # What was begun before goes on before what nobody has begun.
            state=_first_in_line(ledger.clock()) if again else None,
            name=f"refund-{refund_id}",
            tags=["refund"],
            idempotency_key=idempotency_key(refund_id, number),
        )
    is_carried = row["lane"] == "batch"
    if again and row["run_id"] is not None and not is_carried:
        await _retire(row["run_id"], str(run.id))
    found = found_before.results(ledger, request) if row["batch_id"] or row["burst_id"] else {}
    with ledger.page(refund_id) as page:
        storage.keep(page.connection, found, page.now)
        return _own(page, str(run.id), number, replaces=row["run_id"])


async def _create(client: PrefectClient, deployment: str, **facts: Any) -> FlowRun:
    """Create a run of a deployment; asks for the deployment's id once, and when it is another."""
    name = settings().prefect_api_url, deployment
    if known := _deployments.get(name):
        try:
            return await client.create_flow_run_from_deployment(known, **facts)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
    found = (await client.read_deployment_by_name(deployment)).id
    _deployments[name] = found
    return await client.create_flow_run_from_deployment(found, **facts)


def _is_alive_since(judged: dict[str, Any] | None, row: dict[str, Any], ledger: Ledger) -> bool:
    """A list of lost refunds gets old while the first of them are started."""
    if judged is None:
        return False
    return bool(row["run_number"] != judged["run_number"]) or leases.is_held(row, ledger)


def idempotency_key(name: str, number: int) -> str:
    """What makes the n-th run of a refund or a batch one run, however often it is asked for."""
    return f"{name}:run:{number}"


async def launch_nightly(night: date | None, replaces: str | None = None) -> str:
    """Start the nightly batch's deployment for one night (default: tonight); returns the run id.

    In place of a run that died one is started, however often it is asked for.
    """
    async with asked() as client:
        run = await _create(
            client,
            NIGHTLY_DEPLOYMENT,
            parameters={"night": night.isoformat() if night else None},
            idempotency_key=f"{replaces}:again" if replaces else None,
        )
    return str(run.id)


async def launch_batch(batch_id: str) -> str:
    """Start a run for a batch, the next one if it had one before; returns its id.

    Asking twice starts one: the n-th run of a batch has one idempotency key.
    """
    ledger = books.ledger()
    batch = batches.read(ledger, batch_id)
    number = batch.run_number + 1
    async with asked() as client:
        run = await _create(
            client,
            BATCH_DEPLOYMENT,
            parameters={"batch_id": batch_id},
            state=_first_in_line(ledger.clock()) if batch.run_number or batch.is_burst else None,
            name=batch_id,
            tags=["batch"],
            idempotency_key=idempotency_key(batch_id, number),
        )
    if batch.run_id is not None:
        await _retire(batch.run_id, str(run.id))
    batches.assign(ledger, batch_id, str(run.id), number)
    return str(run.id)


async def finished(run_id: str, timeout_seconds: float) -> str:
    """Wait for a run's end by Prefect's events; returns the name of its last state."""
    try:
        async with prefect() as client:
            run: FlowRun = await wait_for_flow_run(
                UUID(run_id), timeout=int(timeout_seconds), client=client
            )
    except (httpx.HTTPError, FlowRunWaitTimeout) as error:
        raise SystemUnavailable("prefect", f"{type(error).__name__}: {error}") from error
    return run.state.name or "" if run.state else ""


async def _retire(old_run_id: str, new_run_id: str) -> None:
    """Say on the old run's page who carries on; the fence stops it if it should still live."""
    with suppress(SystemUnavailable):
        async with asked() as client:
            run = await client.read_flow_run(UUID(old_run_id))
            if run.state is not None and not run.state.is_final():
                taken_over: State[Any] = Crashed(
                    message=f"Its process is gone; run {new_run_id} carries on."
                )
                await client.set_flow_run_state(run.id, taken_over)


def _own(page: Page, run_id: str, number: int, *, replaces: str | None) -> str:
    """Make the run the refund's own, unless another one came before it; returns the owner."""
    is_first = page.row["run_number"] < number and page.row["run_id"] in (replaces, run_id)
    if is_first and page.row["outcome"] is None:
        leases.assign(page, run_id, number)
    return str(page.row["run_id"])


async def wake(refund_id: str) -> bool:
    """Let the refund go on when what it waits for has come; True when Prefect was told.

    It is a hint: when it is lost, or the run is not asleep yet, the sweep gives it again. Where
    many go on at the same time a burst carries them, whose run the first of them starts.
    """
    return await wake_all([refund_id]) == 1


async def wake_all(refund_ids: Iterable[str]) -> int:
    """As `wake` for each of these; returns how many go on."""
    opened, count = [], 0
    for refund_id in refund_ids:
        claim = bursts.claim(books.ledger(), refund_id, settings().burst_from)
        if claim is None:
            continue
        if claim.run_id is not None:
            count += await _wake_own(refund_id, claim.run_id)
            continue
        count += 1
        if claim.opens and claim.burst_id is not None:
            opened.append(claim.burst_id)
    for burst_id in opened:
        await launch_batch(burst_id)
    return count


async def _wake_own(refund_id: str, run_id: str) -> bool:
    """Wake the refund's own run; one that can no longer be woken is replaced by a new one."""
    async with asked() as client:
        run = await _known(client, run_id)
        if run and run.state and not run.state.is_final() and not await stranded(client, [run]):
            return await _rouse(client, run, run.state)
    await launch(refund_id, again=True)
    return True


async def _known(client: PrefectClient, run_id: str) -> FlowRun | None:
    """A run, unless Prefect does not know it any more."""
    with suppress(ObjectNotFound):
        return await client.read_flow_run(UUID(run_id))
    return None


async def _rouse(client: PrefectClient, run: FlowRun, state: State[Any]) -> bool:
    """Let a run that has not ended go on; False when it does not sleep yet.

    A deployed run is rescheduled; one that holds its process is let go on, from whatever state it
    was put into: no worker would take it from there.
    """
    if run.deployment_id is None:
        await client.set_flow_run_state(run.id, Running(), force=True)
    elif state.type is StateType.PAUSED:
        resuming = _first_in_line(books.ledger().clock(), "Resuming")
        await client.set_flow_run_state(run.id, resuming)
    else:
        return False
    return True


def _first_in_line(now: datetime, name: str = "Scheduled") -> State[Any]:
    """Before all that was not begun yet: money may be on its way, or a person waits."""
    return Scheduled(name=name, scheduled_time=now - _AHEAD)


async def stranded(client: PrefectClient, runs: Iterable[FlowRun]) -> set[str]:
    """Ids of runs whose work pool was deleted, and whose deployment has another by now.

    No worker will ever take them.
    """
    asleep = (StateType.SCHEDULED, StateType.PAUSED)
    in_no_queue = [
        run
        for run in runs
        if run.state and run.state.type in asleep and run.deployment_id and not run.work_queue_id
    ]
    with_pool = set()
    for deployment_id in {run.deployment_id for run in in_no_queue if run.deployment_id}:
        with suppress(ObjectNotFound):
            if (await client.read_deployment(deployment_id)).work_pool_name:
                with_pool.add(deployment_id)
    return {str(run.id) for run in in_no_queue if run.deployment_id in with_pool}


async def label(name: str, tags: Iterable[str]) -> None:
    """Name and tag this run, so that the list of waiting runs says what each one needs."""
    async with prefect() as client:
        await _update(client, name, [*tags])


async def answers(prefix: str) -> list[tuple[str, dict[str, Any]]]:
    """What was typed into this run's Resume form, oldest first, for waits of this prefix.

    Each with a name of its own: it is read again whenever the run is woken.
    """
    run_id = flow_run.id
    if not run_id:
        return []
    async with prefect() as client:
        found = []
        for paused in _kinds_of_pause():
            found += await client.filter_flow_run_input(
                flow_run_id=UUID(str(run_id)),
                key_prefix=f"{paused}-{prefix}",
                limit=200,
                exclude_keys=set(),
            )
    given = [entry for entry in found if entry.key.endswith("-response")]
    given.sort(key=lambda entry: entry.created or entry.key)
    return [
        (f"{run_id}/{entry.key}", entry.decoded_value)
        for entry in given
        if isinstance(entry.decoded_value, dict)
    ]


def _kinds_of_pause() -> tuple[str, ...]:
    """How Prefect calls a pause of this run: one with a deployment is suspended."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return "suspended", "paused"
    return ("suspended",) if context.flow_run.deployment_id else ("paused",)


async def _update(client: PrefectClient, name: str, tags: list[str]) -> None:
    run_id = UUID(str(flow_run.id))
    await client.update_flow_run(run_id, name=name, tags=["refund", *tags])
