"""The question put to a person, from a case, its assessment and the policy. Pure."""

from datetime import datetime, timedelta

from refunds.approver_rules import ApproverRules
from refunds.models import ApprovalRequest, Assessment, Case, Level
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
