"""Approvals: what a person is asked, bound to a digest, decided once."""

import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from refunds.errors import (
    ApproverRefused,
    Conflict,
    DecisionConflict,
    DecisionLate,
    DigestStale,
    NothingToDecide,
)
from refunds.ledger import schema, waits
from refunds.ledger.book import Ledger, Page
from refunds.models import ApprovalRequest, Decision, State

OPEN = "open"
SUPERSEDED = "superseded"

Choice = Literal["approve", "reject"]
_MEANING: dict[str, Decision] = {"approve": Decision.APPROVED, "reject": Decision.REJECTED}


@dataclass(frozen=True)
class Vote:
    """One person's decision as it arrives at a door.

    `verified` says whether the door knows the person's identity; `digest`, when given, is what
    the person saw.
    """

    choice: Choice
    person: str
    channel: str
    verified: bool
    reason: str = ""
    digest: str | None = None


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
                )
            )
            page.append("approval.requested", request.plain())
        page.enter(State.AWAITING_APPROVAL)


def standing(ledger: Ledger, refund_id: str, round_number: int | None = None) -> Standing | None:
    """The refund's latest approval, or that of one round, if it was ever asked."""
    with ledger.reading() as connection:
        return _standing(connection, refund_id, round_number)


def decide(ledger: Ledger, refund_id: str, vote: Vote) -> Standing:
    """Take one person's decision, once; every refusal is kept in the history too.

    The same decision again returns what is stored. Raises UnknownRefund, NothingToDecide,
    DecisionConflict, DecisionLate, DigestStale or ApproverRefused.
    """
    with ledger.page(refund_id) as page:
        current = _standing(page.connection, refund_id)
        refusal, is_new = _judge(page, current, vote)
        if refusal is not None:
            page.append(
                "decision.refused",
                {
                    "person": vote.person,
                    "choice": vote.choice,
                    "channel": vote.channel,
                    "why": str(refusal),
                },
            )
        elif current is not None and is_new:
            _store(page, current, vote)
        after = _standing(page.connection, refund_id)
    if refusal is not None:
        raise refusal
    if after is None:
        raise NothingToDecide(f"nobody is being asked about {refund_id}")
    return after


def expire(ledger: Ledger, refund_id: str) -> bool:
    """Close an open approval whose deadline has passed; False when it was decided or not due."""
    with ledger.page(refund_id) as page:
        current = _standing(page.connection, refund_id)
        if current is None or current.status != OPEN or page.now < current.deadline:
            return False
        _close(page, current.approval_id, str(Decision.EXPIRED))
        return True


def supersede(ledger: Ledger, refund_id: str, approval_id: str, why: str) -> None:
    """The facts changed: this approval counts no more, and the next round is due."""
    with ledger.page(refund_id) as page:
        current = _standing(page.connection, refund_id)
        if current is None or current.approval_id != approval_id:
            return
        if current.status not in (SUPERSEDED, str(Decision.EXPIRED), str(Decision.REJECTED)):
            page.append("approval.superseded", {"approval_id": approval_id, "why": why})
            _close(page, approval_id, SUPERSEDED)


def same_person(one: str, other: str) -> bool:
    """Whether two names mean one person: case, width, spaces and unseen marks do not count."""
    return _folded(one) == _folded(other)


def _folded(name: str) -> str:
    seen = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen).casefold().split())


def _judge(page: Page, current: Standing | None, vote: Vote) -> tuple[Conflict | None, bool]:
    """(why the vote is refused, whether it is new)."""
    meaning = str(_MEANING[vote.choice])
    if current is None or current.status == SUPERSEDED:
        return NothingToDecide(f"nobody is being asked about {page.refund_id} now"), False
    if current.status == meaning:
        return None, False
    if current.status != OPEN or page.now >= current.deadline:
        return _too_late(page.refund_id, current), False
    earlier = [d for d in current.decisions if same_person(d["person"], vote.person)]
    if earlier:
        same = earlier[0]["decision"] == meaning
        said = f"{vote.person} already said {earlier[0]['decision']}"
        return None if same else DecisionConflict(said), False
    return _may_decide(page, current, vote), True


def _too_late(refund_id: str, current: Standing) -> Conflict:
    if current.status in (OPEN, Decision.EXPIRED):
        return DecisionLate(f"{refund_id}: the deadline was {current.deadline:%Y-%m-%d %H:%M} UTC")
    return DecisionConflict(f"{refund_id} was already {current.status}")


def _may_decide(page: Page, current: Standing, vote: Vote) -> Conflict | None:
    if vote.digest is not None and vote.digest != current.digest:
        return DigestStale(f"{page.refund_id}: what you saw is not what is asked now; look again")
    if vote.choice == "reject":
        return None
    requested_by = page.connection.execute(
        sa.select(schema.approvals.c.requested_by).where(
            schema.approvals.c.approval_id == current.approval_id
        )
    ).scalar_one()
    customer_id = page.row["customer_id"]
    if same_person(vote.person, requested_by) or same_person(vote.person, customer_id):
        return ApproverRefused(f"{vote.person} asked for this refund and cannot approve it")
    if current.verified_needed and not vote.verified:
        return ApproverRefused(
            f"an amount this high needs an approver whose identity is checked; {vote.channel} "
            "only knows a name that was typed. Use `refunds decide` or the service"
        )
    return None


def _store(page: Page, current: Standing, vote: Vote) -> None:
    decision = _MEANING[vote.choice]
    entry = {
        "approval_id": current.approval_id,
        "person": vote.person.strip(),
        "decision": str(decision),
        "reason": vote.reason,
        "channel": vote.channel,
        "verified": vote.verified,
    }
    page.connection.execute(schema.decisions.insert().values(**entry, decided_at=page.now))
    page.append("decision.recorded", {**entry, "digest": current.digest})
    approvals = 1 + sum(d["decision"] == Decision.APPROVED for d in current.decisions)
    if decision is Decision.REJECTED or approvals >= current.people_needed:
        _close(page, current.approval_id, str(decision))


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


def _standing(
    connection: sa.Connection, refund_id: str, round_number: int | None = None
) -> Standing | None:
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
    )


def _row(connection: sa.Connection, approval_id: str) -> Any:
    return connection.execute(
        sa.select(schema.approvals.c.approval_id).where(
            schema.approvals.c.approval_id == approval_id
        )
    ).first()
