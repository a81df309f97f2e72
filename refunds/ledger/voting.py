"""One person's vote on a question: whether it counts, and how many that count there are."""

from dataclasses import dataclass
from typing import Any

from refunds.authority import Claim, folded, may_not_approve, may_not_reject, same_person
from refunds.differences import Change, changes_between, told
from refunds.errors import (
    ApproverRefused,
    ChargeDisputed,
    Conflict,
    DecisionConflict,
    DecisionLate,
    DigestStale,
    NothingToDecide,
)
from refunds.ledger import people, proposals, questions, spent_links
from refunds.ledger.book import Page
from refunds.ledger.people import Register
from refunds.ledger.questions import OPEN, SUPERSEDED, Standing
from refunds.ledger.votes import MEANING, Vote
from refunds.models import Decision


@dataclass(frozen=True)
class Ruling:
    """What becomes of a vote: refused, known already, or new and to be stored for `claim`."""

    claim: Claim
    refusal: Conflict | None = None
    is_new: bool = False


def judge(page: Page, current: Standing | None, vote: Vote) -> Ruling:
    """Whether the vote counts, in the transaction that would store it."""
    register = people.register(page.connection)
    claim = _claim(register, vote)
    meaning = str(MEANING[vote.choice])
    is_proposal = proposals.is_proposal(page, vote)
    if current is not None and proposals.is_in_force(page, current, vote, name_of(claim)):
        return Ruling(claim)
    if current is None or current.status == SUPERSEDED:
        return Ruling(claim, NothingToDecide(f"nobody is being asked about {page.refund_id} now"))
    if current.status == meaning and not is_proposal:
        return Ruling(claim)
    if current.status != OPEN or page.now >= current.deadline:
        return Ruling(claim, _too_late(page.refund_id, current))
    earlier = [d for d in current.decisions if same_person(d["person"], name_of(claim))]
    if earlier and not is_proposal:
        said = f"{vote.person} already said {earlier[0]['decision']}"
        is_same = earlier[0]["decision"] == meaning
        return Ruling(claim, None if is_same else DecisionConflict(said))
    refusal = (
        _misled(page, vote, claim)
        or _unpayable(page, current, vote)
        or proposals.why_not(page, current, vote)
        or _not_theirs(page, current, vote, claim, register)
    )
    return Ruling(claim, refusal, is_new=refusal is None)


def name_of(claim: Claim) -> str:
    """The name that is kept: the registered id, else the name as it was given."""
    return claim.person.person_id if claim.person else claim.name.strip()


def approvals_that_count(page: Page, current: Standing) -> int:
    """How many different people's approvals count now: whoever lost the right since does not."""
    register = people.register(page.connection)
    question = current.question(page.row)
    able = set()
    for decision in current.decisions:
        claim = _claim_of(register, decision)
        is_approval = decision["decision"] == Decision.APPROVED
        if is_approval and not may_not_approve(
            question, claim, decision["decided_at"], anyone_registered=bool(register)
        ):
            able.add(folded(decision["person"]))
    return len(able)


def _claim(register: Register, vote: Vote) -> Claim:
    return Claim(
        name=vote.person,
        channel=vote.channel,
        verified=vote.verified,
        person=register.find(vote.person),
        principal=register.find(vote.on_behalf_of) if vote.on_behalf_of else None,
        on_behalf_of=vote.on_behalf_of,
    )


def _claim_of(register: Register, decision: dict[str, Any]) -> Claim:
    """The claim as which a stored decision was made."""
    principal = decision["for_person"]
    return Claim(
        name=decision["person"],
        channel=decision["channel"],
        verified=decision["verified"],
        person=register.find(decision["person"]),
        principal=register.find(principal) if principal else None,
        on_behalf_of=principal,
    )


def _too_late(refund_id: str, current: Standing) -> Conflict:
    if current.status in (OPEN, Decision.EXPIRED):
        return DecisionLate(f"{refund_id}: the deadline was {current.deadline:%Y-%m-%d %H:%M} UTC")
    return DecisionConflict(f"{refund_id} was already {current.status}")


def _misled(page: Page, vote: Vote, claim: Claim) -> Conflict | None:
    if vote.link is None:
        return None
    return spent_links.why_not(page.connection, vote.link, page.refund_id, name_of(claim))


def _unpayable(page: Page, current: Standing, vote: Vote) -> Conflict | None:
    stale = _stale(page, current, vote)
    if stale is None and vote.choice == "approve" and current.facts.get("is_disputed"):
        return ChargeDisputed(
            f"{page.refund_id}: its charge is disputed, and nothing is paid while the bank has "
            "not decided; reject it, or come back when the dispute is over"
        )
    return stale


def _stale(page: Page, current: Standing, vote: Vote) -> Conflict | None:
    """Somebody saw another question; say what is different where that question is known."""
    seen_digests = {vote.digest, vote.link.digest if vote.link else None} - {None, current.digest}
    if not seen_digests:
        return None
    seen = questions.facts_of(page.connection, page.refund_id, str(seen_digests.pop()))
    changes: tuple[Change, ...] = changes_between(seen, current.facts) if seen else ()
    difference = f" ({told(changes)})" if changes else ""
    return DigestStale(
        f"{page.refund_id}: what you saw is not what is asked now; look again{difference}", changes
    )


def _not_theirs(
    page: Page, current: Standing, vote: Vote, claim: Claim, register: Register
) -> Conflict | None:
    rule = may_not_approve if vote.choice == "approve" else may_not_reject
    question = current.question(page.row, vote.amount_minor)
    why = rule(question, claim, page.now, anyone_registered=bool(register))
    if why is not None:
        return ApproverRefused(why)
    return None if proposals.is_proposal(page, vote) else _spoken_for(current, claim)


def _spoken_for(current: Standing, claim: Claim) -> Conflict | None:
    """One right to decide counts once: a principal and the delegate are not two people."""
    mine = {folded(name_of(claim))}
    if claim.principal is not None:
        mine.add(folded(claim.principal.person_id))
    for decision in current.decisions:
        theirs = {folded(n) for n in (decision["person"], decision["for_person"]) if n}
        if mine & theirs:
            whom = f" for {decision['for_person']}" if decision["for_person"] else ""
            return ApproverRefused(
                f"{decision['person']} decided{whom} already; a delegate and whom they act for "
                "count as one"
            )
    return None
