"""A disputed charge is known as such before anything is approved or paid."""

import pytest

from refunds.errors import StepRetryable
from refunds.ledger import charges
from refunds.models import Outcome
from tasks import crm, disputes, notices, orders
from tasks.batch import reading
from tests.tasks.tasks_world import MAKING, World, fault


def dispute(world: World, charge_id: str, *, is_open: bool = True) -> None:
    body = {"charge": charge_id, "disputed": is_open}
    world.client.put("/gateway/dispute", json=body).raise_for_status()


def test_the_gateways_word_is_kept_and_seen_by_the_chain_and_by_the_batch(world: World) -> None:
    case = world.running()
    assert case.charge is not None
    charge_id = case.charge.charge_id
    for is_open in (True, False):
        dispute(world, charge_id, is_open=is_open)
        assert world.run(disputes.look(charge_id)) is is_open
        request = case.request
        alone = orders.read_case(request, 1).charge
        among_many = reading.cases(world.ledger, [(request, 1)])[request.refund_id].charge
        assert alone == among_many
        assert alone is not None
        assert alone.is_disputed is is_open
        assert charges.disputed_among(world.ledger, [charge_id, "ch_other"]) == (
            {charge_id} if is_open else set()
        )


def test_a_gateway_that_does_not_know_the_charge_is_asked_to_pay_as_ever(world: World) -> None:
    assert world.run(disputes.look("ch_nobody")) is False


def test_a_gateway_that_is_away_is_not_taken_for_one_that_says_no(world: World) -> None:
    case = world.running()
    assert case.charge is not None
    world.faults(fault("GET /gateway/v1/charges/{id}", "error_before", status=503))
    with pytest.raises(StepRetryable):
        world.run(disputes.look(case.charge.charge_id))


@pytest.mark.parametrize("step", ["sync_crm", "notify_service"])
def test_words_that_a_new_version_puts_otherwise_are_no_other_request(
    world: World, step: str
) -> None:
    case = world.running()
    make = {"sync_crm": crm.crm_case, "notify_service": notices.service_notice}[step]
    one, other = make(case, Outcome.FAILED, "Declined."), make(case, Outcome.FAILED, "It failed.")
    assert (one.key, one.request) == (other.key, other.request)
    assert MAKING[step].task.name == step
