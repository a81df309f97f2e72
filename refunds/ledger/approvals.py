"""Approvals: what a person is asked, bound to a digest, decided once."""

from typing import Any

import sqlalchemy as sa

from refunds.authority import folded, same_person
from refunds.errors import NothingToDecide
from refunds.ledger import proposals, questions, schema, spent_links, voting, waits
from refunds.ledger.book import Ledger, Page
from refunds.ledger.inbox import Filters, Waiting, count_waiting, waiting_for
from refunds.ledger.questions import OPEN, SUPERSEDED, URGENT, Standing
from refunds.ledger.votes import MEANING, Choice, Vote
from refunds.ledger.voting import Ruling
from refunds.models import ApprovalRequest, Decision, State

__all__ = [
    "OPEN",
    "SUPERSEDED",
    "Choice",
    "Filters",
    "Standing",
    "Vote",
    "Waiting",
    "asked",
    "count_waiting",
    "decide",
    "escalate",
    "expire",
    "open_approval",
    "refuse",
    "refused_answers",
    "same_person",
    "standing",
    "supersede",
    "waiting_for",
    "withdraw",
]

_REFUSED = "decision.refused"


def open_approval(ledger: Ledger, request: ApprovalRequest, requested_by: str, fence: int) -> None:
    """Ask: commit the question before any card goes out. Asking it again changes nothing."""
    with ledger.page(request.refund_id, fence) as page:
        if _row(page.connection, request.approval_id) is None:
            page.connection.execute(
                schema.approvals.insert().values(
                    approval_id=request.approval_id,
                    refund_id=request.refund_id,
                    round=request.round,
                    digest=request.digest,
                    facts=request.facts,
                    requested_by=requested_by,
                    people_needed=request.people_needed,
                    verified_needed=request.verified_needed,
                    status=OPEN,
                    escalate_at=request.escalate_at,
                    deadline=request.deadline,
                    opened_at=page.now,
                    reasons=[reason.plain() for reason in request.reasons],
                    levels=[level.plain() for level in request.levels],
                    level=str(request.levels[0]) if request.levels else "",
                    audiences="".join(f"|{level.audience}|" for level in request.levels),
                    rules=request.rules.plain(),
                    limit_minor=request.rules.limit_minor,
                    requester_key=folded(requested_by),
                    customer_key=folded(page.row["customer_id"]),
                )
            )
            page.append("approval.requested", request.plain())
            page.enter(State.AWAITING_APPROVAL)


def asked(ledger: Ledger, refund_id: str, round_number: int) -> ApprovalRequest | None:
    """The question of a round exactly as it was asked, or None when it never was."""
    found = standing(ledger, refund_id, round_number)
    return None if found is None else found.request(refund_id)


def escalate(ledger: Ledger, refund_id: str, round_number: int, level: str, fence: int) -> None:
    """The question has gone up to a level: from now on it is urgent. Again changes nothing."""
    with ledger.page(refund_id, fence) as page:
        current = questions.read(page.connection, refund_id, round_number)
        if current is None or current.status != OPEN or current.level in ("", level):
            return
        page.append("approval.escalated", {"approval_id": current.approval_id, "level": level})
        page.connection.execute(
            schema.approvals.update()
            .where(schema.approvals.c.approval_id == current.approval_id)
            .values(level=level, priority=URGENT)
        )


def standing(ledger: Ledger, refund_id: str, round_number: int | None = None) -> Standing | None:
    """The refund's latest approval, or that of one round, if it was ever asked."""
    with ledger.reading() as connection:
        return questions.read(connection, refund_id, round_number)


def decide(ledger: Ledger, refund_id: str, vote: Vote) -> Standing:
    """Take one person's decision, once; every refusal is kept in the history too.

    A vote for a smaller amount decides nothing: it supersedes the question. The same decision
    again returns what is stored. Raises UnknownRefund, or a Conflict: NothingToDecide,
    DecisionConflict, DecisionLate, DigestStale, ApproverRefused, ChargeDisputed or LinkRefused.
    """
    with ledger.page(refund_id) as page:
        current = questions.read(page.connection, refund_id)
        ruling = voting.judge(page, current, vote)
        if ruling.refusal is not None:
            _note_refusal(page, current, vote, str(ruling.refusal))
        elif current is not None and ruling.is_new and proposals.is_proposal(page, vote):
            proposals.put(page, current, vote, voting.name_of(ruling.claim))
            _spend(page, vote)
            withdraw(page, current, "a smaller amount was proposed")
        elif current is not None and ruling.is_new:
            _store(page, current, vote, ruling)
        after = questions.read(page.connection, refund_id)
    if ruling.refusal is not None:
        raise ruling.refusal
    if after is None:
        raise NothingToDecide(f"nobody is being asked about {refund_id}")
    return after


def refuse(ledger: Ledger, refund_id: str, vote: Vote, why: str) -> None:
    """Keep in the history that a vote was refused before it came to the ledger."""
    with ledger.page(refund_id) as page:
        _note_refusal(page, questions.read(page.connection, refund_id), vote, why)


def refused_answers(ledger: Ledger, refund_id: str) -> dict[str, str]:
    """Why each answer of a form that was refused before was, by the answer's name."""
    row = schema.history.c
    query = sa.select(row.data).where(row.refund_id == refund_id, row.event == _REFUSED)
    with ledger.reading() as connection:
        found = connection.execute(query).scalars()
        return {data["answer"]: data["why"] for data in found if "answer" in data}


def expire(ledger: Ledger, refund_id: str) -> bool:
    """Close an open approval whose deadline has passed; False when it was decided or not due."""
    with ledger.page(refund_id) as page:
        current = questions.read(page.connection, refund_id)
        if current is None or current.status != OPEN or page.now < current.deadline:
            return False
        _close(page, current.approval_id, str(Decision.EXPIRED))
        return True


def supersede(ledger: Ledger, refund_id: str, approval_id: str, why: str) -> None:
    """The facts changed: this approval counts no more, and the next round is due."""
    with ledger.page(refund_id) as page:
        current = questions.read(page.connection, refund_id)
        if current is not None and current.approval_id == approval_id:
            withdraw(page, current, why)


def withdraw(page: Page, current: Standing, why: str) -> None:
    """Take the question back, unless it ended without an approval."""
    if current.status not in (SUPERSEDED, str(Decision.EXPIRED), str(Decision.REJECTED)):
        page.append("approval.superseded", {"approval_id": current.approval_id, "why": why})
        _close(page, current.approval_id, SUPERSEDED)


def _spend(page: Page, vote: Vote) -> None:
    if vote.link is not None:
        spent_links.spend(page, vote.link)


def _note_refusal(page: Page, current: Standing | None, vote: Vote, why: str) -> None:
    page.append(
        _REFUSED,
        {
            "person": vote.person,
            "choice": vote.choice,
            "channel": vote.channel,
            "why": why,
            "for_person": vote.on_behalf_of,
            "origin": vote.origin.plain(),
            "digest": vote.digest,
            "asked": None if current is None else current.digest,
            "policy_version": None if current is None else current.policy_version,
            **({"answer": vote.answer} if vote.answer else {}),
        },
    )


def _store(page: Page, current: Standing, vote: Vote, ruling: Ruling) -> None:
    decision, principal, origin = MEANING[vote.choice], ruling.claim.principal, vote.origin
    person = voting.name_of(ruling.claim)
    entry = {
        "approval_id": current.approval_id,
        "person": person,
        "decision": str(decision),
        "reason": vote.reason,
        "channel": origin.channel,
        "verified": vote.verified,
        "for_person": principal.person_id if principal else None,
        "ip": origin.ip,
        "user_agent": origin.user_agent,
    }
    page.connection.execute(
        schema.decisions.insert().values(**entry, decided_at=page.now, person_key=folded(person))
    )
    _spend(page, vote)
    # What was seen is kept beside what was asked: a door that shows nothing sends no digest.
    told = {"digest": current.digest, "seen": vote.digest, "policy_version": current.policy_version}
    page.append("decision.recorded", {**entry, **told})
    if decision is Decision.REJECTED or _are_enough(page):
        _close(page, current.approval_id, str(decision))


def _are_enough(page: Page) -> bool:
    current = questions.read(page.connection, page.refund_id)
    if current is None:
        return False
    return voting.approvals_that_count(page, current) >= current.people_needed


def _close(page: Page, approval_id: str, status: str) -> None:
    page.connection.execute(
        schema.approvals.update()
        .where(schema.approvals.c.approval_id == approval_id)
        .values(status=status, closed_at=page.now)
    )
    page.append("approval.closed", {"approval_id": approval_id, "status": status})
    if status == Decision.APPROVED:
        page.enter(State.APPROVED)
    waits.end(page, ("approval",), f"approval {status}")


def _row(connection: sa.Connection, approval_id: str) -> Any:
    return connection.execute(
        sa.select(schema.approvals.c.approval_id).where(
            schema.approvals.c.approval_id == approval_id
        )
    ).first()
