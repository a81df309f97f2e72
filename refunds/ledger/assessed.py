"""What was found when a refund was last assessed, as its history has it.

A run that goes on where another one died judges by the facts that were recorded, not by new
ones: by then its own reservation is among them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from refunds import policy_file
from refunds.ledger import policies, schema
from refunds.ledger.book import Ledger
from refunds.ledger.pages import among
from refunds.models import AfterSale, Assessment, Case, Order, RefundRequest, RiskFeatures, Rival
from refunds.policy_file import Policy

_ASSESSED, _RECONSIDERED = "refund.assessed", "payment.reconsidered"


@dataclass(frozen=True)
class Assessed:
    """One round's facts and verdict; `is_open` says that nothing has changed them since."""

    case: Case
    risk: RiskFeatures
    assessment: Assessment
    rules: Policy
    is_open: bool


def latest(ledger: Ledger, wanted: Iterable[RefundRequest]) -> dict[str, Assessed]:
    """The last assessment of each of these refunds that has one, by refund id."""
    requests = {request.refund_id: request for request in wanted}
    row = schema.history.c
    found: dict[str, Assessed] = {}
    with ledger.reading() as connection:
        events = connection.execute(
            sa.select(row.refund_id, row.event, row.data)
            .where(among(connection, row.refund_id, requests))
            .where(row.event.in_((_ASSESSED, _RECONSIDERED)))
            .order_by(row.refund_id, row.sequence)
        ).all()
    last = {refund_id: data for refund_id, event, data in events if event == _ASSESSED}
    closed = {refund_id: event == _RECONSIDERED for refund_id, event, _ in events}
    for refund_id, data in last.items():
        assessment = Assessment.model_validate(data["assessment"])
        rules = _policy(ledger, assessment.policy_version)
        if rules is None:
            continue
        found[refund_id] = Assessed(
            case=Case(
                request=requests[refund_id],
                round=data["round"],
                order=Order.model_validate(data["order"]) if data["order"] else None,
                after_sales=tuple(AfterSale.model_validate(part) for part in data["after_sales"]),
                rivals=tuple(Rival.model_validate(part) for part in data["rivals"]),
            ),
            risk=RiskFeatures.model_validate(data["risk"]),
            assessment=assessment,
            rules=rules,
            is_open=not closed[refund_id],
        )
    return found


def _policy(ledger: Ledger, version: str) -> Policy | None:
    text = policies.text_of(ledger, version)
    return policy_file.parse(text) if text is not None else None
