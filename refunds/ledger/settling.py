"""A payment whose ending nobody's books tell is ended by the word of people, with evidence.

Said to be paid it has succeeded. Said not to be paid it is `blocked`, as what the gateway would
not do: nothing was done, its money stays reserved, and a resumed refund makes a new attempt.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from refunds.authority import Claim, Question, folded, may_not_approve
from refunds.errors import CannotSettle
from refunds.ledger import charges, effects, leases, people, schema, waits
from refunds.ledger.book import Ledger, Page
from refunds.ledger.effects import ENDED_BY_PAYMENT, FINAL, PAYMENT_STEP, Effect, Ending
from refunds.models import State

SAID, SETTLED = "payment.settlement_said", "payment.settled"


@dataclass(frozen=True)
class Word:
    """What one person says became of a payment: paid, under somebody's `reference`, or not paid.

    `evidence` is how it is known: a statement of the bank, a letter of the gateway.
    """

    is_paid: bool
    reference: str
    person: str
    channel: str
    verified: bool
    reason: str
    evidence: str

    @property
    def told(self) -> str:
        """It in two words."""
        return f"paid as {self.reference}" if self.is_paid else "not paid"

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return dict(vars(self))


@dataclass(frozen=True)
class AtGateway:
    """What the gateway's books have: `against` says what contradicts the word, or is None.

    `refund` is the refund that the word names, where the gateway knows it.
    """

    against: str | None
    refund: dict[str, Any] | None


@dataclass(frozen=True)
class Settlement:
    """What a word would do, or has done: `said_by` is everybody who says so, this one included.

    It is done once they are as many as are `needed`; `refusal` says why it cannot be.
    """

    refund_id: str
    key: str
    word: Word
    amount_minor: int
    currency: str
    needed: int
    said_by: tuple[str, ...]
    refusal: str | None

    @property
    def is_enough(self) -> bool:
        """Whether this word ends the payment."""
        return self.refusal is None and len(self.said_by) >= self.needed

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        told = {name: getattr(self, name) for name in ("refund_id", "key", "amount_minor")}
        return {
            **told,
            "currency": self.currency,
            "is_paid": self.word.is_paid,
            "reference": self.word.reference,
            "needed": self.needed,
            "said_by": list(self.said_by),
            "refusal": self.refusal,
        }


def unsettled(ledger: Ledger, refund_id: str) -> Effect | None:
    """The payment of a refund that may still end either way."""
    effect = effects.read(ledger, effects.key_of(refund_id, PAYMENT_STEP))
    return None if effect is None or effect.state in (*FINAL, "blocked") else effect


def references_known(ledger: Ledger, references: Collection[str]) -> set[str]:
    """Which of the gateway's ids are payments that the ledger has."""
    row: Any = schema.effects.c
    reference = row.response["id"].as_string()
    with ledger.reading() as connection:
        query = sa.select(reference).where(
            row.step == PAYMENT_STEP, row.state == "succeeded", reference.in_(references)
        )
        return set(connection.execute(query).scalars())


def plan(
    ledger: Ledger, refund_id: str, word: Word, question: Question, found: AtGateway
) -> Settlement:
    """What the word would do; nothing is changed. Raises UnknownRefund."""
    with ledger.page(refund_id) as page:
        return _plan(page, ledger, word, question, found)


def apply(
    ledger: Ledger, refund_id: str, word: Word, question: Question, found: AtGateway
) -> Settlement:
    """Write the word down and, where it is enough, end the payment by it.

    Whoever ran the refund is fenced off. Paid, its money is booked and its wait is over; not
    paid, it goes on waiting for a person. Raises UnknownRefund, CannotSettle.
    """
    with ledger.page(refund_id) as page:
        settlement = _plan(page, ledger, word, question, found)
        if settlement.refusal is not None:
            raise CannotSettle(f"{refund_id} cannot be settled so: {settlement.refusal}")
        page.append(SAID, {"key": settlement.key, "needed": settlement.needed, **word.plain()})
        if settlement.is_enough:
            _end(page, settlement, found)
        return settlement


def _end(page: Page, settlement: Settlement, found: AtGateway) -> None:
    word, said_by = settlement.word, list(settlement.said_by)
    page.append(
        SETTLED,
        {
            "key": settlement.key,
            "is_paid": word.is_paid,
            "reference": word.reference,
            "said_by": said_by,
            "needed": settlement.needed,
        },
    )
    page.change(fence=page.row["fence"] + 1, lease_holder=None, lease_expires_at=None)
    who = " and ".join(said_by)
    detail = f"{word.told}, by the word of {who}: {word.reason}"
    effect = _payment(page)
    if not word.is_paid:
        page.change(
            attention=f"{settlement.key} was {detail}; `refunds resume` pays it anew, "
            "`refunds abandon` gives it up"
        )
        effects.record_on(page, Ending(settlement.key, "blocked", None, detail), effect)
        return
    response = found.refund or {
        "id": word.reference,
        "status": "succeeded",
        "amount": settlement.amount_minor,
        "currency": settlement.currency,
        "source": "people",
    }
    effects.record_on(page, Ending(settlement.key, "succeeded", response, detail), effect)
    effects.book_payment(page, "succeeded", charges.reservation_of(page))
    page.change(attention=None)
    waits.end(page, ENDED_BY_PAYMENT, f"payment settled by {who}")


def _plan(
    page: Page, ledger: Ledger, word: Word, question: Question, found: AtGateway
) -> Settlement:
    register = people.register(page.connection)
    mine = _name(register, word.person)
    earlier = _said_before(page, word, question, register)
    said_by = tuple(dict.fromkeys((*earlier, mine)))
    against = [
        *_of_refund(page, ledger),
        *filter(None, (found.against, _taken(page, word))),
        *_of_person(page, word, question, register),
    ]
    if mine in earlier and len(said_by) < question.people_needed:
        against.append(f"{mine} has said so already; somebody else has to say it too")
    return Settlement(
        refund_id=page.refund_id,
        key=effects.key_of(page.refund_id, PAYMENT_STEP),
        word=word,
        amount_minor=page.row["amount_minor"],
        currency=page.row["currency"],
        needed=question.people_needed,
        said_by=said_by,
        refusal=next(iter(against), None),
    )


def _of_refund(page: Page, ledger: Ledger) -> Iterator[str]:
    """What of the refund itself stands against it, gravest first."""
    effect = _payment(page)
    if page.row["outcome"] is not None:
        yield f"it is over: {page.row['outcome']}"
    if effect is None:
        yield "nothing was ever sent to be paid; `refunds resume` goes on with it"
    elif effect["state"] == "blocked":
        yield "it is known not to be paid; `refunds resume` pays it, `refunds abandon` gives it up"
    elif effect["state"] in FINAL:
        yield f"its payment has {effect['state']}, and that stands"
    if leases.is_held(page.row, ledger):
        yield "it is being carried on at this moment; try again when it waits"
    if page.row["state"] != State.NEEDS_ATTENTION:
        yield f"it is {page.row['state']}, needs nobody, and still ends by itself"


def _of_person(
    page: Page, word: Word, question: Question, register: people.Register
) -> Iterator[str]:
    """It may send the money anew or call it paid: that is for whoever could approve it."""
    claim = Claim(word.person, word.channel, word.verified, register.find(word.person))
    why = may_not_approve(question, claim, page.now, anyone_registered=bool(register))
    if why is not None:
        yield f"only somebody who could approve it may: {why}"


def _taken(page: Page, word: Word) -> str | None:
    """Whether the reference is another refund's payment already."""
    if not word.is_paid:
        return None
    row: Any = schema.effects.c
    other: str | None = page.connection.execute(
        sa.select(row.refund_id).where(
            row.step == PAYMENT_STEP,
            row.state == "succeeded",
            row.refund_id != page.refund_id,
            row.response["id"].as_string() == word.reference,
        )
    ).scalar()
    return None if other is None else f"{word.reference} is the payment of {other}"


def _said_before(
    page: Page, word: Word, question: Question, register: people.Register
) -> list[str]:
    """Who has said the same since the refund came to a person, and may still say it."""
    row = schema.history.c
    events = page.connection.execute(
        sa.select(row.event, row.data)
        .where(
            row.refund_id == page.refund_id,
            row.event.in_(("attention.needed", SAID, SETTLED)),
        )
        .order_by(row.sequence)
    ).all()
    said: list[Word] = []
    for event, data in events:
        if event != SAID:
            said = []
            continue
        one = Word(**{name: data[name] for name in Word.__dataclass_fields__})
        # Who says otherwise begins anew.
        said = [*said, one] if not said or said[0].told == one.told else [one]
    return [
        _name(register, one.person)
        for one in said
        if one.told == word.told and not list(_of_person(page, one, question, register))
    ]


def _name(register: people.Register, name: str) -> str:
    """The registered id, else the name as it is compared: nobody counts twice."""
    person = register.find(name)
    return person.person_id if person else folded(name)


def _payment(page: Page) -> dict[str, Any] | None:
    row = schema.effects.c
    query = sa.select(schema.effects).where(
        row.refund_id == page.refund_id, row.step == PAYMENT_STEP
    )
    found = page.connection.execute(query).mappings().first()
    return dict(found) if found else None
