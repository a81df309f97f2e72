"""A command line with a ledger, a sandbox and no Prefect server."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from refunds import policy
from refunds.cli.program import program
from refunds.ledger import approvals, charges, effects, leases, migrate, requests
from refunds.ledger.approvals import Vote
from refunds.models import (
    ApprovalRequest,
    Assessment,
    Case,
    Outcome,
    Reason,
    RefundRequest,
    State,
    Verdict,
)
from refunds.settings import settings
from sandbox.process import SandboxProcess
from sandbox.testing import AUTHORIZATION, customer_record, order_record
from tasks import books, orders


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def run(*arguments: str, given: str | bytes | None = None) -> Ran:
    """Run one command in this process; an error that nobody expected is raised."""
    result = CliRunner().invoke(program, list(arguments), input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def request(number: int = 1, **changes: Any) -> dict[str, Any]:
    """The request to refund order number `number` as a whole."""
    return {
        "refund_id": f"rf_{number}",
        "kind": "return",
        "order_id": f"#W{number}",
        "customer_id": "ada_1",
        "item_ids": ["i1"],
        "amount_minor": 10_000,
        "currency": "USD",
        "refund_to": "card_ada_1",
        "reason": "broken",
    } | changes


def write_lines(path: Path, *records: dict[str, Any]) -> str:
    """A JSON Lines file; returns its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


class World:
    """The shop and the gateway of a sandbox process, and a ledger that this process writes."""

    def __init__(self, process: SandboxProcess) -> None:
        self.process = process
        migrate(settings().ledger_database_url)

    def load(self, *numbers: int, **changes: Any) -> None:
        """Orders with these numbers, of one customer."""
        rows = [order_record(f"#W{number}", **changes) for number in numbers]
        for kind, records in (("customers", [customer_record()]), ("orders", rows)):
            httpx.post(f"{self.process.url}/shop/{kind}", json=records).raise_for_status()

    def tamper(self, *statements: str) -> None:
        """Change the ledger as nobody should, behind the back of its guards."""
        with closing(sqlite3.connect(settings().home_dir / "ledger.db")) as connection:
            connection.execute("DROP TRIGGER IF EXISTS history_no_update")
            connection.execute("DROP TRIGGER IF EXISTS history_no_delete")
            for statement in statements:
                assert connection.execute(statement).rowcount != 0, statement
            connection.commit()

    def at_gateway(self, number: int, *, amount_minor: int = 10_000, key: str = "") -> str:
        """Refund at the gateway, for refund `number`; returns the gateway's id."""
        form = {
            "charge": f"ch_W{number}",
            "amount": str(amount_minor),
            "metadata[refund_id]": f"rf_{number}",
            "metadata[key]": f"rf_{number}:issue_refund",
        }
        url = f"{self.process.url}/gateway/v1/refunds"
        headers = AUTHORIZATION | {"Idempotency-Key": key or form["metadata[key]"]}
        answer = httpx.post(url, data=form, headers=headers).raise_for_status()
        return str(answer.json()["id"])

    def begin(self, number: int = 1, verdict: Verdict = Verdict.APPROVE) -> tuple[Case, int]:
        """A refund that was assessed, by a run of its own; returns its case and the fence."""
        wanted, ledger = RefundRequest.model_validate(request(number)), books.ledger()
        requests.submit(ledger, [wanted])
        fence = leases.take(ledger, wanted.refund_id, f"run-{number}").fence
        assert fence is not None
        case = orders.read_whole_case(wanted, 1)
        reason = Reason(rule="rules", verdict=verdict, text="Because.")
        found = Assessment(verdict=verdict, reasons=(reason,), policy_version=_version())
        with ledger.page(wanted.refund_id, fence) as page:
            page.append("refund.assessed", {"round": 1, "assessment": found.plain()})
            page.change(verdict=str(verdict), reasons=[reason.plain()])
        return case, fence

    def ask(self, case: Case, fence: int) -> None:
        """Put the refund to a person."""
        facts, now = policy.bound_facts(case, None, _version()), books.ledger().clock()
        question = ApprovalRequest(
            approval_id=f"{case.refund_id}:approval:1",
            refund_id=case.refund_id,
            round=1,
            digest=policy.binding_digest(facts),
            facts=facts,
            people_needed=1,
            verified_needed=False,
            escalate_at=now.replace(year=now.year + 1),
            deadline=now.replace(year=now.year + 2),
        )
        approvals.open_approval(books.ledger(), question, case.request.requester, fence)

    def send(self, case: Case, fence: int) -> str:
        """Reserve the money and commit the intent to pay; returns the effect's key."""
        key = f"{case.refund_id}:issue_refund"
        assert case.charge is not None
        form = {
            "charge": case.charge.charge_id,
            "amount": str(case.request.amount_minor),
            "metadata[refund_to]": case.request.refund_to,
        }
        charges.reserve(books.ledger(), case, fence)
        effects.intend(
            books.ledger(),
            case.refund_id,
            key,
            step="issue_refund",
            system="gateway",
            request=form,
            fence=fence,
        )
        return key

    def conclude(self, case: Case, fence: int, outcome: Outcome) -> None:
        """Close the refund's books."""
        with books.ledger().page(case.refund_id, fence) as page:
            page.append("refund.concluded", {"outcome": str(outcome), "why": "It is."})
            page.enter(State.COMPLETED)
            page.change(outcome=str(outcome), completed_at=page.now)

    def pay(
        self,
        number: int = 1,
        verdict: Verdict = Verdict.APPROVE,
        *,
        reference: str | None = None,
    ) -> None:
        """A refund from its request to PAID; with a `reference` the gateway is passed over."""
        case, fence = self.begin(number, verdict)
        if verdict is Verdict.REVIEW:
            self.ask(case, fence)
            vote = Vote("approve", "bob", "cli", verified=True)
            approvals.decide(books.ledger(), case.refund_id, vote)
        key = self.send(case, fence)
        found = {"id": reference or self.at_gateway(number), "status": "succeeded"}
        effects.record(
            books.ledger(), case.refund_id, key, "succeeded", response=found, fence=fence
        )
        self.conclude(case, fence, Outcome.PAID)


def _version() -> str:
    return books.policy().full_version
