"""What a round looked at stays what it was once it is assessed: it is read from the ledger again.

A step's result at Prefect may get lost, or become unreadable with a new version. Looking at the
world a second time in the same round could then come to another verdict on a refund that is
approved, or even paid.
"""

from typing import Any

from pydantic import ValidationError

from refunds import policy_file
from refunds.errors import NeedsAttention
from refunds.ledger import assessed, history, policies
from refunds.models import Assessment, Case, RefundRequest, RiskFeatures
from refunds.policy_file import Policy
from tasks import books


def case_of(request: RefundRequest, round_number: int) -> Case | None:
    """The case as the round's assessment had it; None before that. Raises NeedsAttention."""
    known = _assessed(request.refund_id, round_number)
    if known is None:
        return None
    try:
        return assessed.case_of(request, known)
    except ValidationError as error:
        raise _unreadable(request.refund_id, round_number) from error


def features_of(case: Case) -> RiskFeatures | None:
    """The risk features of the round's assessment; None before that. Raises NeedsAttention."""
    known = _assessed(case.refund_id, case.round)
    try:
        return None if known is None else RiskFeatures.model_validate(known["risk"])
    except ValidationError as error:
        raise _unreadable(case.refund_id, case.round) from error


def assessment_of(case: Case) -> Assessment | None:
    """The round's assessment; None before that. Raises NeedsAttention."""
    known = _assessed(case.refund_id, case.round)
    try:
        return None if known is None else Assessment.model_validate(known["assessment"])
    except ValidationError as error:
        raise _unreadable(case.refund_id, case.round) from error


def policy_of(case: Case) -> Policy | None:
    """The policy that the round was assessed under; None before that, or when it is not kept."""
    assessment = assessment_of(case)
    if assessment is None:
        return None
    text = policies.text_of(books.ledger(), assessment.policy_version)
    return None if text is None else policy_file.parse(text, assessment.policy_version)


def _assessed(refund_id: str, round_number: int) -> dict[str, Any] | None:
    return history.assessed(books.ledger(), refund_id, round_number)


def _unreadable(refund_id: str, round_number: int) -> NeedsAttention:
    return NeedsAttention(
        f"{refund_id} was assessed in round {round_number} by a version whose facts this one "
        "cannot read; go back to that version, or withdraw the refund"
    )
