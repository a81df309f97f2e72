"""A ledger whose clock the test moves, and short ways to ask, run and decide."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import sqlalchemy as sa

from refunds.ledger import Ledger, approvals, charges, effects, history, leases, requests, schema
from refunds.ledger.approvals import Choice, Standing, Vote
from refunds.models import ApprovalRequest, Case, Charge, Item, Kind, Order, RefundRequest
from sandbox.testing import FakeClock

T = TypeVar("T")

# Tests share a database, so no two of them may use one id.
_numbers = itertools.count(1)


def new_id(prefix: str) -> str:
    """An id that no other test uses."""
    return f"{prefix}_{next(_numbers)}"


@dataclass(frozen=True)
class Runner:
    """A case with the fence of the run that carries it on."""

    case: Case
    fence: int

    @property
    def refund_id(self) -> str:
        return self.case.refund_id

    @property
    def payment_key(self) -> str:
        return effects.key_of(self.refund_id, effects.PAYMENT_STEP)


@dataclass(frozen=True)
class Desk:
    """The ledger and its clock."""

    ledger: Ledger
    clock: FakeClock

    def with_a_clock_of_its_own(self) -> "Desk":
        """Another process on the same ledger, whose clock is moved alone."""
        clock = FakeClock()
        clock.now = self.clock.now
        return Desk(Ledger(self.ledger.engine, clock), clock)

    def order(self, *captured_minor: int, items: tuple[str, ...] = ()) -> Order:
        """An order paid with one charge of each amount; without items it has a hundred."""
        order_id = new_id("#W")
        names = items or tuple(f"item_{n}" for n in range(100))
        paid = tuple(
            Charge(
                charge_id=f"ch_{order_id}_{n}",
                payment_method_id=f"card_{n}",
                currency="USD",
                captured_minor=minor,
                left_minor=minor,
            )
            for n, minor in enumerate(captured_minor or (10_000,))
        )
        for charge in paid:
            charges.open_charge(self.ledger, charge.charge_id, "USD", charge.captured_minor, 0)
        return Order(
            order_id=order_id,
            customer_id="ada",
            status="delivered",
            currency="USD",
            items=tuple(Item(item_id=name, name=name, price_minor=100) for name in names),
            charges=paid,
            payment_methods={charge.payment_method_id: "credit_card" for charge in paid},
        )

    def case(self, order: Order | None = None, **fields: Any) -> Case:
        """A request that was submitted, with its order."""
        order = order or self.order()
        asked = request(order_id=order.order_id, **fields)
        requests.submit(self.ledger, [asked])
        return Case(request=asked, round=1, order=order)

    def run(self, case: Case | None = None, **fields: Any) -> Runner:
        """A run that holds the lease on a case."""
        case = case or self.case(**fields)
        lease = leases.take(self.ledger, case.refund_id, "run-1")
        assert lease.fence is not None
        return Runner(case, lease.fence)

    def paying(self, case: Case | None = None, **fields: Any) -> Runner:
        """A run that has reserved its money and committed to pay it."""
        runner = self.run(case, **fields)
        charges.reserve(self.ledger, runner.case, runner.fence)
        self.intend(runner)
        return runner

    def intend(
        self, runner: Runner, step: str = effects.PAYMENT_STEP, **content: Any
    ) -> effects.Effect:
        """Commit the intent of a step; by default it pays what was asked."""
        case = runner.case
        if not content and case.charge is not None:
            content = {
                "charge": case.charge.charge_id,
                "amount": str(case.request.amount_minor),
            }
        return effects.intend(
            self.ledger,
            runner.refund_id,
            effects.key_of(runner.refund_id, step),
            step=step,
            system="gateway",
            request=content,
            fence=runner.fence,
        )

    def record(self, runner: Runner, state: str, **more: Any) -> effects.Effect:
        """Commit how the payment's send ended, as the runner."""
        key, fence = runner.payment_key, runner.fence
        return effects.record(self.ledger, runner.refund_id, key, state, fence=fence, **more)

    def payment(self, runner: Runner) -> effects.Effect:
        """The payment's effect as the ledger has it."""
        effect = effects.read(self.ledger, runner.payment_key)
        assert effect is not None
        return effect

    def ask(self, runner: Runner, round_number: int = 1, **fields: Any) -> ApprovalRequest:
        """Open an approval that is due in a day."""
        now = self.clock()
        asked = ApprovalRequest.model_validate(
            {
                "approval_id": f"{runner.refund_id}:approval:{round_number}",
                "refund_id": runner.refund_id,
                "round": round_number,
                "digest": "as-asked",
                "facts": {},
                "people_needed": 1,
                "verified_needed": False,
                "escalate_at": now + timedelta(hours=12),
                "deadline": now + timedelta(hours=24),
            }
            | fields
        )
        requester = runner.case.request.requester
        approvals.open_approval(self.ledger, asked, requester, runner.fence)
        return asked

    def asked(self, **fields: Any) -> Runner:
        """A run that has asked a person."""
        runner = self.run()
        self.ask(runner, **fields)
        return runner

    def decide(self, runner: Runner, choice: Choice, person: str = "mia", **more: Any) -> Standing:
        """One person's vote."""
        given: dict[str, Any] = {"channel": "test", "verified": True} | more
        vote = Vote(choice=choice, person=person, **given)
        return approvals.decide(self.ledger, runner.refund_id, vote)

    def standing(self, runner: Runner) -> Standing:
        """Where the approval stands."""
        standing = approvals.standing(self.ledger, runner.refund_id)
        assert standing is not None
        return standing

    def events(self, refund_id: str) -> list[str]:
        """The names of what happened, once the chain was checked."""
        happened = history.read(self.ledger, refund_id)
        history.check(happened)
        return [event["event"] for event in happened]

    def money(self, order: Order, charge: int = 0) -> tuple[int, int]:
        """(reserved, refunded) of one of the order's charges."""
        row = schema.charges.c
        with self.ledger.reading() as connection:
            found = connection.execute(
                sa.select(row.reserved_minor, row.refunded_minor).where(
                    row.charge_id == order.charges[charge].charge_id
                )
            ).one()
        return found.reserved_minor, found.refunded_minor


def request(**fields: Any) -> RefundRequest:
    """A request for one item and ten dollars."""
    return RefundRequest.model_validate(
        {
            "refund_id": new_id("rf"),
            "kind": Kind.RETURN,
            "order_id": "#W0",
            "customer_id": "ada",
            "item_ids": ["item_0"],
            "amount_minor": 1_000,
            "currency": "USD",
            "refund_to": "card_0",
            "reason": "no longer needed",
            "requested_by": "sam",
        }
        | fields
    )


def at_once(*calls: Any) -> list[Any]:
    """Call each in a thread of its own; what was returned, or the error, in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
    return [future.exception() or future.result() for future in futures]
