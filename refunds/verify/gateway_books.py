"""The gateway's books, and what of the ledger has to agree with them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlalchemy as sa

from refunds.errors import NeedsAttention, SystemUnavailable
from refunds.ledger import schema
from refunds.verify.dossiers import Dossier
from tasks import shop
from tasks.gateways import GatewayRefund

# A payment in one of these may be in the gateway's books.
_PERHAPS_PAID = ("intended", "unknown", "pending", "succeeded")


class Booked(NamedTuple):
    """One refund in the gateway's books that gave money back, or is about to."""

    reference: str
    status: str
    amount_minor: int
    currency: str
    # A charge may be known by more names than one.
    charge_ids: tuple[str, ...]
    is_past: bool

    def __str__(self) -> str:
        return f"{self.reference} of {self.amount_minor} {self.currency} ({self.status})"


@dataclass
class GatewayBooks:
    """The gateway's refunds by our refund id, and those that are not ours by charge."""

    ours: dict[str, list[Booked]] = field(default_factory=lambda: defaultdict(list))
    outside: dict[str, list[Booked]] = field(default_factory=lambda: defaultdict(list))
    failed: set[str] = field(default_factory=set)
    count: int = 0

    def take(self, refund: GatewayRefund) -> None:
        """Take one refund as the gateway lists it."""
        self.count += 1
        if refund["status"] == "failed":
            self.failed.add(refund["id"])
            return
        booked = Booked(
            refund["id"],
            refund["status"],
            refund["amount"],
            refund["currency"],
            (refund["charge"], *refund.get("other_names", ())),
            refund.get("source") == "history",
        )
        if refund["refund_id"] and not booked.is_past:
            self.ours[refund["refund_id"]].append(booked)
            return
        for name in booked.charge_ids:
            self.outside[name].append(booked)

    def of(self, dossier: Dossier) -> list[Booked]:
        """What it has of a refund: under our reference, or as the word of people names it."""
        if dossier.settled is not None:
            self._claim(dossier.settled["reference"], dossier.refund_id)
        return self.ours.get(dossier.refund_id, [])

    def _claim(self, reference: str, refund_id: str) -> None:
        """A refund that was made by hand turned out to be one of ours."""
        found: Booked | None = None
        for others in self.outside.values():
            for booked in [each for each in others if each.reference == reference]:
                others.remove(booked)
                found = booked
        if found is not None:
            self.ours[refund_id].append(found)


def disagreements(dossier: Dossier, found: list[Booked]) -> Iterator[str]:
    """The gateway has what the ledger paid, once, and nothing that it did not."""
    row, payment, name = dossier.row, dossier.payment, dossier.refund_id
    state = payment["state"] if payment else None
    shown = " and ".join(map(str, found))
    if len(found) > 1:
        yield f"{name}: the gateway paid it {len(found)} times: {shown}"
        return
    is_paid = state == "succeeded" and not dossier.came_back
    if is_paid and not found and dossier.settled is None:
        yield f"{name}: the ledger has it paid, and the gateway has no such refund"
    if found and (state not in _PERHAPS_PAID or dossier.came_back):
        said = "never sent to be paid" if state is None else f"a payment that is {state}"
        yield f"{name}: the gateway has {shown}, and the ledger has {said}"
    if not found or payment is None:
        return
    booked = found[0]
    if (booked.amount_minor, booked.currency) != (row["amount_minor"], row["currency"]):
        yield f"{name}: the gateway has {shown}, the ledger {row['amount_minor']} {row['currency']}"
    if payment["request"].get("charge") not in booked.charge_ids:
        yield f"{name}: the gateway paid it on charge {booked.charge_ids[0]}"
    if is_paid and booked.status != "succeeded":
        yield f"{name}: the ledger has it paid, and at the gateway it is {booked.status}"
    reference = (payment["response"] or {}).get("id", booked.reference)
    if is_paid and reference != booked.reference:
        yield f"{name}: the ledger has it paid as {reference}, the gateway as {booked.reference}"


def check_charges(connection: sa.Connection, gateway: GatewayBooks, problems: list[str]) -> int:
    """Each charge's amounts are the sums of its reservations; returns how many there are."""
    held = schema.reservations.c
    sums: dict[tuple[str, str], int] = {
        (charge_id, state): int(amount)
        for charge_id, state, amount in connection.execute(
            sa.select(held.charge_id, held.state, sa.func.sum(held.amount_minor)).group_by(
                held.charge_id, held.state
            )
        )
    }
    past, count = _past_refunds(connection), 0
    query = sa.select(schema.charges).order_by(schema.charges.c.charge_id)
    for row in connection.execute(query).mappings():
        count += 1
        name = row["charge_id"]
        reserved = sums.get((name, "reserved"), 0)
        if row["reserved_minor"] != reserved:
            problems.append(
                f"charge {name}: {row['reserved_minor']} is reserved, and the reservations "
                f"come to {reserved}"
            )
        # What is left was given back before we came: the shop and the gateway know of it.
        before = row["refunded_minor"] - sums.get((name, "refunded"), 0)
        outside = gateway.outside.get(name, [])
        at_gateway = sum(booked.amount_minor for booked in outside)
        if before not in (at_gateway, past.get(name, 0)):
            problems.append(
                f"charge {name}: {row['refunded_minor']} is refunded, and the refunds come to "
                f"{row['refunded_minor'] - before + at_gateway}"
            )
        new = [booked for booked in outside if not booked.is_past]
        if new and at_gateway > before:
            problems.append(
                f"charge {name}: the gateway has {' and '.join(map(str, new))}, "
                "which the ledger does not know"
            )
    return count


def _past_refunds(connection: sa.Connection) -> dict[str, int]:
    """What the shop had given back on each charge by itself; nothing where it cannot be read."""
    order_ids = connection.execute(sa.select(schema.refunds.c.order_id).distinct()).scalars().all()
    try:
        return shop.refunded_before(order_ids)
    except (SystemUnavailable, NeedsAttention):
        # The gateway's own books are enough where the shop is away.
        return {}
