"""Reading the shop, and the ledger's own steps."""

from pathlib import Path

import pytest

from refunds.errors import BadInput, NeedsAttention, StaleRunner, SystemUnavailable
from refunds.ledger import approvals, charges, history, leases, requests
from refunds.models import Assessment, Case, Outcome, RiskFeatures, Verdict
from refunds.settings import settings
from sandbox.testing import order_record
from tasks import books, model, orders, records, risk
from tests.tasks.tasks_world import PAY, World, fault


def assessed(verdict: Verdict = Verdict.REVIEW) -> Assessment:
    version = books.policy().full_version
    return Assessment(verdict=verdict, reasons=(), policy_version=version)


def reserve(world: World, case: Case, assessment: Assessment) -> bool:
    reserved: bool = world.run(records.reserve_money.fn(case, assessment))
    return reserved


def running(world: World) -> Case:
    """A case that this process runs; nothing is reserved yet."""
    request = world.request()
    requests.submit(world.ledger, [request])
    lease = leases.take(world.ledger, request.refund_id, "run-1")
    assert lease.fence is not None
    books.hold(request.refund_id, lease.fence)
    case: Case = world.run(orders.load_order.fn(request, 1))
    return case


def test_an_order_is_loaded_with_its_charge_as_the_ledger_knows_it(world: World) -> None:
    case = world.running()
    again: Case = world.run(orders.load_order.fn(case.request, 2))
    assert again.round == 2
    assert again.charge is not None
    assert (again.charge.captured_minor, again.charge.left_minor) == (10_000, 9_000)
    assert world.run(orders.load_after_sale.fn(again)).after_sales == ()


def test_an_order_that_the_shop_does_not_know_has_no_facts(world: World) -> None:
    request = world.request().model_copy(update={"order_id": "#nowhere"})
    assert world.run(orders.load_order.fn(request, 1)).order is None
    with pytest.raises(BadInput, match="the shop has no order #nowhere"):
        records.check_against_shop([request])


def test_a_request_in_another_currency_than_its_order_is_refused(world: World) -> None:
    request = world.request(currency="EUR")
    with pytest.raises(BadInput, match="is in USD, the request in EUR"):
        records.check_against_shop([request])


def test_a_shop_that_cannot_be_read_is_unavailable(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = world.running()
    monkeypatch.setenv("REFUNDS_SHOP_URL", f"sqlite:///{tmp_path}/nowhere/shop.db")
    settings.cache_clear()
    books._engine.cache_clear()
    with pytest.raises(SystemUnavailable, match="cannot be read"):
        world.run(orders.load_order.fn(case.request, 1))
    with pytest.raises(SystemUnavailable, match="cannot be read"):
        world.run(risk.load_risk.fn(case))


def test_a_known_refund_goes_on_while_the_shop_is_away_and_a_new_one_is_not_taken(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known, new = world.running().request, world.request()
    monkeypatch.setenv("REFUNDS_SHOP_URL", f"sqlite:///{tmp_path}/nowhere/shop.db")
    settings.cache_clear()
    books._engine.cache_clear()
    assert world.run(records.open_refund.fn(known)).outcome is None
    with pytest.raises(SystemUnavailable, match="cannot be read"):
        world.run(records.open_refund.fn(new))
    assert not requests.is_known(world.ledger, new.refund_id)


def test_risk_counts_the_customers_other_refunds(world: World) -> None:
    before = world.run(risk.load_risk.fn(world.running())).other_refunds
    assert world.run(risk.load_risk.fn(world.running())).other_refunds == before + 1


def test_without_a_model_nobody_has_an_opinion(world: World) -> None:
    case = world.running()
    assert world.run(model.ask_opinion.fn(case, risk.read_risk(case))) is None


def test_money_is_reserved_for_what_was_assessed_and_only_once(world: World) -> None:
    case = running(world)
    for _ in range(2):
        assert reserve(world, case, assessed(Verdict.APPROVE))
    assert case.charge is not None
    assert charges.left_on(world.ledger, case.charge.charge_id) == 9_000


def test_nothing_is_reserved_for_a_review_that_nobody_approved_whatever_led_there(
    world: World,
) -> None:
    case = running(world)
    with pytest.raises(NeedsAttention, match="nobody's approval of round 1"):
        reserve(world, case, assessed())
    assert not charges.holds_money(world.ledger, case.refund_id)


def test_what_changed_after_it_was_approved_is_not_paid_and_is_asked_anew(world: World) -> None:
    case = running(world)
    approval = world.run(records.request_approval.fn(case, assessed(), books.policy()))
    vote = approvals.Vote(choice="approve", person="mia", channel="test", verified=True)
    approvals.decide(world.ledger, case.refund_id, vote)
    moved = order_record(case.request.order_id, status="pending")
    world.client.post("/shop/orders", json=[moved]).raise_for_status()
    assert not reserve(world, case, assessed())
    assert not charges.holds_money(world.ledger, case.refund_id)
    standing = approvals.standing(world.ledger, case.refund_id)
    assert standing is not None
    assert (standing.approval_id, standing.status) == (approval.approval_id, "superseded")


def test_a_question_asked_again_keeps_its_deadline(world: World) -> None:
    case = running(world)
    ask = records.request_approval.fn
    first = world.run(ask(case, assessed(), books.policy()))
    assert world.run(ask(case, assessed(), books.policy())) == first


def test_the_audit_is_written_once_and_ends_the_run(world: World) -> None:
    case = world.running()
    assert world.run(records.write_audit.fn(case, Outcome.PAID, "Paid.")) is Outcome.PAID
    row = requests.read(world.ledger, case.refund_id)
    assert (row["outcome"], row["state"], row["lease_holder"]) == ("PAID", "completed", None)
    with pytest.raises(StaleRunner):
        world.run(records.write_audit.fn(case, Outcome.FAILED, "Not paid."))


def test_a_policy_that_cannot_be_read_needs_a_person(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = world.running()
    monkeypatch.setenv("REFUNDS_POLICY", str(tmp_path / "missing.toml"))
    settings.cache_clear()
    with pytest.raises(NeedsAttention, match="cannot be read"):
        world.run(records.load_policy.fn(case))


def test_a_round_is_assessed_once_even_when_its_results_are_lost(world: World) -> None:
    case = running(world)
    assessment = assessed()
    features = world.run(risk.load_risk.fn(case))
    world.run(_written(case, assessment, features))
    order = order_record(case.request.order_id, paid_minor=10_000, status="processed")
    world.client.post("/shop/orders", json=[order]).raise_for_status()
    again: Case = world.run(orders.load_order.fn(case.request, 1))
    assert again.order == case.order
    assert world.run(orders.load_after_sale.fn(again)).after_sales == case.after_sales
    world.run(_written(case, assessment, features))
    events = history.read(world.ledger, case.refund_id)
    assert [event["event"] for event in events].count("refund.assessed") == 1
    fresh: Case = world.run(orders.load_order.fn(case.request, 2))
    assert fresh.order is not None
    assert fresh.order.status == "processed"


def test_a_payment_that_was_refused_reserves_nothing_again(world: World) -> None:
    case = running(world)
    assert reserve(world, case, assessed(Verdict.APPROVE))
    world.faults(fault(PAY.endpoint, "decline"))
    world.perform(PAY, (case,))
    world.faults()
    assert not charges.holds_money(world.ledger, case.refund_id)
    assert reserve(world, case, assessed(Verdict.APPROVE))
    assert not charges.holds_money(world.ledger, case.refund_id)


async def _written(case: Case, assessment: Assessment, features: RiskFeatures) -> None:
    """`record_assessment` without the page that Prefect shows of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "acreate_markdown_artifact", _nothing)
        await records.record_assessment.fn(case, assessment, features)


async def _nothing(**_: object) -> None:
    """Nobody looks."""
