"""Who may decide what: the people of a finance team and the rules between them. Pure.

A name at a door is a claim. Where nobody is registered a name counts as its door knows it.
Once anybody is, a registered person decides within role and limit, and a name that nobody
registered counts only below the amount that needs a checked identity, never as one of two.
"""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, model_validator

from refunds import money
from refunds.approver_rules import ApproverRules
from refunds.values import Currency, Name, Value, ZeroOrMoreMinor

# The role that may answer at every level; an audience of the policy's levels is a role as well.
APPROVER = "approver"

PersonId = Annotated[Name, Field(max_length=64)]


class Person(Value):
    """Somebody who may decide.

    `limits` is up to what amount, per currency in minor units; a currency that is not listed has
    the policy's own limit for approvers. While away (`away_from` ≤ now < `away_until`)
    `delegate_to` may act for them. `contact` is where a card of their own goes, if anywhere.
    """

    person_id: PersonId
    name: Name
    roles: tuple[Name, ...] = (APPROVER,)
    limits: dict[Currency, ZeroOrMoreMinor] = Field(default_factory=dict)
    is_active: bool = True
    away_from: AwareDatetime | None = None
    away_until: AwareDatetime | None = None
    delegate_to: PersonId | None = None
    contact: Annotated[str, Field(max_length=255)] = ""

    @model_validator(mode="after")
    def _absence_is_whole(self) -> Self:
        absence = (self.away_from, self.away_until, self.delegate_to)
        if any(part is None for part in absence) and absence != (None, None, None):
            raise ValueError("an absence has a beginning, an end and a delegate")
        if self.away_from and self.away_until and self.away_from >= self.away_until:
            raise ValueError("an absence ends after it begins")
        if self.delegate_to is not None and same_person(self.delegate_to, self.person_id):
            raise ValueError("nobody is their own delegate")
        return self

    @property
    def aliases(self) -> frozenset[str]:
        """The names under which this person may appear in a request, folded."""
        return frozenset(folded(n) for n in (self.person_id, self.name, self.contact) if n)

    def is_away(self, now: datetime) -> bool:
        """Whether the delegate may act for them now."""
        if self.away_from is None or self.away_until is None:
            return False
        return self.away_from <= now < self.away_until


@dataclass(frozen=True)
class Question:
    """What is to be decided, as far as it matters who decides it; the amount in minor units."""

    amount_minor: int
    currency: str
    requester: str
    customer: str
    people_needed: int
    verified_needed: bool
    audiences: frozenset[str]
    rules: ApproverRules
    proposer: str | None = None


@dataclass(frozen=True)
class Claim:
    """Who is said to decide.

    `person` is set when the name is registered, `principal` when the one it is done for is;
    `verified` when the door knows who it is.
    """

    name: str
    channel: str
    verified: bool
    person: Person | None
    principal: Person | None = None
    on_behalf_of: str | None = None


def same_person(one: str, other: str) -> bool:
    """Whether two names mean one person: case, width, spaces and unseen marks do not count."""
    return folded(one) == folded(other)


def folded(name: str) -> str:
    """The name as it is compared."""
    seen = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen).casefold().split())


def may_not_approve(
    question: Question, claim: Claim, now: datetime, *, anyone_registered: bool
) -> str | None:
    """Why this claim's approval does not count, or None when it does."""
    if _asked_for_it(question, claim):
        return f"{claim.name} asked for this refund and cannot approve it"
    if _proposed_it(question, claim):
        return f"{claim.name} proposed this amount; somebody else has to approve it"
    if question.verified_needed and not claim.verified:
        return (
            f"an amount this high needs an approver whose identity is checked; {claim.channel} "
            "only knows a name that was typed. Use `refunds decide` or the service"
        )
    if claim.person is None:
        return _unknown(question, claim, anyone_registered=anyone_registered)
    return _stands_in(question, claim, now) or _above_limit(question, claim)


def may_not_reject(
    question: Question, claim: Claim, now: datetime, *, anyone_registered: bool
) -> str | None:
    """Why this claim's rejection does not count, or None when it does.

    Whoever asked may take it back. Nothing is paid, so neither limit nor checked identity is
    needed; but a stranger does not end other people's refunds.
    """
    if claim.principal is None and _asked_for_it(question, claim):
        return None
    if claim.person is None and not question.rules.registered_only:
        return None if claim.on_behalf_of is None else _not_registered(claim)
    if claim.person is None:
        return _unknown(question, claim, anyone_registered=anyone_registered)
    return _stands_in(question, claim, now)


def may_not_steer(
    name: str, person: Person | None, audiences: frozenset[str], *, anyone_registered: bool
) -> str | None:
    """Why somebody may not resume or reset refunds, or None when they may.

    It takes a role that decides: approver, or an audience of the policy's levels. Before anybody
    is registered a name counts as its door knows it, as it does for a decision.
    """
    if not anyone_registered:
        return None
    if person is None or not person.is_active:
        return f"{name} is not an active registered person (`refunds people add`)"
    if {APPROVER, *audiences} & set(person.roles):
        return None
    roles = ", ".join((APPROVER, *sorted(audiences)))
    return f"{person.person_id} has no role that may resume or reset refunds: {roles}"


def limit_of(person: Person, currency: str, rules: ApproverRules) -> int:
    """Up to what a person may approve, in minor units: their own limit, else the policy's."""
    return person.limits.get(currency, rules.limit_minor)


def _asked_for_it(question: Question, claim: Claim) -> bool:
    asked = {folded(question.requester), folded(question.customer)}
    return bool(asked & _names(claim))


def _proposed_it(question: Question, claim: Claim) -> bool:
    if question.proposer is None or question.rules.proposer_may_approve:
        return False
    return folded(question.proposer) in _names(claim)


def _names(claim: Claim) -> frozenset[str]:
    people = [person for person in (claim.person, claim.principal) if person is not None]
    return frozenset({folded(claim.name)}).union(*(person.aliases for person in people))


def _unknown(question: Question, claim: Claim, *, anyone_registered: bool) -> str | None:
    """A name that nobody registered."""
    if question.rules.registered_only or claim.on_behalf_of is not None:
        return _not_registered(claim)
    if not anyone_registered:
        return None
    if question.verified_needed:
        return f"{_not_registered(claim)}; an amount this high needs one"
    if question.people_needed > 1:
        return f"{_not_registered(claim)}; where several people are needed each has to be"
    return None


def _not_registered(claim: Claim) -> str:
    return f"{claim.name} is not a registered approver (`refunds people add`)"


def _stands_in(question: Question, claim: Claim, now: datetime) -> str | None:
    """Whether the person holds a role that may answer: their own, or that of whom they act for."""
    person, principal = claim.person, claim.principal
    if person is None or not person.is_active:
        return f"{claim.name} is not an active approver"
    if claim.on_behalf_of is None:
        return _without_role(question, person)
    if principal is None or not principal.is_active:
        return f"{claim.on_behalf_of} is not an active approver, so nobody acts for them"
    if not principal.is_away(now):
        return f"{principal.person_id} is not away now, so nobody acts for them"
    if principal.delegate_to is None or not same_person(principal.delegate_to, person.person_id):
        return f"{principal.person_id} is away and named {principal.delegate_to}, not {claim.name}"
    return _without_role(question, principal)


def _without_role(question: Question, person: Person) -> str | None:
    if {APPROVER, *question.audiences} & set(person.roles):
        return None
    return f"{person.person_id} has no role that may answer this question"


def _above_limit(question: Question, claim: Claim) -> str | None:
    """A delegate has the smaller of both limits."""
    people = [person for person in (claim.person, claim.principal) if person is not None]
    for person in people:
        limit = limit_of(person, question.currency, question.rules)
        if question.amount_minor > limit:
            return (
                f"{money.show(question.amount_minor, question.currency)} is above the "
                f"{money.show(limit, question.currency)} that {person.person_id} may approve"
            )
    return None
