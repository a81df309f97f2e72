"""Refunds that are stuck: put back on their feet, or given up, from any door."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from refunds import views
from refunds.deciding import check_person
from refunds.errors import BadInput, Conflict, SystemUnavailable
from refunds.ledger import abandonment, effects, leases, requests, waits
from refunds.models import State
from refunds.steering import chosen
from tasks import books, lost_runs, runs

Status = dict[str, Any]


class Recovering:
    """The part of the front door for what needs a person."""

    async def resume(self, refund_id: str, *, person: str = "", reason: str = "") -> Status:
        """Put a refund that needs attention, or whose run is gone, back on its feet.

        Effects the other systems refused may be tried again; a payment never is. Returns the
        status, with `goes_on` as `decide` does. Raises UnknownRefund, or BadInput when it is over.
        """
        row = await asyncio.to_thread(requests.read, books.ledger(), refund_id)
        if row["outcome"] is not None:
            raise BadInput(f"{refund_id} is over: {row['outcome']}")
        why = check_person(person or "nobody", reason)
        await asyncio.to_thread(_mark_resumed, refund_id, person, why)
        return await going_on(refund_id, is_told=await is_told(set_going(refund_id)))

    async def resume_all(
        self,
        *,
        person: str,
        state: State | str = State.NEEDS_ATTENTION,
        needs: str = "",
        reason: str = "",
        apply: bool = False,
        after: str = "",
        limit: int | None = None,
    ) -> list[Status]:
        """Resume all that are not over, in a state, and whose need has the text `needs`.

        In key order, at most `limit` of those after the id `after`. Each is told with the need it
        has now; without `apply` that is all. What was resumed has `applied` and `goes_on`, what
        was over by then a `refusal`. Raises BadInput.
        """
        check_person(person, reason)
        if apply and not reason.strip():
            raise BadInput("resuming many needs a reason; it is kept in each history")
        told = []
        for row in await chosen(state, needs, after, limit):
            one = {name: row[name] for name in ("refund_id", "state", "attention")}
            done: Status = {}
            refusal = None
            if apply:
                try:
                    done = await self.resume(row["refund_id"], person=person, reason=reason)
                except (BadInput, Conflict) as error:
                    refusal = str(error)
            applied = {"applied": bool(done), "goes_on": done.get("goes_on")}
            told.append({**one, **applied, "refusal": refusal})
        return told

    async def abandon(self, refund_id: str, *, person: str, reason: str) -> Status:
        """Give up a refund that is stuck and of which nothing was paid; it ends FAILED.

        Its money is free at once; its run undoes what was done and tells everybody. Returns the
        status, with `goes_on` as `decide` does. Raises UnknownRefund, BadInput when it is over,
        or CannotGiveUp saying why.
        """
        if not reason.strip():
            raise BadInput("giving a refund up needs a reason: it is told to everybody")
        why = check_person(person, reason).strip()
        await asyncio.to_thread(abandonment.abandon, books.ledger(), refund_id, person.strip(), why)
        return await going_on(refund_id, is_told=await is_told(set_going(refund_id)))


async def is_told(telling: Awaitable[Any]) -> bool:
    """Whether Prefect could be told; else what was said is in the ledger for the sweep to tell."""
    try:
        await telling
    except SystemUnavailable as away:
        if away.system != "prefect":
            raise
        return False
    return True


async def going_on(refund_id: str, *, is_told: bool) -> Status:
    """The status, and whether the refund goes on now or later."""
    status = await asyncio.to_thread(views.status, books.ledger(), refund_id)
    return {**status, "goes_on": "now" if is_told else "later"}


async def set_going(refund_id: str) -> None:
    """Wake the refund's run, or start another where it is gone."""
    row = await asyncio.to_thread(requests.read, books.ledger(), refund_id)
    open_waits = await asyncio.to_thread(waits.open_waits, books.ledger(), refund_id)
    if open_waits and row["lane"] == "batch":
        # A person does not wait for the batch: the refund gets a run of its own.
        await runs.launch(refund_id, again=True)
    elif open_waits:
        await runs.wake(refund_id)
    elif not leases.is_held(row, books.ledger()) and await lost_runs.among([row]):
        await runs.launch(refund_id, again=True)


def _mark_resumed(refund_id: str, person: str, reason: str) -> None:
    effects.reopen_refused(books.ledger(), refund_id)
    with books.ledger().page(refund_id) as page:
        page.append("refund.resumed", {"person": person, "reason": reason})
        page.change(attention=None)
        waits.end(page, ("attention", "outage"), "resumed by a person")
