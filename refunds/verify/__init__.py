"""Does the ledger agree with itself and, to the cent, with the gateway's books?

The gateway is asked first and the ledger is read afterwards, in one snapshot: what the gateway
has was intended before, so a payment made meanwhile is no false alarm. What the ledger booked
after the gateway was asked is asked for once more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from refunds import money
from refunds.errors import HistoryBroken, StepRefused
from refunds.ledger import charges, people
from refunds.models import Outcome
from refunds.verify import rules
from refunds.verify.dossiers import Dossier, read_all
from refunds.verify.gateway_books import GatewayBooks, check_charges, disagreements
from tasks import books, gateways
from tasks.gateways import GatewayRefund

# Often enough to see that it goes on, seldom enough to read.
_PROGRESS_COUNT = 1_000


@dataclass
class Report:
    """What is wrong, a sentence each, and how much was looked at."""

    problems: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> str:
        """The outcome in one line."""
        paid = ", ".join(money.show(a, c) for c, a in sorted(self.counts["paid_minor"].items()))
        seen = (
            f"{self.counts['refunds']} refunds, {self.counts['events']} events, "
            f"{self.counts['effects']} effects, {self.counts['charges']} charges, "
            f"{self.counts['gateway_refunds']} refunds at the gateway; paid {paid or 'nothing'}"
        )
        if by_people := self.counts["settled_by_people"]:
            seen += f", {by_people} of them by the word of people"
        if self.problems:
            return f"{len(self.problems)} problems in {seen}"
        return f"all is well: {seen}"


async def verify(progress: Callable[[str], None] = lambda _: None) -> Report:
    """Check everything. Raises SystemUnavailable or StepUnknown when the gateway cannot tell."""
    started_at = books.ledger().clock()
    gateway = GatewayBooks()
    async for refund in _all_refunds():
        gateway.take(refund)
        if gateway.count % _PROGRESS_COUNT == 0:
            progress(f"{gateway.count} refunds read at the gateway")
    check = _Check(gateway, started_at, progress)
    await asyncio.to_thread(check.run)
    for dossier in check.late:
        fresh = GatewayBooks()
        charge_id = (dossier.payment or {})["request"]["charge"]
        async for refund in _of_charge(charge_id):
            fresh.take(refund)
        check.report.problems += disagreements(dossier, fresh.of(dossier))
    return check.report


async def _all_refunds() -> AsyncIterator[GatewayRefund]:
    """The gateway's books; where it has no list of all, those of the charges that we know."""
    every = gateways.gateway().all_listed()
    if every is not None:
        async for refund in every:
            yield refund
        return
    for charge_id in charges.all_known(books.ledger()):
        async for refund in _of_charge(charge_id):
            yield refund


async def _of_charge(charge_id: str) -> AsyncIterator[GatewayRefund]:
    """A charge that the gateway does not know has no refunds: what we have paid of it is missed."""
    with suppress(StepRefused):
        async for refund in gateways.gateway().listed(charge_id):
            yield refund


class _Check:
    """One pass over the ledger."""

    def __init__(
        self, gateway: GatewayBooks, started_at: datetime, progress: Callable[[str], None]
    ) -> None:
        self.report = Report()
        # What was booked since the gateway was asked.
        self.late: list[Dossier] = []
        self._gateway = gateway
        self._started_at = started_at
        self._progress = progress
        self._counts: Counter[str] = Counter(refunds=0, events=0, effects=0)
        self._paid: Counter[str] = Counter()
        self._unknown = set(gateway.ours)
        # Whose payment each reference is that people named.
        self._named: dict[str, str] = {}

    def run(self) -> None:
        """Check every refund and every charge, as they were at one moment."""
        ledger, problems = books.ledger(), self.report.problems
        options: dict[str, Any] = {"reads_only": True}
        if ledger.engine.dialect.name == "postgresql":
            # SQLite's readers see one moment anyway.
            options["isolation_level"] = "REPEATABLE READ"
        with ledger.engine.connect().execution_options(**options) as connection:
            for dossier in read_all(connection, problems):
                self._take(dossier)
            charge_count = check_charges(connection, self._gateway, problems)
        try:
            people.check(ledger)
        except (HistoryBroken, ValueError) as broken:
            problems.append(f"the record of who may decide: {broken}")
        problems += [
            f"{refund_id}: the gateway has {booked}, and the ledger does not know this refund"
            for refund_id in sorted(self._unknown)
            for booked in self._gateway.ours[refund_id]
        ]
        self.report.counts = {
            **self._counts,
            "charges": charge_count,
            "gateway_refunds": self._gateway.count,
            "paid_minor": dict(self._paid),
            "settled_by_people": len(self._named),
        }

    def _take(self, dossier: Dossier) -> None:
        problems, payment = self.report.problems, dossier.payment
        problems += rules.broken(dossier)
        found = self._gateway.of(dossier)
        if payment is not None and payment["updated_at"] >= self._started_at:
            self.late.append(dossier)
        else:
            problems += disagreements(dossier, found)
        if dossier.settled is not None:
            self._take_word(dossier.refund_id, dossier.settled["reference"])
        self._unknown.discard(dossier.refund_id)
        if dossier.row["outcome"] == Outcome.PAID:
            self._paid[dossier.row["currency"]] += dossier.row["amount_minor"]
        self._counts["refunds"] += 1
        self._counts["events"] += len(dossier.events)
        self._counts["effects"] += len(dossier.effects)
        if self._counts["refunds"] % _PROGRESS_COUNT == 0:
            self._progress(f"{self._counts['refunds']} refunds checked")

    def _take_word(self, refund_id: str, reference: str) -> None:
        if reference in self._gateway.failed:
            self.report.problems.append(
                f"{refund_id}: people named {reference} as its payment, which failed at the gateway"
            )
        other = self._named.setdefault(reference, refund_id)
        if other != refund_id:
            self.report.problems.append(
                f"{refund_id}: people named {reference} as its payment, and as that of {other}"
            )
