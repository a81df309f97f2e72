"""Steering refunds, from any door: back to an earlier step, planned first and done on request."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any

from refunds import history_document
from refunds.deciding import check_person
from refunds.errors import BadInput, Conflict, SystemUnavailable
from refunds.history_document import HistoryDocument
from refunds.ledger import requests, rewinding, updates
from refunds.ledger.updates import Update
from refunds.models import RefundRequest, State
from refunds.verify import bundles
from tasks import books, further_cards, gateways, orders, runs

Told = dict[str, Any]


class Steering:
    """The part of the front door that looks back and goes back."""

    async def history_document(self, refund_id: str) -> HistoryDocument:
        """The history as one document with all it refers to. Raises UnknownRefund."""
        return await asyncio.to_thread(history_document.of, books.ledger(), refund_id)

    async def export(self, refund_id: str) -> bytes:
        """The evidence bundle of a refund, sealed (`refunds verify FILE`). Raises UnknownRefund."""
        return await asyncio.to_thread(bundles.made, books.ledger(), refund_id)

    async def reset(
        self, refund_id: str, to: str, *, person: str, reason: str = "", apply: bool = False
    ) -> Told:
        """Put a refund back to before a step: what it would do, or with `apply` what it did.

        Nothing that was sent is sent again. `run_id` is the new run; None while the sweep has to
        launch it. Raises UnknownRefund, BadInput for a step it never came to, SystemUnavailable
        when the gateway cannot be asked, and with `apply` CannotReset for what would pay again.
        """
        why = check_person(person, reason)
        if apply and not reason.strip():
            raise BadInput("a reset needs a reason; it is kept in the history")
        ledger = books.ledger()
        row = await asyncio.to_thread(requests.read, ledger, refund_id)
        found = await _at_gateway(RefundRequest.model_validate(row["request"]))
        if not apply:
            plan = await asyncio.to_thread(rewinding.plan, ledger, refund_id, to, found)
            return {**plan.plain(), "applied": False, "run_id": None}
        done = await asyncio.to_thread(
            lambda: rewinding.apply(
                ledger, refund_id, to, person=person.strip(), reason=why, at_gateway=found
            )
        )
        return {**done.plain(), "applied": True, "run_id": await _launched(refund_id)}

    async def reset_all(
        self,
        to: str,
        *,
        person: str,
        state: State | str | None = None,
        needs: str = "",
        reason: str = "",
        apply: bool = False,
        after: str = "",
        limit: int | None = None,
    ) -> list[Told]:
        """The same for all that are not over, in a state, and whose need has the text `needs`.

        In key order, at most `limit` of those after the id `after`.
        """
        told = []
        for row in await chosen(state, needs, after, limit):
            refund_id = row["refund_id"]
            try:
                told.append(
                    await self.reset(refund_id, to, person=person, reason=reason, apply=apply)
                )
            except (BadInput, Conflict) as error:
                why_not = {"refusal": str(error), "applied": False}
                told.append({"refund_id": refund_id, "to": to, **why_not})
        return told

    async def update(
        self,
        refund_id: str,
        *,
        person: str,
        reason: str = "",
        deadline: datetime | None = None,
        priority: int | None = None,
        audience: str | None = None,
        note: str = "",
        evidence: str = "",
    ) -> Told:
        """Change the deadline, priority or audience of an open question, or add to the refund.

        `audience` is who is asked at the level that is asked now; they get a card, by the sweep
        when it cannot be sent now. Evidence is a new fact, so the question is put anew. Returns
        the question as it stands and whether a card went out. Raises UnknownRefund, BadInput,
        or a Conflict such as NothingToDecide.
        """
        why, said, fact = (check_person(person, text) for text in (reason, note, evidence))
        if audience is not None:
            check_person(audience, "")
        change = Update(deadline, priority, audience, said.strip(), fact.strip())
        ledger, name = books.ledger(), person.strip()
        standing = await asyncio.to_thread(
            lambda: updates.update(
                ledger, refund_id, change, person=name, reason=why, card=further_cards.intent
            )
        )
        with suppress(SystemUnavailable):  # the sweep wakes it when Prefect is back
            await runs.wake(refund_id)
        return {
            "refund_id": refund_id,
            "changes": change.plain(),
            "question": None if standing is None else standing.status,
            "card_sent": change.audience is not None and await further_cards.send(refund_id),
        }


def state_named(name: State | str) -> State:
    """The state of that name. Raises BadInput."""
    try:
        return State(name)
    except ValueError as error:
        raise BadInput(f"{name!r} is not a state; the states are {', '.join(State)}") from error


async def chosen(
    state: State | str | None, needs: str, after: str = "", limit: int | None = None
) -> list[dict[str, Any]]:
    """Those that are not over, in a state, and whose need for a person has this text."""
    wanted = None if state is None else state_named(state)
    rows = await asyncio.to_thread(requests.listed, books.ledger(), wanted, after)
    meant = [
        row
        for row in rows
        if row["outcome"] is None and needs.casefold() in (row["attention"] or "").casefold()
    ]
    return meant[:limit]


async def _launched(refund_id: str) -> str | None:
    try:
        return await runs.launch(refund_id, again=True)
    except SystemUnavailable:
        # What was done is safe in the ledger; the sweep starts the run when Prefect is back.
        return None


async def _at_gateway(request: RefundRequest) -> str | None:
    """What the gateway has of this refund that was or may be paid, in words."""
    case = await asyncio.to_thread(orders.read_case, request, 1)
    for charge in case.order.charges if case.order else ():
        async for refund in gateways.gateway().listed(charge.charge_id):
            if refund["refund_id"] == request.refund_id and refund["status"] != "failed":
                return f"{refund['id']} ({refund['status']})"
    return None
