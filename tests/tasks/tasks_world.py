"""A sandbox in its own process, a ledger, and refunds whose steps are called one by one."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from prefect import Task

from refunds.errors import StepRetryable
from refunds.ledger import Ledger, charges, effects, leases, requests, schema
from refunds.models import ApprovalRequest, Case, Level, Outcome, Receipt, RefundRequest
from refunds.policy import binding_digest, bound_facts
from sandbox.process import SandboxProcess
from sandbox.testing import customer_record, order_record
from tasks import books, cards, coupons, crm, logistics, notices, orders, payments

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Step:
    """One task: where it acts, and what it is called with (a receipt for what it undoes)."""

    task: Task[..., Any]
    endpoint: str
    arguments: Callable[[Case], tuple[Any, ...]] = lambda _: ()
    undoes: Task[..., Any] | None = None
    attempt: str | None = None

    def key(self, case: Case) -> str:
        """The effect's key."""
        name = f"{case.refund_id}:{self.task.name}"
        return f"{name}:{self.attempt}" if self.attempt else name

    @property
    def listing(self) -> str:
        """Where the step asks for what an earlier send did."""
        return self.endpoint.replace("POST", "GET")


def _card(case: Case) -> tuple[Any, ...]:
    facts = bound_facts(case, None, "test")
    until = datetime(2026, 11, 24, tzinfo=UTC)
    team = Level(name="team", audience="refund-approvers", until=until)
    approval = ApprovalRequest(
        approval_id=f"{case.refund_id}:approval:1",
        refund_id=case.refund_id,
        round=1,
        digest=binding_digest(facts),
        facts=facts,
        people_needed=1,
        verified_needed=False,
        levels=(team,),
        escalate_at=team.until,
        deadline=team.until,
    )
    return (approval, team)


_COUPONS = "POST /coupons/v1/coupons"
_HOLDS = "POST /logistics/v1/holds"
_LABELS = "POST /logistics/v1/labels"
_MESSAGES = "POST /notices/v1/messages"
PAY = Step(payments.issue_refund, "POST /gateway/v1/refunds")
MAKING = {
    step.task.name: step
    for step in (
        Step(crm.sync_crm, "POST /crm/v1/cases", lambda _: (Outcome.PAID, "Paid.")),
        Step(coupons.issue_coupon, _COUPONS),
        Step(logistics.hold_shipment, _HOLDS),
        Step(logistics.create_return_label, _LABELS),
        Step(notices.notify_customer, _MESSAGES, lambda _: (Outcome.PAID,)),
        Step(notices.notify_service, _MESSAGES, lambda _: (Outcome.FAILED, "Declined.")),
        Step(cards.send_card, _MESSAGES, _card, attempt="1:team"),
    )
}
UNDOING = {
    step.task.name: step
    for step in (
        Step(coupons.void_coupon, f"{_COUPONS}/{{id}}/void", undoes=coupons.issue_coupon),
        Step(
            logistics.release_shipment, f"{_HOLDS}/{{id}}/release", undoes=logistics.hold_shipment
        ),
        Step(
            logistics.cancel_return_label,
            f"{_LABELS}/{{id}}/cancel",
            undoes=logistics.create_return_label,
        ),
    )
}
STEPS = {PAY.task.name: PAY, **MAKING, **UNDOING}


@dataclass(frozen=True)
class Outside:
    """What the tests of one module share."""

    process: SandboxProcess
    ledger_url: str
    client: httpx.Client
    runner: asyncio.Runner


class World:
    """The outside world, and the ledger."""

    def __init__(self, outside: Outside) -> None:
        self.process = outside.process
        self.client = outside.client
        self.run = outside.runner.run
        self.ledger: Ledger = books.ledger()

    def request(self, paid_minor: int = 10_000, **fields: Any) -> RefundRequest:
        """A request about a new order that the shop knows."""
        number = next(_numbers)
        order = order_record(f"#W{number}", paid_minor=paid_minor)
        self.client.post("/shop/customers", json=[customer_record()]).raise_for_status()
        self.client.post("/shop/orders", json=[order]).raise_for_status()
        return RefundRequest.model_validate(
            {
                "refund_id": f"rf_{number}",
                "kind": "return",
                "order_id": f"#W{number}",
                "customer_id": "ada_1",
                "item_ids": ["i1"],
                "amount_minor": 1_000,
                "currency": "USD",
                "refund_to": "card_ada_1",
                "reason": "no longer needed",
                "goodwill_minor": 500,
            }
            | fields
        )

    def running(self, charge_id: str | None = None, **fields: Any) -> Case:
        """A case that this process runs, with its money reserved, of another charge if named."""
        request = self.request(**fields)
        requests.submit(self.ledger, [request])
        lease = leases.take(self.ledger, request.refund_id, "run-1")
        assert lease.fence is not None
        books.hold(request.refund_id, lease.fence)
        case: Case = self.run(orders.load_order.fn(request, 1))
        if charge_id is not None:
            assert case.order is not None
            assert case.charge is not None
            charge = case.charge.model_copy(update={"charge_id": charge_id})
            order = case.order.model_copy(update={"charges": (charge,)})
            case = case.model_copy(update={"order": order})
            charges.open_charge(self.ledger, charge_id, "USD", charge.captured_minor, 0)
        charges.reserve(self.ledger, case, lease.fence)
        return case

    def ready(self, step: Step) -> tuple[Case, tuple[Any, ...]]:
        """A case and the step's arguments; what it undoes was done."""
        case = self.running()
        if step.undoes is None:
            return case, (case, *step.arguments(case))
        done: Receipt = self.run(step.undoes.fn(case))
        return case, (case, done)

    def perform(self, step: Step, arguments: tuple[Any, ...]) -> Any:
        """Call a step as often as Prefect would; raises what its last retry raises."""
        for _ in range(step.task.retries):
            with contextlib.suppress(StepRetryable):
                return self.run(step.task.fn(*arguments))
        return self.run(step.task.fn(*arguments))

    def faults(self, *rules: dict[str, Any]) -> None:
        """Switch these faults on, and all others off."""
        self.client.put("/faults", json={"rules": list(rules)}).raise_for_status()

    def acts(self, key: str) -> list[dict[str, Any]]:
        """What the outside world did under a key."""
        refund_id = key.partition(":")[0]
        listed = self.client.get("/effects", params={"refund_id": refund_id, "limit": 1_000})
        return [act for act in listed.raise_for_status().json()["effects"] if act["key"] == key]

    def effect(self, key: str) -> effects.Effect:
        """The effect as the ledger has it."""
        effect = effects.read(self.ledger, key)
        assert effect is not None
        return effect

    def rested(self) -> None:
        """Every system has had the rest that it asked for."""
        with self.ledger.writing() as connection:
            connection.execute(schema.outages.delete())

    def settle(self, reference: str, status: str, **more: str) -> None:
        """Let the bank settle a refund now."""
        body = {"refund": reference, "status": status, **more}
        self.client.put("/gateway/settle", json=body).raise_for_status()


def fault(endpoint: str, kind: str, times: int | None = 1, **fields: Any) -> dict[str, Any]:
    """A rule for `World.faults`."""
    return {"endpoint": endpoint, "kind": kind, "times": times, **fields}
