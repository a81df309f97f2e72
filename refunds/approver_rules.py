"""What the policy says of who may answer one question."""

from refunds.values import Value, ZeroOrMoreMinor


class ApproverRules(Value):
    """Who may answer one question, by the policy under which it was asked.

    `limit_minor` holds for a registered approver without a limit of their own in the question's
    currency. A smaller amount may be proposed where `partial_allowed`.
    """

    limit_minor: ZeroOrMoreMinor = 0
    registered_only: bool = False
    partial_allowed: bool = False
    proposer_may_approve: bool = False
