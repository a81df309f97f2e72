"""The question put to people, as the ledger has it: read in one place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from refunds.approver_rules import ApproverRules
from refunds.authority import Question
from refunds.ledger import schema
from refunds.ledger.book import Ledger
from refunds.ledger.pages import among
from refunds.models import ApprovalRequest, Level, Reason

OPEN = "open"
SUPERSEDED = "superseded"

# The inbox's order: urgent questions before normal ones, each by its deadline.
URGENT = 1
NORMAL = 2


@dataclass(frozen=True)
class Standing:
    """Where an approval stands: its status and who decided what."""

    approval_id: str
    status: str
    digest: str
    people_needed: int
    verified_needed: bool
    decisions: tuple[dict[str, Any], ...]
    facts: dict[str, Any]
    escalate_at: Any
    deadline: Any
    round: int
    requested_by: str
    priority: int
    level: str
    rules: ApproverRules = field(default_factory=ApproverRules)
    levels: tuple[Level, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def policy_version(self) -> str:
        """The policy under which it was asked."""
        return str(self.facts.get("policy_version", ""))

    def request(self, refund_id: str) -> ApprovalRequest:
        """The question as it was put."""
        return ApprovalRequest(
            approval_id=self.approval_id,
            refund_id=refund_id,
            round=self.round,
            digest=self.digest,
            facts=self.facts,
            people_needed=self.people_needed,
            verified_needed=self.verified_needed,
            escalate_at=self.escalate_at,
            deadline=self.deadline,
            levels=self.levels,
            reasons=self.reasons,
            rules=self.rules,
        )

    def question(self, row: dict[str, Any], amount_minor: int | None = None) -> Question:
        """What matters of it for who may decide; `row` is the refund's.

        `amount_minor` is what would be paid in place of what is asked.
        """
        proposal = row["proposal"] or {}
        return Question(
            amount_minor=row["amount_minor"] if amount_minor is None else amount_minor,
            currency=row["currency"],
            requester=self.requested_by,
            customer=row["customer_id"],
            people_needed=self.people_needed,
            verified_needed=self.verified_needed,
            audiences=frozenset(level.audience for level in self.levels),
            rules=self.rules,
            proposer=proposal.get("proposed_by"),
        )


def read(
    connection: sa.Connection, refund_id: str, round_number: int | None = None
) -> Standing | None:
    """The refund's latest question, or that of one round."""
    row = schema.approvals.c
    query = sa.select(schema.approvals).where(row.refund_id == refund_id)
    if round_number is not None:
        query = query.where(row.round == round_number)
    found = connection.execute(query.order_by(row.round.desc()).limit(1)).mappings().first()
    if found is None:
        return None
    taken = connection.execute(
        sa.select(schema.decisions)
        .where(schema.decisions.c.approval_id == found["approval_id"])
        .order_by(schema.decisions.c.decided_at, schema.decisions.c.person)
    ).mappings()
    return Standing(
        approval_id=found["approval_id"],
        status=found["status"],
        digest=found["digest"],
        people_needed=found["people_needed"],
        verified_needed=found["verified_needed"],
        decisions=tuple(dict(decision) for decision in taken),
        facts=found["facts"],
        escalate_at=found["escalate_at"],
        deadline=found["deadline"],
        round=found["round"],
        requested_by=found["requested_by"],
        priority=found["priority"],
        level=found["level"],
        rules=ApproverRules.model_validate(found["rules"] or {}),
        levels=_levels(found),
        reasons=tuple(Reason.model_validate(reason) for reason in found["reasons"] or ()),
    )


def statuses(ledger: Ledger, rounds: Mapping[str, int]) -> dict[str, tuple[str, datetime]]:
    """The status and the deadline of each refund's question of a round, by refund id."""
    row = schema.approvals.c
    with ledger.reading() as connection:
        query = sa.select(row.refund_id, row.round, row.status, row.deadline).where(
            among(connection, row.refund_id, rounds)
        )
        return {
            refund_id: (status, deadline)
            for refund_id, number, status, deadline in connection.execute(query)
            if number == rounds[refund_id]
        }


def facts_of(connection: sa.Connection, refund_id: str, digest: str) -> dict[str, Any] | None:
    """The facts of an earlier question of this refund, by the digest that somebody saw."""
    row = schema.approvals.c
    found: dict[str, Any] | None = connection.execute(
        sa.select(row.facts).where(row.refund_id == refund_id, row.digest == digest)
    ).scalar()
    return found


def _levels(row: Any) -> tuple[Level, ...]:
    """The levels; the last one lasts until the deadline, which may have been moved."""
    levels = [Level.model_validate(level) for level in row["levels"] or ()]
    return (
        *levels[:-1],
        *(last.model_copy(update={"until": row["deadline"]}) for last in levels[-1:]),
    )
