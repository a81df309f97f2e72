"""What holds for every case, whatever the rules say in detail."""

from collections import Counter

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from refunds import policy
from refunds.models import Advice, Case, Opinion, RiskFeatures, Verdict
from refunds.policy_file import Limits, Policy
from tests.domain.domain_cases import ADVICE, CALM, POLICY, RISKS, cases

STRICTNESS = [Verdict.APPROVE, Verdict.REVIEW, Verdict.REJECT]
# The same cases on every machine; most random ones are refused, which assume() counts.
settings.register_profile(
    "domain",
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
thorough = settings(settings.get_profile("domain"))


def strictness(case: Case, risk: RiskFeatures | None, opinion: Advice = None) -> int:
    return STRICTNESS.index(policy.assess(case, risk, POLICY, opinion).verdict)


@thorough
@given(cases(), RISKS, ADVICE)
def test_an_opinion_never_loosens_a_verdict(
    case: Case, risk: RiskFeatures | None, opinion: Advice
) -> None:
    assert strictness(case, risk, opinion) >= strictness(case, risk)


@thorough
@given(cases(), RISKS, ADVICE)
def test_a_rejection_does_not_depend_on_the_opinion_or_the_risk(
    case: Case, risk: RiskFeatures | None, opinion: Advice
) -> None:
    with_all = policy.assess(case, risk, POLICY, opinion)
    bare = policy.assess(case, CALM, POLICY)
    assert (with_all.verdict is Verdict.REJECT) == (bare.verdict is Verdict.REJECT)
    if bare.verdict is Verdict.REJECT:
        assert with_all.reasons == bare.reasons


@settings(thorough, max_examples=100)
@given(cases(), ADVICE)
def test_an_approval_keeps_every_promise_of_the_policy(case: Case, opinion: Advice) -> None:
    assume(policy.assess(case, CALM, POLICY, opinion).verdict is Verdict.APPROVE)
    request, order, charge = case.request, case.order, case.charge
    assert order is not None
    assert charge is not None
    assert order.customer_id == request.customer_id
    assert request.amount_minor <= charge.left_minor
    assert request.currency == order.currency == charge.currency
    assert not Counter(request.item_ids) - Counter(item.item_id for item in order.items)
    assert (
        request.refund_to in {c.payment_method_id for c in order.charges}
        or order.payment_methods[request.refund_to] == "gift_card"
    )
    limit = POLICY.approve_without_a_person.of(request.currency)
    assert limit is not None
    assert request.amount_minor <= limit
    if opinion is not None:
        assert isinstance(opinion, Opinion)
        assert opinion.recommendation == "approve"
        assert opinion.confidence_percent >= 70
        assert not {"hidden_text", "threatens"} & set(opinion.signals)


@thorough
@given(cases(), RISKS, ADVICE)
def test_the_same_facts_give_the_same_assessment(
    case: Case, risk: RiskFeatures | None, opinion: Advice
) -> None:
    copy = Case.model_validate_json(case.model_dump_json())
    first = policy.assess(case, risk, POLICY, opinion)
    assert policy.assess(copy, risk, POLICY, opinion) == first


@thorough
@given(cases(), RISKS)
def test_a_verdict_is_as_strict_as_its_strictest_reason(
    case: Case, risk: RiskFeatures | None
) -> None:
    assessment = policy.assess(case, risk, POLICY)
    assert assessment.reasons
    assert assessment.verdict == max(
        (reason.verdict for reason in assessment.reasons), key=STRICTNESS.index
    )


def lowered(limits: Limits, to: int) -> Limits:
    amounts = {c: min(amount, to) for c, amount in limits.amounts_minor.items()}
    return limits.model_copy(update={"amounts_minor": amounts})


def stricter(base: Policy, limit: int, coupon: int, refunds: int, percent: int) -> Policy:
    risk = {
        "other_refunds": min(base.risk.other_refunds, refunds),
        "cancelled_percent": min(base.risk.cancelled_percent, percent),
    }
    return base.model_copy(
        update={
            "approve_without_a_person": lowered(base.approve_without_a_person, limit),
            "goodwill": lowered(base.goodwill, coupon),
            "risk": base.risk.model_copy(update=risk),
        }
    )


@thorough
@given(
    cases(),
    RISKS,
    st.builds(
        stricter,
        st.just(POLICY),
        st.integers(0, 200_000),
        st.integers(0, 3_000),
        st.integers(1, 6),
        st.integers(0, 100),
    ),
)
def test_a_stricter_policy_never_loosens_a_verdict(
    case: Case, risk: RiskFeatures | None, strict: Policy
) -> None:
    after = STRICTNESS.index(policy.assess(case, risk, strict).verdict)
    assert after >= strictness(case, risk)


def test_the_cases_above_reach_every_verdict_often() -> None:
    seen: Counter[Verdict] = Counter()

    @thorough
    @given(cases())
    def look(case: Case) -> None:
        seen[policy.assess(case, CALM, POLICY).verdict] += 1

    look()
    assert min(seen[verdict] for verdict in Verdict) >= 10, seen
