"""Prefect's API: launch a refund's run, wake it, label it, read the answers given in its UI."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Running, Scheduled

from refunds.errors import SystemUnavailable
from refunds.ledger import Ledger, leases, requests, waits
from refunds.models import RefundRequest
from tasks import books

REFUND_DEPLOYMENT = "refund/refund"

# A run that Prefect accepted but no worker began within this time is taken for lost with its
# worker; a busy queue leaves runs Scheduled, not Pending.
_PENDING_SECONDS = 60


async def launch(refund_id: str, *, again: bool = False) -> str:
    """Start the refund's run, or with `again` a further one that takes over; returns its id.

    Asking twice starts one: the n-th run of a refund has one idempotency key.
    """
    ledger = books.ledger()
    row = requests.read(ledger, refund_id)
    if row["run_id"] is not None and not again:
        return str(row["run_id"])
    number = row["run_number"] + 1
    request = RefundRequest.model_validate(row["request"])
    try:
        async with get_client() as client:
            deployment = await client.read_deployment_by_name(REFUND_DEPLOYMENT)
            run = await client.create_flow_run_from_deployment(
                deployment.id,
                parameters={"request": request.plain()},
                name=f"refund-{refund_id}",
                tags=["refund"],
                idempotency_key=f"{refund_id}:run:{number}",
            )
    except (httpx.HTTPError, ObjectNotFound) as error:
        raise SystemUnavailable("prefect", f"{type(error).__name__}: {error}") from error
    return _own(ledger, refund_id, str(run.id), number)


def _own(ledger: Ledger, refund_id: str, run_id: str, number: int) -> str:
    with ledger.page(refund_id) as page:
        if page.row["run_number"] < number and page.row["outcome"] is None:
            if page.row["run_id"] is not None and page.row["run_id"] != run_id and number == 1:
                return str(page.row["run_id"])
            leases.assign(page, run_id, number)
        return str(page.row["run_id"])


async def wake(refund_id: str) -> bool:
    """Wake the refund's run when what it waits for has come; True when Prefect was told.

    It is a hint: when it is lost, or the run is not asleep yet, the sweep gives it again.
    """
    run_id = waits.claim_wake(books.ledger(), refund_id)
    if run_id is None:
        return False
    try:
        async with get_client() as client:
            run = await client.read_flow_run(UUID(run_id))
            if run.state is None or run.state.type is not StateType.PAUSED:
                return False
            # A deployed run is rescheduled; one that holds its process is let go on.
            waits_for_worker = run.state.state_details.pause_reschedule
            state = Scheduled(name="Resuming") if waits_for_worker else Running()
            await client.set_flow_run_state(run.id, state)
    except (httpx.HTTPError, ObjectNotFound) as error:
        raise SystemUnavailable("prefect", f"{type(error).__name__}: {error}") from error
    return True


async def is_lost(row: dict[str, Any]) -> bool:
    """Whether the refund's own run will not go on by itself.

    The caller has seen that no living process holds the lease and that no wait is open.
    """
    if row["run_id"] is None:
        return True
    try:
        async with get_client() as client:
            run = await client.read_flow_run(UUID(row["run_id"]))
    except ObjectNotFound:
        return True
    except httpx.HTTPError as error:
        raise SystemUnavailable("prefect", f"{type(error).__name__}: {error}") from error
    return _is_over(run)


def _is_over(run: FlowRun) -> bool:
    """A queued run is merely late; a paused one is the waker's business."""
    state = run.state
    if state is None:
        return True
    if state.type in (StateType.SCHEDULED, StateType.PAUSED):
        return False
    if state.type is StateType.PENDING:
        age = books.ledger().clock() - state.timestamp
        return bool(age > timedelta(seconds=_PENDING_SECONDS))
    return True


async def label(name: str, tags: Iterable[str]) -> None:
    """Name and tag this run, so that the list of waiting runs says what each one needs."""
    async with get_client() as client:
        await _update(client, name, [*tags])


async def answers(prefix: str) -> list[dict[str, Any]]:
    """What was typed into this run's Resume form, oldest first, for waits of this prefix."""
    run_id = flow_run.id
    if not run_id:
        return []
    async with get_client() as client:
        found = []
        for paused in ("suspended", "paused"):
            found += await client.filter_flow_run_input(
                flow_run_id=UUID(str(run_id)),
                key_prefix=f"{paused}-{prefix}",
                limit=200,
                exclude_keys=set(),
            )
    given = [entry for entry in found if entry.key.endswith("-response")]
    given.sort(key=lambda entry: entry.created or entry.key)
    return [entry.decoded_value for entry in given if isinstance(entry.decoded_value, dict)]


async def _update(client: PrefectClient, name: str, tags: list[str]) -> None:
    run_id = UUID(str(flow_run.id))
    await client.update_flow_run(run_id, name=name, tags=["refund", *tags])
