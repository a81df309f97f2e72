"""The timeline of one refund: what happened, where the code stood, and the way on from there."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from refunds import history_document, timeline
from refunds.api import AsyncRefunds
from refunds.errors import BadInput, Conflict
from refunds.history_document import HistoryDocument
from refunds.ledger import journal, requests, settling
from refunds.models import State
from refunds.replay import Performance, Stage, replay, reports
from refunds.replay.player import Place
from refunds.service import limits, pages, rights
from refunds.service.picture import drawn
from refunds.service.rights import Steerer
from refunds.service.who import Person, Visitor
from refunds.settings import settings
from refunds.values import RefundId, Sentence
from tasks import books

router = APIRouter()


class Onward(BaseModel):
    """What the forms below a timeline send."""

    reason: Sentence = ""
    to: Annotated[str, Field(max_length=64)] = ""
    apply: bool = False


class WordOfForm(BaseModel):
    """What somebody says became of a payment."""

    ending: Literal["paid", "not paid"]
    reference: Annotated[str, Field(max_length=128)] = ""
    reason: Sentence
    evidence: Sentence
    apply: bool = False


@dataclass(frozen=True)
class Shown:
    """One event with all that a click on it shows."""

    entry: timeline.Entry
    inputs: str
    output: str
    data: str
    places: tuple[Place, ...]


@router.get("/inbox/{refund_id}/timeline")
def show(refund_id: RefundId, visitor: Person) -> Response:
    """The whole history as a picture and as a list; looking changes nothing."""
    limits.people.spend(visitor.person_id)
    return _page(refund_id, visitor)


@router.get("/inbox/{refund_id}/history.json")
def download(refund_id: RefundId, visitor: Person) -> Response:
    """The document that `refunds replay` takes."""
    limits.people.spend(visitor.person_id)
    document = history_document.of(books.ledger(), refund_id)
    name = f'attachment; filename="{refund_id}.history.json"'
    return JSONResponse(document.plain(), headers={"Content-Disposition": name})


@router.post("/inbox/{refund_id}/resume")
async def resume(
    refund_id: RefundId, visitor: Steerer, given: Annotated[Onward, Form()]
) -> Response:
    """Put a stuck refund back on its feet, in this person's name."""
    try:
        async with AsyncRefunds() as refunds:
            await refunds.resume(refund_id, person=visitor.person_id, reason=given.reason)
    except (BadInput, Conflict) as refusal:
        return await asyncio.to_thread(_page, refund_id, visitor, refusal=refusal)
    return pages.see(f"/inbox/{quote(refund_id)}/timeline")


@router.post("/inbox/{refund_id}/reset")
async def reset(
    refund_id: RefundId, visitor: Steerer, given: Annotated[Onward, Form()]
) -> Response:
    """Show what a reset would do; once that was seen, do it."""
    try:
        async with AsyncRefunds() as refunds:
            plan = await refunds.reset(
                refund_id,
                given.to,
                person=visitor.person_id,
                reason=given.reason,
                apply=given.apply,
            )
    except (BadInput, Conflict) as refusal:
        return await asyncio.to_thread(_page, refund_id, visitor, refusal=refusal)
    if plan["applied"]:
        return pages.see(f"/inbox/{quote(refund_id)}/timeline")
    return await asyncio.to_thread(_page, refund_id, visitor, plan=plan, reason=given.reason)


@router.post("/inbox/{refund_id}/settle")
async def settle(
    refund_id: RefundId, visitor: Steerer, given: Annotated[WordOfForm, Form()]
) -> Response:
    """Show what this person's word on a payment would do; once that was seen, do it."""
    try:
        async with AsyncRefunds() as refunds:
            settlement = await refunds.settle(
                refund_id,
                paid_as=given.reference if given.ending == "paid" else None,
                person=visitor.person_id,
                reason=given.reason,
                evidence=given.evidence,
                origin=visitor.origin,
                apply=given.apply,
            )
    except (BadInput, Conflict) as refusal:
        return await asyncio.to_thread(_page, refund_id, visitor, refusal=refusal)
    if settlement["kept"]:
        return pages.see(f"/inbox/{quote(refund_id)}/timeline")
    return await asyncio.to_thread(
        _page, refund_id, visitor, settlement={**settlement, **given.model_dump()}
    )


def _page(
    refund_id: str,
    visitor: Visitor,
    *,
    refusal: Exception | None = None,
    plan: dict[str, Any] | None = None,
    settlement: dict[str, Any] | None = None,
    reason: str = "",
) -> Response:
    ledger = books.ledger()
    row = requests.read(ledger, refund_id)
    document = history_document.of(ledger, refund_id)
    performance = _replayed(document)
    shown = _shown(document, performance)
    entries = [one.entry for one in shown]
    steps = (e.data["step"] for e in document.events if e.event in (journal.ENDED, journal.FAILED))
    return pages.show(
        "timeline.html",
        visitor,
        status=409 if refusal else 200,
        row=row,
        shown=shown,
        picture=drawn(entries, timeline.spans(document.events), ledger.clock()),
        code_at=reports.code_at,
        difference=_difference(performance),
        runs=[(run_id, _run_page(run_id)) for run_id in requests.run_ids(ledger, refund_id)],
        steps=[step for step in dict.fromkeys(steps) if step != "open_refund"],
        refusal=refusal,
        why_not=rights.why_not(visitor.person_id),
        plan=plan,
        unsettled=row["state"] == State.NEEDS_ATTENTION and settling.unsettled(ledger, refund_id),
        settlement=settlement,
        reason=reason,
    )


@lru_cache(maxsize=1)
def _stage() -> Stage:
    return Stage()


def _replayed(document: HistoryDocument) -> Performance | None:
    """Where the code stood at each step is what a replay finds; an old history has no journal."""
    try:
        return replay(document, _stage())
    except BadInput:
        return None


def _difference(performance: Performance | None) -> str:
    if performance is None or performance.is_same:
        return ""
    return "\n".join(reports.lines(performance))


def _shown(document: HistoryDocument, performance: Performance | None) -> list[Shown]:
    held = journal.values_of((event.event, event.data) for event in document.events)
    places = performance.places if performance else {}
    told = []
    for number, (entry, event) in enumerate(
        zip(timeline.entries(document.events), document.events, strict=True)
    ):
        data = event.data
        is_step = event.event in (journal.ENDED, journal.FAILED)
        inputs = {n: _whole(v, held) for n, v in data["inputs"].items()} if is_step else None
        ending = data.get("error") or _whole(data.get("output"), held)
        told.append(
            Shown(
                entry=entry,
                inputs=_json(inputs) if inputs is not None else "",
                output=_json(ending) if is_step else "",
                data="" if is_step else _json(data),
                places=_stood(document, number, places),
            )
        )
    return told


def _stood(
    document: HistoryDocument, number: int, places: dict[int, tuple[Place, ...]]
) -> tuple[Place, ...]:
    """Where the flow stood at an event: in the step that ends next in this run, or ended last."""
    for event in document.events[number:]:
        if event.sequence in places:
            return places[event.sequence]
        if event.event in ("run.took_over", "run.launched") and event.sequence != number + 1:
            break
    before: Sequence[Any] = document.events[:number]
    return next((places[e.sequence] for e in reversed(before) if e.sequence in places), ())


def _whole(value: Any, held: dict[str, Any]) -> Any:
    is_reference = isinstance(value, dict) and journal.SAME_AS in value
    return held.get(value[journal.SAME_AS], value) if is_reference else value


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


def _run_page(run_id: str) -> str:
    return f"{settings().prefect_url}/v2/runs/flow-run/{quote(run_id)}"
