"""Logistics: stop what has not left yet, or have it sent back."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.models import Case, Kind, Receipt
from tasks import steps
from tasks.effect import Action, found, perform
from tasks.json_systems import creation, receipt, receipt_of, undoing
from tasks.systems.contract import Undoing


@task(
    name="hold_shipment",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # An earlier send is found by our reference before another one, so trying again is safe.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def hold_shipment(case: Case) -> Receipt:
    """Keep a cancelled order in the warehouse."""
    return receipt(await perform(shipment_hold(case)))


@task(
    name="release_shipment",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # Releasing what is released changes nothing.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def release_shipment(case: Case, hold: Receipt) -> Receipt:
    """Undo `hold_shipment`: nothing was paid, so the order goes out after all."""
    return receipt(await perform(releasing(case, hold)))


@task(
    name="create_return_label",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # As for holding a shipment.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def create_return_label(case: Case) -> Receipt:
    """Let the customer send the items back."""
    return receipt(await perform(return_label(case)))


@task(
    name="cancel_return_label",
    cache_key_fn=steps.by_refund,
    persist_result=True,
    # Cancelling what is cancelled changes nothing.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def cancel_return_label(case: Case, label: Receipt) -> Receipt:
    """Undo `create_return_label`: nothing was paid, so nothing has to come back."""
    return receipt(await perform(cancelling(case, label)))


@task(
    name="find_parcel",
    # Asked anew by every run, and asking is harmless.
    cache_policy=NO_CACHE,
    persist_result=False,
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def find_parcel(case: Case) -> Receipt | None:
    """What was done to the parcel of a refund that is given up: its hold or its label, if any."""
    action = shipment_hold(case) if case.request.kind is Kind.CANCEL else return_label(case)
    return receipt_of(await found(action))


def shipment_hold(case: Case) -> Action:
    """The hold on a cancelled order's parcel."""
    body = {"refund_id": case.refund_id, "order_id": case.request.order_id}
    return creation(case.refund_id, "hold_shipment", "logistics", "holds", body, id_field="hold_id")


def return_label(case: Case) -> Action:
    """The label for what comes back."""
    body = {
        "refund_id": case.refund_id,
        "order_id": case.request.order_id,
        "item_ids": list(case.request.item_ids),
    }
    return creation(
        case.refund_id, "create_return_label", "logistics", "labels", body, id_field="label_id"
    )


def releasing(case: Case, hold: Receipt) -> Action:
    """The end of a hold."""
    what = (case.refund_id, "release_shipment", "logistics", "holds", hold.reference)
    return undoing(Undoing(*what, verb="release", done="released"))


def cancelling(case: Case, label: Receipt) -> Action:
    """The end of a return label."""
    what = (case.refund_id, "cancel_return_label", "logistics", "labels", label.reference)
    return undoing(Undoing(*what, verb="cancel", done="cancelled"))
