"""A smaller amount: an approver proposes it, and it is a new question; nothing is paid by it.

The rule: the amount only goes down; the question that was put counts no more and another one,
with its own digest, is put to as many and as well-known people as the amount that was asked at
first. The proposer approves it like anybody, where the policy lets them.
"""

from refunds.errors import ApproverRefused, Conflict
from refunds.ledger.book import Page
from refunds.ledger.questions import SUPERSEDED, Standing
from refunds.ledger.votes import Vote
from refunds.models import Proposal


def is_proposal(page: Page, vote: Vote) -> bool:
    """Whether the vote is for another amount than the one that is asked."""
    return vote.amount_minor not in (None, page.row["amount_minor"])


def is_in_force(page: Page, current: Standing, vote: Vote, name: str) -> bool:
    """Whether this very proposal was made already and the new question is still to be put."""
    known = page.row["proposal"] or {}
    same = (known.get("amount_minor"), known.get("proposed_by")) == (vote.amount_minor, name)
    return same and current.status == SUPERSEDED


def why_not(page: Page, current: Standing, vote: Vote) -> Conflict | None:
    """Why this amount cannot be proposed; amounts in minor units."""
    if not is_proposal(page, vote):
        return None
    if not current.rules.partial_allowed:
        return ApproverRefused("the policy under which this was asked allows no smaller amount")
    if not 0 < (vote.amount_minor or 0) < page.row["amount_minor"]:
        return ApproverRefused(
            f"only an amount below the {page.row['amount_minor']} that is asked may be proposed"
        )
    return None


def put(page: Page, current: Standing, vote: Vote, name: str) -> None:
    """From now on the smaller amount is what is asked; the caller closes the old question."""
    before = page.row["proposal"] or {}
    proposal = Proposal(
        asked_minor=before.get("asked_minor", page.row["amount_minor"]),
        amount_minor=vote.amount_minor or 0,
        proposed_by=name,
    )
    page.append(
        "amount.proposed",
        {
            **proposal.plain(),
            "reason": vote.reason,
            "for_person": vote.on_behalf_of,
            "origin": vote.origin.plain(),
            "verified": vote.verified,
            "digest": current.digest,
            "policy_version": current.policy_version,
        },
    )
    page.change(amount_minor=proposal.amount_minor, proposal=proposal.plain())
