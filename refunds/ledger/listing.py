"""Pages of refunds for programs: narrowed, in key order."""

from typing import Any

import sqlalchemy as sa

from refunds.ledger import schema
from refunds.ledger.book import Ledger
from refunds.models import Outcome, State, Verdict
from refunds.values import Currency, Name, Value


class RefundFilter(Value):
    """Which refunds; what is not said does not matter."""

    state: State | None = None
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    order_id: Name | None = None
    customer_id: Name | None = None
    currency: Currency | None = None


def refunds_after(
    ledger: Ledger, wanted: RefundFilter, after: str, limit: int
) -> list[dict[str, Any]]:
    """Rows in key order from the first id after `after`."""
    row = schema.refunds.c
    query = sa.select(schema.refunds).where(row.refund_id > after)
    for name, value in wanted.plain().items():
        if value is not None:
            query = query.where(row[name] == value)
    with ledger.reading() as connection:
        found = connection.execute(query.order_by(row.refund_id).limit(limit)).mappings()
        return [dict(refund) for refund in found]
