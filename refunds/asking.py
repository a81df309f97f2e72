"""The question put to a person, from a case, its assessment and the policy. Pure."""

from datetime import datetime, timedelta
from typing import Any

from refunds.approver_rules import ApproverRules
from refunds.authority import Question
from refunds.models import ApprovalRequest, Assessment, Case, Level, RefundRequest
from refunds.policy import binding_digest, bound_facts
from refunds.policy_file import Policy


def question(case: Case, assessment: Assessment, policy: Policy, now: datetime) -> ApprovalRequest:
    """What is asked, of whom, until when: everything a card, a door or a decision needs.

    A smaller amount that somebody proposed needs as many and as well-known people as the amount
    that was asked at first: a proposal never makes an approval easier.
    """
    request = case.request
    facts = bound_facts(case, assessment.opinion, assessment.policy_version)
    levels = _levels(policy, now)
    return ApprovalRequest(
        approval_id=f"{case.refund_id}:approval:{case.round}",
        refund_id=case.refund_id,
        round=case.round,
        digest=binding_digest(facts),
        facts=facts,
        reasons=assessment.reasons,
        people_needed=policy.people_needed(case.asked_minor, request.currency),
        verified_needed=policy.verified_needed(case.asked_minor, request.currency),
        levels=levels,
        rules=_rules(policy, request.currency),
        escalate_at=levels[0].until,
        deadline=levels[-1].until,
    )


def settlement(row: dict[str, Any], policy: Policy) -> Question:
    """Whose word counts on what became of a payment: whose approval of it would, by today's policy.

    `row` is the refund's.
    """
    currency = row["currency"]
    asked_minor = (row["proposal"] or {}).get("asked_minor", row["amount_minor"])
    return Question(
        amount_minor=row["amount_minor"],
        currency=currency,
        requester=RefundRequest.model_validate(row["request"]).requester,
        customer=row["customer_id"],
        people_needed=policy.people_needed(asked_minor, currency),
        verified_needed=policy.verified_needed(asked_minor, currency),
        audiences=frozenset(level.audience for level in policy.approval.levels),
        rules=_rules(policy, currency),
    )


def _levels(policy: Policy, now: datetime) -> tuple[Level, ...]:
    levels, until = [], now
    for rule in policy.approval.levels:
        until += timedelta(hours=rule.hours)
        levels.append(Level(name=rule.name, audience=rule.audience, until=until, block=rule.block))
    return tuple(levels)


def _rules(policy: Policy, currency: str) -> ApproverRules:
    return ApproverRules(
        limit_minor=policy.approver_up_to.of(currency) or 0,
        registered_only=policy.approval.registered_only,
        partial_allowed=policy.partial.allowed,
        proposer_may_approve=policy.partial.proposer_may_approve,
    )
