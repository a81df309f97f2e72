"""Risk features: what the customer's own history says."""

import sqlalchemy as sa
from prefect import task

from refunds.errors import SystemUnavailable
from refunds.ledger import requests
from refunds.models import Case, RiskFeatures
from tasks import books, steps

_FEATURES = sa.text(
    "SELECT orders_total, orders_cancelled, spent_minor, refunded_minor FROM risk_features "
    "WHERE customer_id = :customer_id AND (currency = :currency OR currency IS NULL)"
)


@task(
    name="load_risk",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # Reading is harmless, so a database that is away is simply asked again.
    retries=4,
    retry_delay_seconds=[1, 2, 5, 10],
    retry_condition_fn=steps.may_retry,
    timeout_seconds=30,
)
@steps.journaled
async def load_risk(case: Case) -> RiskFeatures:
    """The customer's features, from the shop's history and from our own ledger."""
    return read_risk(case)


def read_risk(case: Case) -> RiskFeatures:
    """The features as they are now. Raises SystemUnavailable when the shop cannot be asked."""
    request = case.request
    try:
        with books.shop().connect().execution_options(reads_only=True) as connection:
            row = (
                connection.execute(
                    _FEATURES,
                    {"customer_id": request.customer_id, "currency": request.currency},
                )
                .mappings()
                .first()
            )
    except sa.exc.OperationalError as error:
        raise SystemUnavailable("shop", f"its database cannot be read ({error.orig})") from error
    history = dict(row) if row else dict.fromkeys(RiskFeatures.model_fields, 0)
    history["other_refunds"] = requests.other_refunds_of(books.ledger(), request)
    return RiskFeatures(**history)
