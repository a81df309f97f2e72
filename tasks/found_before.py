"""What a batch found out about a refund, left where the refund's own run will look for it.

The run's steps of a round find their results by key, as if it had taken them itself: it judges
by the facts that the verdict was reached on and that a person was asked about.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from prefect.results import ResultStore

from refunds.ledger import Ledger, LedgerStorage, assessed, connector
from refunds.ledger.assessed import Assessed
from refunds.ledger.effects import key_of
from refunds.models import RefundRequest
from refunds.settings import settings


def results(ledger: Ledger, request: RefundRequest) -> dict[str, bytes]:
    """The results of every round of a refund, by step key, as Prefect stores them."""
    return {
        key: content
        for found in assessed.rounds(ledger, [request])[request.refund_id]
        for key, content in as_stored(_by_key(found)).items()
    }


def as_stored(by_key: Mapping[str, Any]) -> dict[str, bytes]:
    """Results of steps, by key, in the form in which Prefect stores them."""
    return {
        key: _store().create_result_record(value, key=key).serialize()
        for key, value in by_key.items()
    }


@lru_cache(maxsize=1)
def _store() -> ResultStore:
    """It only gives results their form: they are written together with the refund's next run."""
    return ResultStore(
        result_storage=LedgerStorage(connector=connector(settings().ledger_database_url))
    )


def _by_key(found: Assessed) -> dict[str, Any]:
    case = found.case
    by_step: dict[str, Any] = {
        "load_order": case.model_copy(update={"after_sales": (), "evidence": ()}),
        "load_after_sale": case,
        "load_risk": found.risk,
        "load_policy": found.rules,
        "ask_opinion": found.assessment.opinion,
        "record_assessment": None,
    }
    if found.approval is not None:
        by_step["request_approval"] = found.approval
    if not found.is_open:
        by_step["reserve_money"] = False
    return {key_of(case.refund_id, step, case.round): value for step, value in by_step.items()}
