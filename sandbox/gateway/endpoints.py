"""The gateway's endpoints under /gateway/v1."""

import json
import sqlite3
from typing import Any

from sandbox.answers import Answer, Ask, Refused
from sandbox.door import Effect, Reading
from sandbox.effects import Effects
from sandbox.fault_rules import Rule
from sandbox.faults import REFUND_ENDPOINT
from sandbox.gateway import expansion
from sandbox.gateway.books import Books, refund_row
from sandbox.gateway.dialect import STRIPE_DIALECT, missing, stripe_error
from sandbox.gateway.forms import check_metadata, parse_metadata, parse_no_fields, parse_refund
from sandbox.gateway.objects import (
    charge_object,
    dispute_object,
    event_object,
    intent_object,
    refund_id_of,
    refund_object,
)
from sandbox.gateway.pages import StripeList
from sandbox.identifiers import to_id, to_number

_SYSTEM = "gateway"
_REFUNDS = REFUND_ENDPOINT.removeprefix("POST ")
_REFUND = f"{_REFUNDS}/{{id}}"
_CHARGES = "/gateway/v1/charges"
_INTENTS = "/gateway/v1/payment_intents"
_EVENTS = "/gateway/v1/events"
_DISPUTES = "/gateway/v1/disputes"


def endpoints(books: Books, effects: Effects) -> list[Effect | Reading]:
    """Return all endpoints of the gateway."""
    acts = _Acts(books, effects)
    return [*_effects(acts), *_lists(), *_single_readings()]


class _Acts:
    """What the gateway does, each act with its row in the record of effects."""

    def __init__(self, books: Books, effects: Effects) -> None:
        self._books = books
        self._effects = effects

    def create(self, tx: sqlite3.Connection, ask: Ask, fault: Rule | None) -> Answer:
        form = ask.body
        row = self._books.open_refund(tx, form, fault, ask.key)
        request = {
            "charge": row["charge_id"],
            "amount": row["amount_minor"],
            "currency": row["currency"].lower(),
            "reason": form.reason,
            "metadata": dict(form.metadata),
        }
        self._record(tx, ask, "create_refund", row, request)
        return Answer.of(200, expansion.expanded(tx, refund_object(row), form.expand))

    def update(self, tx: sqlite3.Connection, ask: Ask, fault: Rule | None) -> Answer:
        del fault
        row = _found(tx, ask)
        kept = {} if ask.body.clear else json.loads(row["metadata"])
        merged = {key: value for key, value in {**kept, **ask.body.metadata}.items() if value}
        check_metadata(merged)
        changed = self._books.set_metadata(tx, row, merged)
        self._record(tx, ask, "update_refund", changed, {"metadata": merged})
        return Answer.of(200, refund_object(changed))

    def cancel(self, tx: sqlite3.Connection, ask: Ask, fault: Rule | None) -> Answer:
        del fault
        row = _found(tx, ask)
        if row["status"] not in ("pending", "requires_action"):
            message = f"A refund with the status {row['status']} cannot be canceled."
            raise Refused(stripe_error(400, message, code="refund_not_cancelable"), final=True)
        changed = self._books.change_status(tx, row, "canceled", None)
        self._record(tx, ask, "cancel_refund", changed, {})
        return Answer.of(200, refund_object(changed))

    def _record(
        self,
        tx: sqlite3.Connection,
        ask: Ask,
        kind: str,
        row: sqlite3.Row,
        request: dict[str, Any],
    ) -> None:
        self._effects.record(
            tx,
            ask,
            kind=kind,
            refund_id=refund_id_of(row),
            request=request,
            response_id=to_id("re", row["number"]),
        )


def _effects(acts: _Acts) -> list[Effect]:
    def about_form(tx: sqlite3.Connection, ask: Ask) -> str | None:
        del tx
        refund_id: str | None = ask.body.metadata.get("refund_id")
        return refund_id

    def about_path(tx: sqlite3.Connection, ask: Ask) -> str | None:
        row = refund_row(tx, to_number("re", ask.path["id"]))
        return refund_id_of(row) if row else None

    return [
        Effect(
            system=_SYSTEM,
            dialect=STRIPE_DIALECT,
            path=path,
            parse=parse,
            act=act,
            refund_of=about,
        )
        for path, parse, act, about in (
            (_REFUNDS, parse_refund, acts.create, about_form),
            (_REFUND, parse_metadata, acts.update, about_path),
            (f"{_REFUND}/cancel", parse_no_fields, acts.cancel, about_path),
        )
    ]


def _lists() -> list[Reading]:
    def reading(listed: StripeList) -> Reading:
        return Reading(
            system=_SYSTEM,
            dialect=STRIPE_DIALECT,
            path=f"/gateway{listed.url}",
            read=lambda reader, ask: listed.page(reader, ask.query),
        )

    refunds = StripeList(
        kind="refund",
        url=_REFUNDS.removeprefix("/gateway"),
        table="refunds",
        filters={"charge": "charge_id", "payment_intent": "payment_intent"},
        shown=refund_object,
        number_of=lambda _, identifier: to_number("re", identifier),
    )
    charges = StripeList(
        kind="charge",
        url=_CHARGES.removeprefix("/gateway"),
        table="charges_shown",
        filters={"customer": "customer_id", "payment_intent": "payment_intent"},
        shown=charge_object,
        number_of=_charge_number,
    )
    events = StripeList(
        kind="event",
        url=_EVENTS.removeprefix("/gateway"),
        table="events",
        filters={"type": "type"},
        shown=event_object,
        number_of=lambda _, identifier: to_number("evt", identifier),
    )
    disputes = StripeList(
        kind="dispute",
        url=_DISPUTES.removeprefix("/gateway"),
        table="disputes_shown",
        filters={"charge": "charge_id", "payment_intent": "payment_intent"},
        shown=dispute_object,
        number_of=lambda reader, name: _charge_number(reader, name.replace("dp_", "ch_", 1)),
    )
    return [reading(listed) for listed in (refunds, charges, events, disputes)]


def _single_readings() -> list[Reading]:
    def shown(reader: sqlite3.Connection, ask: Ask, thing: dict[str, Any]) -> Answer:
        names = expansion.asked_for(ask.query)
        return Answer.of(200, expansion.expanded(reader, thing, names))

    def refund(reader: sqlite3.Connection, ask: Ask) -> Answer:
        return shown(reader, ask, refund_object(_found(reader, ask)))

    def charge(reader: sqlite3.Connection, ask: Ask) -> Answer:
        row = reader.execute(
            "SELECT * FROM charges_shown WHERE charge_id = ?", (ask.path["id"],)
        ).fetchone()
        if row is None:
            raise missing("charge", ask.path["id"])
        return shown(reader, ask, charge_object(row))

    def intent(reader: sqlite3.Connection, ask: Ask) -> Answer:
        row = reader.execute(
            "SELECT * FROM charges_shown WHERE payment_intent = ?", (ask.path["id"],)
        ).fetchone()
        if row is None:
            raise missing("payment_intent", ask.path["id"])
        return shown(reader, ask, intent_object(row))

    def event(reader: sqlite3.Connection, ask: Ask) -> Answer:
        number = to_number("evt", ask.path["id"])
        row = reader.execute("SELECT * FROM events WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise missing("event", ask.path["id"])
        return Answer.of(200, event_object(row))

    return [
        Reading(system=_SYSTEM, dialect=STRIPE_DIALECT, path=path, read=read)
        for path, read in (
            (_REFUND, refund),
            (f"{_CHARGES}/{{id}}", charge),
            (f"{_INTENTS}/{{id}}", intent),
            (f"{_EVENTS}/{{id}}", event),
        )
    ]


def _found(connection: sqlite3.Connection, ask: Ask) -> sqlite3.Row:
    row = refund_row(connection, to_number("re", ask.path["id"]))
    if row is None:
        raise missing("refund", ask.path["id"])
    return row


def _charge_number(reader: sqlite3.Connection, charge_id: str) -> int | None:
    row = reader.execute("SELECT number FROM charges WHERE charge_id = ?", (charge_id,)).fetchone()
    return row["number"] if row else None
