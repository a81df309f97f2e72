"""Money on a charge: reserved before it is paid, booked when it is known to be paid."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from refunds import money
from refunds.errors import ChargeExhausted, LedgerRefusal
from refunds.ledger import schema
from refunds.ledger.book import Ledger, Page
from refunds.ledger.engine import insert_if_absent
from refunds.ledger.pages import among
from refunds.models import Case, State

Reservation = dict[str, Any]


def open_charge(
    ledger: Ledger, charge_id: str, currency: str, captured_minor: int, refunded_minor: int
) -> int:
    """Take a charge into the books at first sight; returns what is left, in minor units.

    `refunded_minor` is what was refunded before we came; later only our own bookings count.
    """
    row = schema.charges.c
    query = sa.select(row.captured_minor - row.reserved_minor - row.refunded_minor).where(
        row.charge_id == charge_id
    )
    with ledger.reading() as connection:
        left = connection.execute(query).scalar()
    if left is not None:
        return int(left)
    with ledger.writing() as connection:
        if connection.execute(query).scalar() is None:
            connection.execute(
                insert_if_absent(connection, schema.charges).values(
                    charge_id=charge_id,
                    currency=currency,
                    captured_minor=captured_minor,
                    reserved_minor=0,
                    refunded_minor=refunded_minor,
                )
            )
        return int(connection.execute(query).scalar_one())


@dataclass(frozen=True)
class Seen:
    """A captured payment as the shop has it; `refunded_minor` was refunded before we came."""

    charge_id: str
    currency: str
    captured_minor: int
    refunded_minor: int


def open_charges(ledger: Ledger, seen: Sequence[Seen]) -> dict[str, int]:
    """As `open_charge`, for many: what is left on each, by charge id, in minor units."""
    row = schema.charges.c
    ids = {charge.charge_id for charge in seen}

    def left(connection: sa.Connection) -> dict[str, int]:
        query = sa.select(
            row.charge_id, row.captured_minor - row.reserved_minor - row.refunded_minor
        ).where(among(connection, row.charge_id, ids))
        return {charge_id: int(minor) for charge_id, minor in connection.execute(query)}

    with ledger.reading() as connection:
        known = left(connection)
    new = {charge.charge_id: charge for charge in seen if charge.charge_id not in known}
    if not new:
        return known
    with ledger.writing() as connection:
        connection.execute(
            insert_if_absent(connection, schema.charges),
            # In one order for everybody, so that two who see the same charges never wait in a ring.
            [{**vars(new[charge_id]), "reserved_minor": 0} for charge_id in sorted(new)],
        )
        return left(connection)


def left_on(ledger: Ledger, charge_id: str) -> int | None:
    """What is left on a charge, in minor units; None when it is not in the books yet."""
    row = schema.charges.c
    with ledger.reading() as connection:
        return connection.execute(
            sa.select(row.captured_minor - row.reserved_minor - row.refunded_minor).where(
                row.charge_id == charge_id
            )
        ).scalar()


def all_known(ledger: Ledger) -> list[str]:
    """Every charge in the books, by id."""
    row = schema.charges.c
    with ledger.reading() as connection:
        return list(connection.execute(sa.select(row.charge_id).order_by(row.charge_id)).scalars())


def disputed_among(ledger: Ledger, charge_ids: Iterable[str]) -> frozenset[str]:
    """Which of these charges are known to be disputed."""
    row = schema.charges.c
    with ledger.reading() as connection:
        query = sa.select(row.charge_id).where(
            row.is_disputed, among(connection, row.charge_id, charge_ids)
        )
        return frozenset(connection.execute(query).scalars())


def note_disputes(ledger: Ledger, words: Mapping[str, bool]) -> None:
    """Keep the gateway's word on whether these charges are disputed, by charge id."""
    row = schema.charges.c
    with ledger.reading() as connection:
        known = connection.execute(
            sa.select(row.charge_id, row.is_disputed).where(among(connection, row.charge_id, words))
        ).all()
    changed = [charge_id for charge_id, was_disputed in known if was_disputed != words[charge_id]]
    if not changed:
        return
    with ledger.writing() as connection:
        # In one order for everybody, so that two who write of the same never wait in a ring.
        for charge_id in sorted(changed):
            connection.execute(
                schema.charges.update()
                .where(row.charge_id == charge_id)
                .values(is_disputed=words[charge_id])
            )


def holds_money(ledger: Ledger, refund_id: str) -> bool:
    """Whether money is reserved for the refund, or was paid."""
    row = schema.reservations.c
    with ledger.reading() as connection:
        state = connection.execute(sa.select(row.state).where(row.refund_id == refund_id)).scalar()
    return state in ("reserved", "refunded")


def holds_reservation(ledger: Ledger, charge_id: str) -> bool:
    """Whether money is reserved on a charge: a payment of it is on its way, or may be."""
    row = schema.reservations.c
    query = sa.select(row.refund_id).where(row.charge_id == charge_id, row.state == "reserved")
    with ledger.reading() as connection:
        return connection.execute(query).first() is not None


def holding(ledger: Ledger, refund_ids: Iterable[str]) -> set[str]:
    """Those of these refunds for which money is reserved, or was paid."""
    row = schema.reservations.c
    with ledger.reading() as connection:
        query = sa.select(row.refund_id).where(
            among(connection, row.refund_id, refund_ids), row.state.in_(("reserved", "refunded"))
        )
        return set(connection.execute(query).scalars())


def reserve(ledger: Ledger, case: Case, fence: int) -> None:
    """Set the money and the items aside for this refund; doing it again changes nothing.

    Raises ChargeExhausted when the charge has too little left or an item is spoken for.
    """
    charge, request = case.charge, case.request
    if charge is None:
        raise ChargeExhausted(f"nothing was paid for order {request.order_id}")
    with ledger.page(case.refund_id, fence) as page:
        if state_of(page) in ("reserved", "refunded"):
            return
        _lock_charges(page, case)
        _take_from_charge(page, charge.charge_id, request.amount_minor, request.currency)
        _claim_items(page, case)
        note_reserved(page, case, charge.charge_id, was_released=state_of(page) is not None)


def note_reserved(page: Page, case: Case, charge_id: str, *, was_released: bool) -> None:
    """Write down what was taken from the charge for this refund."""
    request = case.request
    row = {
        "charge_id": charge_id,
        "amount_minor": request.amount_minor,
        "item_ids": list(request.item_ids),
        "state": "reserved",
    }
    if was_released:
        page.update(schema.reservations, {"refund_id": case.refund_id}, **row)
    else:
        page.insert(schema.reservations, refund_id=case.refund_id, **row)
    page.append("money.reserved", {"charge_id": charge_id, "amount_minor": request.amount_minor})
    page.enter(State.PAYING)


def book_refunded(page: Page, reservation: Reservation | None) -> None:
    """Reserved money has been paid."""
    if _move(page, reservation, "reserved", "refunded", reserved=-1, refunded=1):
        page.append("money.refunded", {"refund_id": page.refund_id})


def book_released(page: Page, reservation: Reservation | None) -> None:
    """Reserved money will not be paid; it and the items are free again."""
    if _move(page, reservation, "reserved", "released", reserved=-1, refunded=0):
        page.append("money.released", {"refund_id": page.refund_id})


def book_returned(page: Page) -> bool:
    """Paid money came back: the gateway says a refund failed after it had succeeded.

    False when that is in the books already.
    """
    moved = _move(page, reservation_of(page), "refunded", "released", reserved=0, refunded=-1)
    if moved:
        page.append("money.returned", {"refund_id": page.refund_id})
    return moved


def reservation_of(page: Page) -> Reservation | None:
    """The refund's reservation, locked."""
    found = (
        page.connection.execute(
            sa.select(schema.reservations)
            .where(schema.reservations.c.refund_id == page.refund_id)
            .with_for_update()
        )
        .mappings()
        .first()
    )
    return dict(found) if found else None


def check_reserved(key: str, request: dict[str, Any], reservation: Reservation | None) -> None:
    """Raise LedgerRefusal unless a payment's `charge` and `amount` are what is reserved."""
    if reservation is None or reservation["state"] != "reserved":
        raise LedgerRefusal(f"{key}: no money is reserved, so nothing may be paid")
    charge_id, amount = reservation["charge_id"], str(reservation["amount_minor"])
    if (request.get("charge"), request.get("amount")) != (charge_id, amount):
        raise LedgerRefusal(
            f"{key}: {amount} of charge {charge_id} is reserved, and the payment would be "
            f"{request.get('amount')} of charge {request.get('charge')}"
        )


def state_of(page: Page) -> str | None:
    """What became of the refund's money: reserved, refunded, released; None before that."""
    return page.connection.execute(
        sa.select(schema.reservations.c.state).where(
            schema.reservations.c.refund_id == page.refund_id
        )
    ).scalar()


def _lock_charges(page: Page, case: Case) -> None:
    """All charges of the order, in one order for everybody: items are claimed per order."""
    charge_ids = [charge.charge_id for charge in case.order.charges] if case.order else []
    page.connection.execute(
        sa.select(schema.charges.c.charge_id)
        .where(schema.charges.c.charge_id.in_(charge_ids))
        .order_by(schema.charges.c.charge_id)
        .with_for_update()
    ).all()


def _take_from_charge(page: Page, charge_id: str, amount_minor: int, currency: str) -> None:
    row = schema.charges.c
    taken = page.connection.execute(
        schema.charges.update()
        .where(row.charge_id == charge_id, row.currency == currency)
        .where(row.reserved_minor + row.refunded_minor + amount_minor <= row.captured_minor)
        .values(reserved_minor=row.reserved_minor + amount_minor)
    )
    if taken.rowcount != 1:
        raise too_little(charge_id, amount_minor, currency)


def too_little(charge_id: str, amount_minor: int, currency: str) -> ChargeExhausted:
    """What is raised when a charge has less left than is asked."""
    return ChargeExhausted(
        f"charge {charge_id} has less than {money.show(amount_minor, currency)} left"
    )


def _claim_items(page: Page, case: Case) -> None:
    """The order's charges are locked by now, so no other refund of it counts at this time."""
    claimed = page.connection.execute(
        sa.select(schema.reservations.c.item_ids)
        .join(schema.refunds, schema.refunds.c.refund_id == schema.reservations.c.refund_id)
        .where(schema.refunds.c.order_id == case.request.order_id)
        .where(schema.reservations.c.state.in_(("reserved", "refunded")))
    ).scalars()
    check_items_free(case, claimed)


def check_items_free(case: Case, claimed: Iterable[list[str]]) -> None:
    """Raise ChargeExhausted when what the order's other refunds claimed leaves too little."""
    free = Counter(item.item_id for item in case.order.items) if case.order else Counter()
    for item_ids in claimed:
        free.subtract(item_ids)
    free.subtract(case.request.item_ids)
    short = sorted(item_id for item_id in case.request.item_ids if free[item_id] < 0)
    if short:
        raise ChargeExhausted(f"already refunded by another request: {', '.join(short)}")


def _move(
    page: Page,
    reservation: Reservation | None,
    before: str,
    after: str,
    *,
    reserved: int,
    refunded: int,
) -> bool:
    if reservation is None or reservation["state"] == after:
        return False
    if reservation["state"] != before:
        raise LedgerRefusal(
            f"{page.refund_id}: money that is {reservation['state']} cannot become {after}"
        )
    amount = reservation["amount_minor"]
    page.move_money(
        reservation["charge_id"],
        reserved_minor=reserved * amount,
        refunded_minor=refunded * amount,
    )
    page.update(schema.reservations, {"refund_id": page.refund_id}, state=after)
    return True
