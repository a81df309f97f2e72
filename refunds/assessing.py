"""Verdicts without side effects: the rules on facts as they are now, with or without a model."""

import asyncio
from collections.abc import Sequence

from refunds import policy
from refunds.errors import BadInput
from refunds.models import Advice, Case, RefundRequest, RiskFeatures, Rival, State, Verdict
from refunds.policy_file import Policy
from refunds.values import Value
from tasks import books, model, orders, records, risk


class Assessed(Value):
    """A verdict without side effects."""

    refund_id: str
    verdict: Verdict
    reasons: tuple[str, ...]


async def assess(taken: Sequence[RefundRequest], *, with_model: bool) -> list[Assessed]:
    """The verdict on each request; earlier ones count as rivals of later ones.

    Raises BadInput for an order that the shop does not know, or when a model is wanted and none
    is configured; SystemUnavailable without the shop.
    """
    if with_model and not model.is_configured():
        raise BadInput("no model is configured; name one in REFUNDS_MODEL_URL")
    await asyncio.to_thread(records.check_against_shop, list(taken))
    rules = await asyncio.to_thread(books.policy)
    looked_at = await asyncio.to_thread(_looked_at, taken, rules)
    advice: list[Advice] = [None] * len(looked_at)
    if with_model:
        advice = await asyncio.gather(
            *(model.fresh_opinion(case, features, rules) for case, features in looked_at)
        )
    return [
        _assessed(case, features, rules, said)
        for (case, features), said in zip(looked_at, advice, strict=True)
    ]


def _looked_at(taken: Sequence[RefundRequest], rules: Policy) -> list[tuple[Case, RiskFeatures]]:
    """Each request's case and features; what the rules would not reject competes with the next."""
    earlier, found = dict[str, list[Rival]](), []
    for request in taken:
        case = orders.read_whole_case(request, 1)
        before = earlier.setdefault(request.order_id, [])
        known = {rival.refund_id for rival in case.rivals}
        rivals = (*case.rivals, *(rival for rival in before if rival.refund_id not in known))
        case = case.model_copy(update={"rivals": rivals})
        features = risk.read_risk(case)
        found.append((case, features))
        if policy.assess(case, features, rules).verdict is not Verdict.REJECT:
            before.append(_as_rival(request))
    return found


def _assessed(case: Case, features: RiskFeatures, rules: Policy, said: Advice) -> Assessed:
    found = policy.assess(case, features, rules, said)
    return Assessed(
        refund_id=case.refund_id,
        verdict=found.verdict,
        reasons=tuple(reason.text for reason in found.reasons),
    )


def _as_rival(request: RefundRequest) -> Rival:
    return Rival(
        refund_id=request.refund_id,
        state=State.RECEIVED,
        item_ids=request.item_ids,
        amount_minor=request.amount_minor,
        holds_money=False,
    )
