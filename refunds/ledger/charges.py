"""Money on a charge: reserved before it is paid, booked when it is known to be paid."""

from collections import Counter

import sqlalchemy as sa

from refunds import money
from refunds.errors import ChargeExhausted, LedgerRefusal
from refunds.ledger import schema
from refunds.ledger.book import Ledger, Page
from refunds.ledger.engine import insert_if_absent
from refunds.models import Case, State


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
        page.connection.execute(
            schema.reservations.delete().where(schema.reservations.c.refund_id == case.refund_id)
        )
        page.connection.execute(
            schema.reservations.insert().values(
                refund_id=case.refund_id,
                charge_id=charge.charge_id,
                amount_minor=request.amount_minor,
                item_ids=list(request.item_ids),
                state="reserved",
            )
        )
        page.append(
            "money.reserved",
            {"charge_id": charge.charge_id, "amount_minor": request.amount_minor},
        )
        page.enter(State.PAYING)


def book_refunded(page: Page) -> None:
    """Reserved money has been paid."""
    if _move(page, "reserved", "refunded", reserved=-1, refunded=1):
        page.append("money.refunded", {"refund_id": page.refund_id})


def book_released(page: Page) -> None:
    """Reserved money will not be paid; it and the items are free again."""
    if _move(page, "reserved", "released", reserved=-1, refunded=0):
        page.append("money.released", {"refund_id": page.refund_id})


def book_returned(page: Page) -> bool:
    """Paid money came back: the gateway says a refund failed after it had succeeded.

    False when that is in the books already.
    """
    moved = _move(page, "refunded", "released", reserved=0, refunded=-1)
    if moved:
        page.append("money.returned", {"refund_id": page.refund_id})
    return moved


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
        raise ChargeExhausted(
            f"charge {charge_id} has less than {money.show(amount_minor, currency)} left"
        )


def _claim_items(page: Page, case: Case) -> None:
    """The order's charges are locked by now, so no other refund of it counts at this time."""
    free = Counter(item.item_id for item in case.order.items) if case.order else Counter()
    claimed = page.connection.execute(
        sa.select(schema.reservations.c.item_ids)
        .join(schema.refunds, schema.refunds.c.refund_id == schema.reservations.c.refund_id)
        .where(schema.refunds.c.order_id == case.request.order_id)
        .where(schema.reservations.c.state.in_(("reserved", "refunded")))
    ).scalars()
    for item_ids in claimed:
        free.subtract(item_ids)
    free.subtract(case.request.item_ids)
    short = sorted(item_id for item_id in case.request.item_ids if free[item_id] < 0)
    if short:
        raise ChargeExhausted(f"already refunded by another request: {', '.join(short)}")


def _move(page: Page, before: str, after: str, *, reserved: int, refunded: int) -> bool:
    reservation = (
        page.connection.execute(
            sa.select(schema.reservations)
            .where(schema.reservations.c.refund_id == page.refund_id)
            .with_for_update()
        )
        .mappings()
        .first()
    )
    if reservation is None or reservation["state"] == after:
        return False
    if reservation["state"] != before:
        raise LedgerRefusal(
            f"{page.refund_id}: money that is {reservation['state']} cannot become {after}"
        )
    amount = reservation["amount_minor"]
    row = schema.charges.c
    page.connection.execute(
        schema.charges.update()
        .where(row.charge_id == reservation["charge_id"])
        .values(
            reserved_minor=row.reserved_minor + reserved * amount,
            refunded_minor=row.refunded_minor + refunded * amount,
        )
    )
    page.connection.execute(
        schema.reservations.update()
        .where(schema.reservations.c.refund_id == page.refund_id)
        .values(state=after)
    )
    return True
