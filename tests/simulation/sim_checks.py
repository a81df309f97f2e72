"""What holds in every story: while it goes on, and once everything has calmed down."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from refunds.ledger import schema
from refunds.models import State
from refunds.policy import binding_digest
from refunds.verify import rules
from refunds.verify.dossiers import Dossier, read_all
from refunds.verify.gateway_books import GatewayBooks, check_charges, disagreements
from tasks.gateways import stripe
from tests.simulation.sim_outside import Outside

# Asked after every step, so by the driver itself.
_OVER = (
    "SELECT charge_id FROM charges WHERE reserved_minor < 0 OR refunded_minor < 0 "
    "OR reserved_minor + refunded_minor > captured_minor"
)


class Violated(AssertionError):
    """An invariant does not hold."""


def may_pay(engine: sa.Engine, refund: dict[str, Any]) -> None:
    """At the moment money moves: the ledger has reserved it, and a decision that allows it."""
    refund_id = refund["metadata"]["refund_id"]
    with engine.connect() as connection:
        row = _one(connection, schema.refunds, refund_id)
        reservation = _one(connection, schema.reservations, refund_id)
        asked = list(
            connection.execute(
                sa.select(schema.approvals)
                .where(schema.approvals.c.refund_id == refund_id)
                .order_by(schema.approvals.c.round)
            ).mappings()
        )
    if reservation is None or reservation["state"] != "reserved":
        raise Violated(
            f"{refund_id} is paid, and its money is {reservation and reservation['state']}"
        )
    if row["verdict"] == "APPROVE":
        return
    last = asked[-1] if asked else None
    if row["verdict"] != "REVIEW" or last is None or last["status"] != "APPROVED":
        raise Violated(f"{refund_id} is paid without a valid decision ({row['verdict']})")
    if binding_digest(last["facts"]) != last["digest"]:
        raise Violated(f"{refund_id} is paid on facts that nobody approved")


def at_any_time(ledger: sqlite3.Connection, outside: Outside) -> None:
    """No key acted twice, no refund was paid twice, no charge gave more than it had."""
    for key, count in outside.acts.items():
        if count > 1:
            raise Violated(f"{key} acted {count} times")
    paid: dict[str, int] = {}
    for refund in outside.refunds.values():
        if refund["status"] in ("succeeded", "pending"):
            refund_id = refund["metadata"]["refund_id"]
            paid[refund_id] = paid.get(refund_id, 0) + 1
    if twice := [refund_id for refund_id, count in paid.items() if count > 1]:
        raise Violated(f"paid twice: {twice}")
    if wrong := ledger.execute(_OVER).fetchall():
        raise Violated(f"more is promised than was captured: {wrong}")


def in_the_end(engine: sa.Engine, outside: Outside) -> None:
    """Everything that `refunds verify` looks at, and that nothing is left half done."""
    books = GatewayBooks()
    for refund in outside.refunds.values():
        books.take(stripe._kept(refund))
    problems: list[str] = []
    with engine.connect() as connection:
        dossiers = list(read_all(connection, problems))
        # There is no shop history here: what it gave back before is nothing.
        check_charges(connection, books, problems)
        asleep = sa.select(schema.runs.c.run_id).where(schema.runs.c.left_asleep_at.is_not(None))
        problems += [
            f"a burst left run {run_id} asleep" for run_id in connection.execute(asleep).scalars()
        ]
    for dossier in dossiers:
        problems += rules.broken(dossier)
        problems += disagreements(dossier, books.ours.get(dossier.refund_id, []))
        problems += _unfinished(dossier)
        problems += _undone(dossier, outside)
    if problems:
        raise Violated("; ".join(problems))


def no_decision_was_lost(engine: sa.Engine, decided: dict[str, str]) -> None:
    """What a door has said to a person is what the ledger says: by approval."""
    with engine.connect() as connection:
        rows = connection.execute(schema.approvals.select()).mappings()
        stored = {row["approval_id"]: row["status"] for row in rows}
    for approval_id, status in decided.items():
        if stored[approval_id] not in (status, "superseded"):
            raise Violated(f"{approval_id} was {status}, is {stored[approval_id]}")


def _unfinished(dossier: Dossier) -> Iterator[str]:
    row = dossier.row
    if row["outcome"] is None and row["state"] != State.NEEDS_ATTENTION:
        yield f"{dossier.refund_id} is stuck in {row['state']}"
    if row["outcome"] is None or row["state"] == State.NEEDS_ATTENTION:
        return
    for effect in dossier.effects:
        # A card that was not sure to have gone out is not looked for once everything is decided.
        if effect["state"] not in ("succeeded", "refused") and effect["step"] != "send_card":
            yield f"{effect['key']} is {effect['state']}, and its refund is over"


def _undone(dossier: Dossier, outside: Outside) -> Iterator[str]:
    """What the ledger calls done was done, and a payment that failed left nothing behind."""
    steps = {effect["step"] for effect in dossier.effects}
    for effect in dossier.effects:
        if effect["state"] == "succeeded" and effect["key"] not in outside.acts:
            yield f"{effect['key']} is done in the ledger, and nobody did it"
    if dossier.row["outcome"] == "FAILED":
        undo = {
            "issue_coupon": "void_coupon",
            "hold_shipment": "release_shipment",
            "create_return_label": "cancel_return_label",
        }
        for did, undoes in undo.items():
            if did in steps and undoes not in steps:
                yield f"{dossier.refund_id} failed, and {did} was not undone"


def _one(connection: sa.Connection, table: sa.Table, refund_id: str) -> Any:
    found = connection.execute(sa.select(table).where(table.c.refund_id == refund_id))
    return found.mappings().first()
