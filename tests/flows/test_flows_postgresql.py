"""The main paths once more, with the ledger and Prefect's results in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.setup import set_up
from refunds.ledger.engine import dispose_engines
from refunds.settings import Settings
from tests.flows import test_flows_approvals as approvals
from tests.flows import test_flows_crashes as crashes
from tests.flows import test_flows_payments as payments
from tests.flows import test_flows_resume as resume
from tests.flows import test_flows_verdicts as verdicts
from tests.house import services

pytestmark = [pytest.mark.anyio, pytest.mark.postgresql]

test_approve = verdicts.test_what_the_rules_approve_is_paid_and_everybody_is_told_once
test_decline = verdicts.test_a_declined_payment_is_undone_and_its_money_is_free_again
test_exhausted = verdicts.test_two_refunds_of_one_charge_are_never_both_paid
test_review = approvals.test_an_approved_review_is_paid
test_reject = approvals.test_a_rejected_review_is_not_paid
test_two_doors = approvals.test_the_same_approval_from_two_doors_at_once_pays_once
test_opposite = approvals.test_of_two_opposite_decisions_at_once_one_is_taken
test_expire = approvals.test_an_undecided_review_escalates_once_then_expires_and_is_never_paid
test_sweep = payments.test_the_sweep_asks_when_the_webhook_never_comes
test_outage = payments.test_a_gateway_that_stays_away_becomes_a_wait_and_is_paid_later
test_suspend = resume.test_a_suspended_run_goes_on_after_its_decision_and_pays_once
test_kill = crashes.test_a_refund_killed_while_it_waits_is_decided_and_paid_once


@pytest.fixture(scope="module")
def stack(stack: dict[str, str], postgresql_server: str) -> Iterator[dict[str, str]]:
    """The stack of all flow tests, set up anew for another ledger while this module runs."""
    where = {"home": Path(stack["REFUNDS_HOME"]), "port": int(stack["REFUNDS_PORT"])}
    with services.fresh_database(postgresql_server) as url:
        asyncio.run(set_up(Settings.model_validate({**where, "ledger_url": SecretStr(url)})))
        yield {**stack, "REFUNDS_LEDGER_URL": url}
        dispose_engines()
    asyncio.run(set_up(Settings.model_validate(where)))
