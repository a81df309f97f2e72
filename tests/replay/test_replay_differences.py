"""A change of the flow is found at the step where it shows, and its cause is named."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import refund as flow_module
from flows import waiting as waiting_module
from refunds.history_document import HistoryDocument
from refunds.replay import Performance, Stage, replay
from tests.replay import paths
from tests.replay.rehearsal import Rehearsal

FLOW = "flows.refund"
Edited = Callable[..., Stage]


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """The flow with some of its lines replaced, each of which must be there."""

    def edit(*changes: tuple[str, str], module: str = FLOW) -> Stage:
        real = flow_module if module == FLOW else waiting_module
        source = inspect.getsource(real)
        for before, after in changes:
            assert source.count(before) == 1, before
            source = source.replace(before, after)
        path = tmp_path / "edited.py"
        path.write_text(source, encoding="utf-8")
        return Stage({module: path})

    return edit


@pytest.fixture
def paid(world: Rehearsal) -> HistoryDocument:
    return world.document(paths.approve(world))


def differing(
    document: HistoryDocument, stage: Stage
) -> tuple[Performance, str | None, str | None]:
    """(how it went, the step expected, the step issued)."""
    performance = replay(document, stage)
    found = performance.difference
    assert found is not None
    expected = found.expected.step if found.expected else None
    return performance, expected, found.issued.step if found.issued else None


CRM = "    await crm.sync_crm(case, outcome, why)\n"
CUSTOMER = "    await notices.notify_customer(case, outcome)\n"
SERVICE = "    await notices.notify_service(case, outcome, why)\n"


def test_swapped_steps_are_found_at_the_first_of_them(
    paid: HistoryDocument, edited: Edited
) -> None:
    stage = edited((CRM + CUSTOMER, CUSTOMER + CRM))
    performance, expected, issued = differing(paid, stage)
    assert (expected, issued) == ("sync_crm", "notify_customer")
    assert "order" in performance.cause


def test_an_added_step_is_found_where_it_was_added(paid: HistoryDocument, edited: Edited) -> None:
    stage = edited(
        (CRM, CRM + "    await orders.load_after_sale(case.model_copy(update={'round': 9}))\n")
    )
    performance, expected, issued = differing(paid, stage)
    assert (expected, issued) == ("notify_customer", "load_after_sale")
    assert "code changed" in performance.cause


def test_a_step_added_at_the_very_end_is_found(paid: HistoryDocument, edited: Edited) -> None:
    last = "    return await records.write_audit(case, outcome, why)"
    after = "    await orders.load_order(case.request, 9)"
    ended = last.replace("return", "ended =")
    stage = edited((last, f"{ended}\n{after}\n    return ended"))
    performance, expected, issued = differing(paid, stage)
    assert (expected, issued) == (None, "load_order")
    assert performance.difference is not None
    assert performance.difference.kind == "added"


def test_a_removed_step_is_missed_where_it_was(paid: HistoryDocument, edited: Edited) -> None:
    _, expected, issued = differing(paid, edited((CUSTOMER, "")))
    assert (expected, issued) == ("notify_customer", "notify_service")


def test_a_clock_read_is_found_at_the_step_that_is_given_it(
    paid: HistoryDocument, edited: Edited
) -> None:
    stage = edited(
        (
            "from typing import Any\n",
            "from datetime import UTC, datetime\nfrom typing import Any\n",
        ),
        ('f"Paid as {payment.reference}."', 'f"Paid {datetime.now(UTC)}"'),
    )
    performance, expected, issued = differing(paid, stage)
    assert (expected, issued) == ("sync_crm", "sync_crm")
    assert "clock" in performance.cause


def test_a_changed_branch_is_found_at_its_first_step(paid: HistoryDocument, edited: Edited) -> None:
    stage = edited(
        (
            "if case.request.kind is Kind.CANCEL:\n        parcel = await logistics.hold",
            "if case.request.kind is Kind.RETURN:\n        parcel = await logistics.hold",
        )
    )
    performance, expected, issued = differing(paid, stage)
    assert (expected, issued) == ("create_return_label", "hold_shipment")
    assert performance.difference is not None
    place = performance.difference.places[0]
    line = Path(place.file).read_text(encoding="utf-8").splitlines()[place.line - 1]
    assert "logistics.hold_shipment" in line
    assert place.function == "pay"


def test_another_input_is_found_at_its_step(paid: HistoryDocument, edited: Edited) -> None:
    stage = edited(('f"Paid as {payment.reference}."', '"Paid."'))
    performance, expected, issued = differing(paid, stage)
    assert (expected, issued) == ("sync_crm", "sync_crm")
    assert performance.difference is not None
    assert performance.difference.kind == "inputs"


def test_a_change_behind_a_wait_is_found_there(world: Rehearsal, edited: Edited) -> None:
    document = world.document(paths.review_approved(world))
    stage = edited(
        ("        answer = await waiting", "        break\n        answer = await waiting")
    )
    _, expected, _ = differing(document, stage)
    assert expected == "record_approval"


def test_a_change_of_how_it_waits_is_found(world: Rehearsal, edited: Edited) -> None:
    document = world.document(paths.settled_late(world))
    change = ("if isinstance(found, Payment):", "if not isinstance(found, Payment):")
    _, expected, _ = differing(document, edited(change, module="flows.waiting"))
    assert expected in {"await_settlement", "open_refund", None}


@pytest.mark.parametrize(
    "act",
    [
        "import socket\n    with socket.socket() as s: s.connect(('127.0.0.1', 9))",
        "import subprocess; subprocess.run(['true'])",
        "import sqlite3; sqlite3.connect(':memory:')",
        "open('replayed.txt', 'w')",
        "await payments.reconcile({'key': 'k', 'response': {'id': 're_1'}})",
        "records.check_against_shop([case.request])",
        "payments.issue_refund.submit(case)",
    ],
)
def test_a_flow_that_would_act_by_itself_is_stopped_before_it_does(
    paid: HistoryDocument, edited: Edited, act: str
) -> None:
    performance = replay(paid, edited((CRM, f"    {act}\n" + CRM)))
    assert performance.difference is not None
    assert performance.difference.kind == "sealed"
    assert not Path("replayed.txt").exists()


def test_an_error_of_the_flows_own_is_a_difference(paid: HistoryDocument, edited: Edited) -> None:
    performance = replay(paid, edited((CRM, "    case.nothing_there\n" + CRM)))
    assert performance.difference is not None
    assert performance.difference.kind == "raised"
    assert performance.difference.places[0].function == "conclude"


def test_a_failure_of_then_is_no_difference(world: Rehearsal) -> None:
    performance = replay(world.document(paths.outage(world)))
    assert performance.difference is None
    assert [(f.step, (f.error or {})["kind"]) for f in performance.failures] == [
        ("sync_crm", "StepUnknown")
    ]


def test_a_refund_that_still_waits_replays_up_to_its_wait(world: Rehearsal) -> None:
    performance = replay(world.document(paths.asked(world)))
    assert performance.difference is None
    assert performance.outcome is None
    assert performance.commands[-1].step == "record_approval"
