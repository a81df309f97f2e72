"""A decision at a door, checked as input before anything else sees it."""

from pydantic import TypeAdapter, ValidationError

from refunds import links
from refunds.errors import BadInput
from refunds.ledger.approvals import Choice, Vote
from refunds.origin import Origin
from refunds.values import Name, Sentence
from tasks import books

_PERSON: TypeAdapter[str] = TypeAdapter(Name)
_REASON: TypeAdapter[str] = TypeAdapter(Sentence)


def vote(
    choice: Choice,
    person: str,
    *,
    reason: str,
    digest: str | None,
    origin: Origin,
    on_behalf_of: str | None,
    link: str | None,
    amount_minor: int | None,
) -> Vote:
    """A vote as a door may hand it on.

    Raises BadInput for what the ledger could not keep, LinkRefused for a link that is not ours.
    """
    if choice not in ("approve", "reject"):
        raise BadInput(f"a decision is 'approve' or 'reject', not {choice!r}")
    why = check_person(person, reason)
    if amount_minor is not None and (choice == "reject" or amount_minor <= 0):
        raise BadInput("an amount goes with an approval, and is above 0 minor units")
    if on_behalf_of is not None:
        check_person(on_behalf_of, "")
    return Vote(
        choice=choice,
        person=person.strip(),
        channel=origin.channel,
        verified=origin.channel in books.policy().approval.verified_channels,
        reason=why,
        digest=digest,
        on_behalf_of=on_behalf_of,
        link=None if link is None else links.read(link, books.ledger().clock()),
        amount_minor=amount_minor,
        ip=origin.ip,
        user_agent=origin.user_agent,
    )


def check_person(person: str, reason: str) -> str:
    """The reason as it is kept. Raises BadInput for a name or reason that cannot be kept at all."""
    try:
        _PERSON.validate_python(person.strip())
        return _REASON.validate_python(reason)
    except ValidationError as error:
        said = error.errors(include_input=False)[0]["msg"]
        raise BadInput(f"the person's name and the reason must be plain text: {said}") from error
