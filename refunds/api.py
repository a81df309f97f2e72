"""The Python API: submit, status, decide, watch, list. `Refunds` is the same without `await`."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, Self

from refunds import assessing, deciding, intake, recovering, steering, submitting, views
from refunds.assessing import Assessed
from refunds.errors import BadInput
from refunds.ledger import audit, history, migrate, requests
from refunds.ledger.approvals import Choice
from refunds.models import RefundRequest, State
from refunds.origin import Origin
from refunds.overnight import Overnight, SyncOvernight
from refunds.recovering import Recovering, Status
from refunds.settings import settings
from refunds.settling import Settling
from refunds.steering import Steering
from refunds.submitting import Submitted
from refunds.sync_steering import SyncSteering
from refunds.team import AsyncPeople, People
from tasks import books, decisions, runs

# How often `watch` looks for news, in seconds: a person cannot tell half a second from at once.
_WATCH_SECONDS = 0.5

Statuses = list[Status]
Events = list[dict[str, Any]]


class AsyncRefunds(Steering, Recovering, Settling, Overnight):
    """The engine's front door for asyncio programs; `people` is who may decide."""

    people = AsyncPeople()

    async def __aenter__(self) -> Self:
        """Bring the ledger's schema up to date."""
        await asyncio.to_thread(migrate, settings().ledger_database_url)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held open between calls."""

    async def submit(
        self, wanted: Sequence[RefundRequest | dict[str, Any]], *, lane: str = "now"
    ) -> list[Submitted]:
        """Take refund requests, all or none, and start their runs: many at once share one.

        `lane="nightly"` leaves them to tonight's batch. Submitting again changes nothing. Raises
        BadInput (for example ContentConflict) before anything is stored.
        """
        if lane not in ("now", "nightly"):
            raise BadInput(f"lane must be 'now' or 'nightly', not {lane!r}")
        return await submitting.submit([_taken(request) for request in wanted], lane)

    async def assess(
        self, wanted: Sequence[RefundRequest | dict[str, Any]], *, with_model: bool = False
    ) -> list[Assessed]:
        """Verdicts only. Earlier requests of the list count as rivals of later ones.

        `with_model` asks the model, too, which costs what it costs and is not kept. Raises
        BadInput when a request cannot be taken or no model is configured, SystemUnavailable
        without the shop.
        """
        return await assessing.assess(
            [_taken(request) for request in wanted], with_model=with_model
        )

    async def status(self, refund_id: str) -> Status:
        """Everything known of a refund: state, outcome, verdict, approval, effects, run_ids.

        Raises UnknownRefund.
        """
        return await asyncio.to_thread(views.status, books.ledger(), refund_id)

    async def list(self, state: State | str | None = None) -> Statuses:
        """All refunds in key order (in one state): id, state, outcome, verdict, amount."""
        wanted = None if state is None else steering.state_named(state)
        rows = await asyncio.to_thread(requests.listed, books.ledger(), wanted)
        return [views.summary(row) for row in rows]

    async def counts(self) -> dict[str, int]:
        """How many refunds are in each state."""
        return await asyncio.to_thread(requests.counts, books.ledger())

    async def decide(
        self,
        refund_id: str,
        choice: Choice,
        *,
        person: str,
        reason: str = "",
        digest: str | None = None,
        channel: str = "api",
        origin: Origin | None = None,
        on_behalf_of: str | None = None,
        link: str | None = None,
        amount_minor: int | None = None,
    ) -> Status:
        """Take a person's decision and wake the refund; returns its status.

        Its `goes_on` is "now", or "later" when Prefect is away: the decision is kept, and the
        sweep wakes the refund.

        `origin` says more of from where it came than `channel` does, which says whether the door
        knows who decides (`verified_channels` of the policy). `on_behalf_of` names who is away
        and whose delegate decides; `link` is the signed link that led here. An `amount_minor`
        below what is asked is proposed: it is asked anew under a new digest, and never paid by
        this call. Raises UnknownRefund or one of the Conflicts, such as DecisionLate, or
        DigestStale with what changed.
        """
        vote = deciding.vote(
            choice,
            person,
            reason=reason,
            digest=digest,
            origin=origin or Origin.of(channel),
            on_behalf_of=on_behalf_of,
            link=link,
            amount_minor=amount_minor,
        )
        is_told = True
        try:
            await decisions.take(refund_id, vote)
        finally:
            # Also after a refusal: a stale question has to be put again.
            is_told = await recovering.is_told(runs.wake(refund_id))
        return await recovering.going_on(refund_id, is_told=is_told)

    async def history(self, refund_id: str) -> Events:
        """Every event of a refund, oldest first. Raises UnknownRefund."""
        return await asyncio.to_thread(history.read, books.ledger(), refund_id)

    async def audit(self, since: datetime | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield every event of every refund and every change of people, with their digests."""
        events = audit.export(books.ledger(), since)
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event

    async def watch(self, refund_id: str) -> AsyncIterator[dict[str, Any]]:
        """Yield events as they happen, until the refund is over. Raises UnknownRefund."""
        seen = 0
        while True:
            row = await asyncio.to_thread(requests.read, books.ledger(), refund_id)
            if row["last_sequence"] > seen:
                for event in (await self.history(refund_id))[seen:]:
                    seen = event["sequence"]
                    yield event
            if row["outcome"] is not None:
                return
            await asyncio.sleep(_WATCH_SECONDS)


class Refunds(SyncSteering, SyncOvernight):
    """The same front door for programs without an event loop."""

    people = People()

    def __init__(self) -> None:
        """Open the ledger."""
        self._refunds = AsyncRefunds()
        migrate(settings().ledger_database_url)

    def submit(
        self, wanted: Sequence[RefundRequest | dict[str, Any]], *, lane: str = "now"
    ) -> list[Submitted]:
        """As `AsyncRefunds.submit`."""
        return asyncio.run(self._refunds.submit(wanted, lane=lane))

    def assess(
        self, wanted: Sequence[RefundRequest | dict[str, Any]], *, with_model: bool = False
    ) -> list[Assessed]:
        """As `AsyncRefunds.assess`."""
        return asyncio.run(self._refunds.assess(wanted, with_model=with_model))

    def status(self, refund_id: str) -> Status:
        """As `AsyncRefunds.status`."""
        return asyncio.run(self._refunds.status(refund_id))

    def list(self, state: State | str | None = None) -> Statuses:
        """As `AsyncRefunds.list`."""
        return asyncio.run(self._refunds.list(state))

    def counts(self) -> dict[str, int]:
        """As `AsyncRefunds.counts`."""
        return asyncio.run(self._refunds.counts())

    def decide(
        self,
        refund_id: str,
        choice: Choice,
        *,
        person: str,
        reason: str = "",
        digest: str | None = None,
        channel: str = "api",
        origin: Origin | None = None,
        on_behalf_of: str | None = None,
        link: str | None = None,
        amount_minor: int | None = None,
    ) -> Status:
        """As `AsyncRefunds.decide`."""
        return asyncio.run(
            self._refunds.decide(
                refund_id,
                choice,
                person=person,
                reason=reason,
                digest=digest,
                channel=channel,
                origin=origin,
                on_behalf_of=on_behalf_of,
                link=link,
                amount_minor=amount_minor,
            )
        )

    def history(self, refund_id: str) -> Events:
        """As `AsyncRefunds.history`."""
        return asyncio.run(self._refunds.history(refund_id))

    def audit(self, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        """As `AsyncRefunds.audit`."""
        return audit.export(books.ledger(), since)

    def watch(self, refund_id: str) -> Iterator[dict[str, Any]]:
        """As `AsyncRefunds.watch`."""
        with asyncio.Runner() as runner:
            events = self._refunds.watch(refund_id)
            while True:
                try:
                    yield runner.run(_next(events))
                except StopAsyncIteration:
                    return


async def _next(events: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    return await anext(events)


def _taken(wanted: RefundRequest | dict[str, Any]) -> RefundRequest:
    return wanted if isinstance(wanted, RefundRequest) else intake.read_request(wanted)
