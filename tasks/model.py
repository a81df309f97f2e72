"""The model's opinion. Off by default: then the rules alone decide."""

from prefect import task

from refunds.models import Case, Opinion, RiskFeatures
from tasks import steps


@task(
    name="ask_opinion",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # No answer is an answer: the rules decide without it.
    timeout_seconds=60,
)
@steps.journaled
async def ask_opinion(case: Case, risk: RiskFeatures) -> Opinion | None:
    """The opinion on a case, or None when nobody was asked: no model is configured yet."""
    return opinion_by_rules(case, risk)


def opinion_by_rules(case: Case, risk: RiskFeatures) -> Opinion | None:
    """The opinion source without a model: it has none, so the rules of the policy stand alone."""
    del case, risk
    return None
