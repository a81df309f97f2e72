"""Deployed refunds and a gateway that settles late, changes its mind, or is away for a while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from refunds.ledger import effects, outages
from refunds.policy_file import DEFAULT_POLICY_FILE
from tests.chaos.chaos_stack import ChaosStack, until

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

_PAY = "POST /gateway/v1/refunds"


@pytest.fixture
def impatient(stack: ChaosStack) -> Iterator[ChaosStack]:
    """The stack under a policy that tries a system that is away again after seconds."""
    text = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
    before = "outage_seconds = [30, 120,"
    assert before in text
    file = stack.home / "policy.toml"
    file.write_text(text.replace(before, "outage_seconds = [3, 3, 3, 3, 3, 3, 3,"))
    yield stack
    stack.faults([])
    file.unlink()


def _fault(kind: str, endpoint: str = _PAY, **fields: Any) -> dict[str, Any]:
    return {"endpoint": endpoint, "kind": kind, "times": None, **fields}


def _settle(stack: ChaosStack, refund_id: str, status: str) -> None:
    effect = effects.read(stack.ledger, f"{refund_id}:issue_refund")
    assert effect is not None
    assert effect.response is not None
    body = {"refund": effect.response["id"], "status": status}
    stack.sandbox.put("/gateway/settle", json=body).raise_for_status()


def _until_waiting(stack: ChaosStack, refund_id: str, name: str) -> None:
    until(lambda: stack.waits_for(refund_id, name), f"{refund_id} waits for {name}")


def _until_ended(stack: ChaosStack, refund_id: str, outcome: str) -> list[str]:
    """Wait until nothing of a refund is left to do; returns what was done, each once."""

    def is_over() -> bool:
        row = stack.row(refund_id)
        return (row["state"], row["outcome"]) == ("completed", outcome)

    until(is_over, f"{refund_id} ended {outcome}")
    acts = stack.acts(refund_id)
    assert len(set(acts)) == len(acts)
    return acts


def test_a_pending_payment_is_settled_by_webhook_or_by_asking_and_undone_when_refused_late(
    stack: ChaosStack,
) -> None:
    told, asked, refused = ids = [f"rf_pending_{how}" for how in ("told", "asked", "refused")]
    stack.faults(
        [
            *(_fault("pending", match={"refund_id": refund_id}) for refund_id in ids),
            _fault("webhook_drop", "webhook", match={"refund_id": asked}),
        ]
    )
    stack.take_together(dict.fromkeys(ids, 10_000))
    for refund_id in ids:
        _until_waiting(stack, refund_id, "settlement")
        assert stack.row(refund_id)["lease_holder"] is None
    for refund_id, status in ((told, "succeeded"), (asked, "succeeded"), (refused, "failed")):
        _settle(stack, refund_id, status)
    for refund_id, outcome in ((told, "PAID"), (asked, "PAID"), (refused, "FAILED")):
        acts = _until_ended(stack, refund_id, outcome)
        is_undone = f"{refund_id}:cancel_return_label" in acts
        assert is_undone is (outcome == "FAILED")
    stack.faults([])
    assert stack.problems() == []


@pytest.mark.long
def test_a_gateway_that_is_away_is_waited_for_is_seen_and_then_pays_all(
    impatient: ChaosStack,
) -> None:
    stack, ids = impatient, [f"rf_away_{number}" for number in range(4)]
    stack.faults([_fault("error_before", status=503)])
    stack.take_together(dict.fromkeys(ids, 10_000))
    until(lambda: outages.every(stack.ledger), "the gateway counts as away")
    said = stack.run("doctor")
    assert said.returncode == 1
    assert "gateway is away since" in said.stdout
    for refund_id in ids:
        _until_waiting(stack, refund_id, "outage-gateway")
        assert stack.row(refund_id)["outcome"] is None
    stack.faults([])
    for refund_id in ids:
        _until_ended(stack, refund_id, "PAID")
    assert outages.every(stack.ledger) == []
    assert "✓ outages: none" in stack.run("doctor").stdout
    assert stack.problems() == []
