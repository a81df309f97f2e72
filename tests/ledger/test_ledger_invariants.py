"""Whatever happens in whatever order, the books balance and nothing is lost."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from refunds.errors import ChargeExhausted, Conflict, LedgerRefusal
from refunds.ledger import approvals, charges, effects, history, leases, waits
from tests.ledger.ledger_desk import Desk, Runner

CAPTURED_MINOR = 3_000
# Twenty short stories of at most twenty-five steps: a few seconds on each database.
STORIES = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
WHICH = st.integers(0, 5)


class Story(RuleBasedStateMachine):
    """A few refunds on one charge, and a memory of what was promised."""

    desk: Desk

    def __init__(self) -> None:
        super().__init__()
        self.order = self.desk.order(CAPTURED_MINOR)
        self.runners: list[Runner] = []
        self.decided: dict[str, str] = {}
        self.paid: dict[str, int] = {}

    def pick(self, which: int) -> Runner:
        return self.runners[which % len(self.runners)]

    @precondition(lambda self: len(self.runners) < 6)
    @rule(amount_minor=st.sampled_from([500, 1_000, 1_800]))
    def submit(self, amount_minor: int) -> None:
        item = f"item_{len(self.runners)}"
        case = self.desk.case(self.order, amount_minor=amount_minor, item_ids=[item])
        self.runners.append(self.desk.run(case))

    @precondition(lambda self: self.runners)
    @rule(which=WHICH)
    def take_over(self, which: int) -> None:
        stale = self.pick(which)
        lease = leases.take(self.desk.ledger, stale.refund_id, "run-1")
        assert lease.fence is not None
        assert lease.fence > stale.fence
        self.runners[which % len(self.runners)] = Runner(stale.case, lease.fence)

    @precondition(lambda self: self.runners)
    @rule(which=WHICH)
    def ask_and_wait(self, which: int) -> None:
        runner = self.pick(which)
        self.attempt(self.desk.ask, runner)
        self.attempt(
            waits.open_wait,
            self.desk.ledger,
            runner.refund_id,
            "approval-1-team",
            reason="person",
            run_id="run-1",
            fence=runner.fence,
        )

    @precondition(lambda self: self.runners)
    @rule(
        which=WHICH,
        choice=st.sampled_from(["approve", "reject"]),
        person=st.sampled_from(["mia", "Mia", "noa", "sam"]),
    )
    def decide(self, which: int, choice: Any, person: str) -> None:
        runner = self.pick(which)
        standing = self.attempt(self.desk.decide, runner, choice, person)
        if standing is not None:
            self.decided.setdefault(runner.refund_id, standing.status)

    @precondition(lambda self: self.runners)
    @rule(which=WHICH)
    def reserve_and_intend(self, which: int) -> None:
        runner = self.pick(which)
        self.attempt(charges.reserve, self.desk.ledger, runner.case, runner.fence)
        self.attempt(self.desk.intend, runner)

    @precondition(lambda self: self.runners)
    @rule(which=WHICH, ending=st.sampled_from(["unknown", "pending", "succeeded", "refused"]))
    def hear_from_the_gateway(self, which: int, ending: str) -> None:
        runner = self.pick(which)
        effect = self.attempt(self.desk.record, runner, ending)
        if effect is not None and effect.state == "succeeded":
            self.paid[runner.refund_id] = runner.case.request.amount_minor

    @rule(seconds=st.sampled_from([10, 40_000]))
    def let_time_pass(self, seconds: int) -> None:
        self.desk.clock.advance(seconds)
        waits.end_due(self.desk.ledger)
        for runner in self.runners:
            if approvals.expire(self.desk.ledger, runner.refund_id):
                assert runner.refund_id not in self.decided
                self.decided[runner.refund_id] = "EXPIRED"

    @staticmethod
    def attempt(call: Any, *arguments: Any, **named: Any) -> Any:
        """What the ledger answers; None when it refuses, as it may at any time."""
        try:
            return call(*arguments, **named)
        except (ChargeExhausted, Conflict, LedgerRefusal):
            return None

    @invariant()
    def no_more_is_promised_than_was_captured(self) -> None:
        reserved, refunded = self.desk.money(self.order)
        assert reserved >= 0
        assert reserved + refunded <= CAPTURED_MINOR

    @invariant()
    def what_is_refunded_is_the_sum_of_what_was_paid(self) -> None:
        assert self.desk.money(self.order)[1] == sum(self.paid.values())

    @invariant()
    def what_is_reserved_is_what_was_sent_and_has_not_ended(self) -> None:
        unsettled = 0
        for runner in self.runners:
            effect = effects.read(self.desk.ledger, runner.payment_key)
            if effect is not None and not effect.is_final:
                assert charges.holds_money(self.desk.ledger, runner.refund_id)
                unsettled += runner.case.request.amount_minor
        assert self.desk.money(self.order)[0] >= unsettled

    @invariant()
    def no_decision_is_lost(self) -> None:
        for refund_id, status in self.decided.items():
            standing = approvals.standing(self.desk.ledger, refund_id)
            assert standing is not None
            assert standing.status == status
            for wait in waits.open_waits(self.desk.ledger, refund_id):
                assert wait["ended_at"] is not None

    def teardown(self) -> None:
        """Every history verifies."""
        for runner in self.runners:
            history.check(history.read(self.desk.ledger, runner.refund_id))


def test_the_books_balance_whatever_happens_in_whatever_order(desk: Desk) -> None:
    class OnThisLedger(Story):
        pass

    OnThisLedger.desk = desk
    run_state_machine_as_test(OnThisLedger, settings=STORIES)
