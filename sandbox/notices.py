"""Notices: cards for approvers and messages to customers, service and operations."""

import sqlite3
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints

from sandbox.clock import to_iso
from sandbox.door import Effect, Reading
from sandbox.identifiers import to_id
from sandbox.listing import Listing
from sandbox.records import Line, Text
from sandbox.systems import AboutRefund, Systems, Thing

Audience = Literal["customer", "service", "approver", "operations"]


def _web_address(link: str) -> str:
    parts = urlsplit(link)
    if parts.scheme not in ("http", "https") or not parts.netloc or not link.isprintable():
        problem = "write an http or https address"
        raise ValueError(problem)
    return link


# Two thousand characters: what browsers reliably take in an address.
Link = Annotated[str, StringConstraints(max_length=2_000), AfterValidator(_web_address)]


class NewMessage(AboutRefund):
    """The body of `POST /notices/v1/messages`."""

    audience: Audience
    to: Line
    subject: Line
    body: Text
    link: Link | None = None


def shown(row: sqlite3.Row) -> dict[str, Any]:
    """Return a message as the API and the inbox show it."""
    return {
        "message_id": to_id("msg", row["number"]),
        "refund_id": row["refund_id"],
        "reference": row["reference"],
        "audience": row["audience"],
        "to": row["recipient"],
        "subject": row["subject"],
        "body": row["body"],
        "link": row["link"],
        "created_at": to_iso(row["at_ms"]),
    }


MESSAGES = Thing(
    system="notices",
    path="/notices/v1/messages",
    made_as="send_message",
    body=NewMessage,
    row=lambda body: {
        "audience": body.audience,
        "recipient": body.to,
        "subject": body.subject,
        "body": body.body,
        "link": body.link,
    },
    listing=Listing(
        name="messages",
        prefix="msg",
        source="messages",
        filters=("refund_id", "reference", "audience"),
        shown=shown,
    ),
)


def endpoints(systems: Systems) -> list[Effect | Reading]:
    """Return the endpoints of notices."""
    return [systems.making(MESSAGES), systems.listing(MESSAGES)]
