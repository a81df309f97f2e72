"""Risk features: what the customer's own history says."""

from prefect import task

from refunds.ledger import requests
from refunds.models import Case, RiskFeatures
from tasks import books, rounds, shop, steps


@task(
    name="load_risk",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # Reading is harmless, so a database that is away is simply asked again.
    **steps.QUICK_RETRIES,
    timeout_seconds=30,
)
@steps.journaled
async def load_risk(case: Case) -> RiskFeatures:
    """The customer's features, from the shop's history and from our own ledger."""
    return rounds.features_of(case) or read_risk(case)


def read_risk(case: Case) -> RiskFeatures:
    """The features as they are now. Raises SystemUnavailable when the shop cannot be asked."""
    history = shop.histories_of([case.request])[case.refund_id]
    history["other_refunds"] = requests.other_refunds_of(books.ledger(), case.request)
    return RiskFeatures(**history)
