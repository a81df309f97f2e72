"""Signed links in the ledger: each is its person's, for one question, and good for one decision."""

import sqlalchemy as sa

from refunds.authority import same_person
from refunds.errors import LinkRefused
from refunds.ledger import schema
from refunds.ledger.book import Ledger, Page
from refunds.links import Link


def check(ledger: Ledger, link: Link, refund_id: str, person: str) -> None:
    """Raise LinkRefused unless the link is this person's, for this refund, and not spent.

    For the page that it leads to: nothing is spent by looking.
    """
    with ledger.reading() as connection:
        refusal = why_not(connection, link, refund_id, person)
    if refusal is not None:
        raise refusal


def why_not(
    connection: sa.Connection, link: Link, refund_id: str, person: str
) -> LinkRefused | None:
    """Why the link does not lead to this person's decision on this refund."""
    if link.refund_id != refund_id:
        return LinkRefused("this link is for another refund")
    if not same_person(link.person, person):
        return LinkRefused("this link was sent to somebody else")
    spent = connection.execute(
        sa.select(schema.spent_links.c.spent_at).where(schema.spent_links.c.link_id == link.link_id)
    ).first()
    return LinkRefused("this link was used already") if spent else None


def spend(page: Page, link: Link) -> None:
    """The link has led to a decision; it leads to no other."""
    page.connection.execute(
        schema.spent_links.insert().values(
            link_id=link.link_id,
            refund_id=page.refund_id,
            person=link.person,
            spent_at=page.now,
        )
    )
