"""What was found when a refund was last assessed, as its history has it.

A run that goes on where another one died judges by the facts that were recorded, not by new
ones: by then its own reservation is among them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from refunds.ledger import policies, schema
from refunds.ledger.book import Ledger
from refunds.ledger.pages import among
from refunds.models import (
    AfterSale,
    ApprovalRequest,
    Assessment,
    Case,
    Order,
    Proposal,
    RefundRequest,
    RiskFeatures,
    Rival,
)
from refunds.policy_file import Policy

_ASSESSED, _ASKED = "refund.assessed", "approval.requested"

# After these the facts are looked at anew.
_CLOSING = ("payment.reconsidered", "approval.superseded")


@dataclass(frozen=True)
class Assessed:
    """One round's facts, verdict and question; `is_open`: nothing has changed them since."""

    case: Case
    risk: RiskFeatures
    assessment: Assessment
    rules: Policy
    approval: ApprovalRequest | None = None
    is_open: bool = True


def rounds(ledger: Ledger, wanted: Iterable[RefundRequest]) -> dict[str, list[Assessed]]:
    """The assessments of each of these refunds, oldest first, by refund id."""
    requests = {request.refund_id: request for request in wanted}
    row = schema.history.c
    found: dict[str, dict[int, Assessed]] = {refund_id: {} for refund_id in requests}
    with ledger.reading() as connection:
        events = connection.execute(
            sa.select(row.refund_id, row.event, row.data)
            .where(among(connection, row.refund_id, requests))
            .where(row.event.in_((_ASSESSED, _ASKED, *_CLOSING)))
            .order_by(row.refund_id, row.sequence)
        ).all()
    for refund_id, event, data in events:
        mine = found[refund_id]
        if event == _ASSESSED:
            mine[data["round"]] = _assessed(ledger, requests[refund_id], data)
        elif event == _ASKED:
            approval = ApprovalRequest.model_validate(data)
            mine[approval.round] = replace(mine[approval.round], approval=approval)
        elif mine:
            mine[max(mine)] = replace(mine[max(mine)], is_open=False)
    return {refund_id: [mine[key] for key in sorted(mine)] for refund_id, mine in found.items()}


def _assessed(ledger: Ledger, request: RefundRequest, data: dict[str, Any]) -> Assessed:
    assessment = Assessment.model_validate(data["assessment"])
    return Assessed(
        case=case_of(request, data),
        risk=RiskFeatures.model_validate(data["risk"]),
        assessment=assessment,
        rules=policies.policy_of(ledger, assessment.policy_version),
    )


def told(case: Case) -> dict[str, Any]:
    """Every fact of a case beside its request, as the assessment's event keeps it."""
    return {
        "round": case.round,
        "order": case.order.plain() if case.order else None,
        "proposal": case.proposal.plain() if case.proposal else None,
        "after_sales": [record.plain() for record in case.after_sales],
        "evidence": list(case.evidence),
        "rivals": [rival.plain() for rival in case.rivals],
    }


def case_of(request: RefundRequest, data: dict[str, Any]) -> Case:
    """The case as the assessment's event has it, for the amount that was in force then.

    Raises ValidationError for facts that this version cannot read.
    """
    kept = data.get("proposal")
    proposal = Proposal.model_validate(kept) if kept else None
    if proposal is not None:
        request = request.model_copy(update={"amount_minor": proposal.amount_minor})
    return Case(
        request=request,
        round=data["round"],
        order=Order.model_validate(data["order"]) if data["order"] else None,
        proposal=proposal,
        after_sales=tuple(AfterSale.model_validate(part) for part in data["after_sales"]),
        evidence=tuple(data.get("evidence", ())),
        rivals=tuple(Rival.model_validate(part) for part in data["rivals"]),
    )
