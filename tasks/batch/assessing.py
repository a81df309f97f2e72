"""The first half of the chain for a chunk: leases, facts, opinions, verdicts."""

import asyncio
from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.errors import NeedsAttention, RefundError
from refunds.ledger import Page, assessed, grouped, journal
from refunds.models import Case, Seat
from tasks import books, model, records
from tasks.batch import asides, hearing, reading
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.journaling import Step, every_time, in_round
from tasks.batch.performing import Doing, perform
from tasks.batch.writer import write


@task(name="take_leases", cache_policy=NO_CACHE, persist_result=False)
async def take_leases(chunk: Chunk) -> int:
    """Take the chunk's refunds for this run; returns how many it got."""

    def taken(page: Page) -> None:
        road = Road(page.row)
        chunk.roads[road.refund_id] = road
        step = every_time("open_refund", request=road.request)
        road.journal.ended(page, step, Seat(is_mine=True))

    await write(grouped.take, chunk.refund_ids, chunk.run_id, taken)
    return len(chunk.roads)


@task(name="load_cases", cache_policy=NO_CACHE, persist_result=False)
async def load_cases(chunk: Chunk) -> int:
    """The facts on each refund: those of an earlier run that went no further, or fresh ones."""
    await _go_on(chunk.at(Turn.ASSESS))
    fresh = [road for road in chunk.at(Turn.ASSESS) if not road.is_recorded]
    try:
        await asyncio.to_thread(_load, fresh)
    except NeedsAttention:
        # What the shop has on one of them is for a person; the others go on.
        for road in fresh:
            try:
                await asyncio.to_thread(_load, [road])
            except RefundError as error:
                await asides.put_aside(chunk, {road.refund_id: error})
    except RefundError as error:
        await asides.put_aside(chunk, dict.fromkeys([r.refund_id for r in fresh], error))
    return sum(road.turn is not Turn.LEFT for road in fresh)


def _load(roads: Sequence[Road]) -> None:
    rules, cases = reading.rules(), _cases(roads)
    features = reading.features(books.ledger(), [road.request for road in roads])
    for road in roads:
        road.case, road.risk, road.rules = cases[road.refund_id], features[road.refund_id], rules


@task(name="ask_opinions", cache_policy=NO_CACHE, persist_result=False)
async def ask_opinions(chunk: Chunk) -> int:
    """The model's opinion on each case that the policy wants one on; returns how many it got."""
    new = [road for road in chunk.at(Turn.ASSESS) if not road.is_recorded]
    await _remember_opinions(new)
    wanted = [
        road
        for road in new
        if road.opinion is None and model.is_wanted(road.case, road.risk, road.rules)
    ]
    if not wanted:
        return 0
    noted = await write(
        grouped.each,
        chunk.fences(road.refund_id for road in wanted),
        lambda page: _note_facts(page, chunk.roads[page.refund_id]),
    )
    chunk.drop_stale(noted.stale)
    asking = Doing(
        lambda road: model.question(road.case, road.risk, road.rules),
        lambda road: _in_round(road, "ask_opinion", case=road.case, risk=road.risk),
        lambda _, effect: model.advice_of(effect),
    )
    said = await perform([road for road in wanted if road.turn is Turn.ASSESS], asking)
    for refund_id, advice in said.outputs.items():
        chunk.roads[refund_id].opinion = advice
    await asides.put_aside(chunk, said.errors)
    return len(said.outputs)


async def _remember_opinions(roads: Sequence[Road]) -> None:
    """What a model said before a crash counts, whoever is asked today."""
    again = {road.refund_id: road.round for road in roads if road.fence > 1}
    said = await asyncio.to_thread(model.opinions_given, again) if again else {}
    for road in roads:
        road.opinion = said.get(road.refund_id)


@task(name="record_assessments", cache_policy=NO_CACHE, persist_result=False)
async def record_assessments(chunk: Chunk) -> int:
    """Write the verdicts and their reasons to the ledger; returns how many are new."""
    new = {road.refund_id: road for road in chunk.at(Turn.ASSESS) if not road.is_recorded}

    def note(page: Page) -> None:
        road = new[page.refund_id]
        case, assessment, risk = road.case, road.assessment, road.risk
        _note_facts(page, road)
        asked = _in_round(road, "ask_opinion", case=case, risk=risk)
        road.journal.ended(page, asked, road.opinion)
        records.write_assessment(page, case, assessment, risk)
        step = _in_round(road, "record_assessment", case=case, assessment=assessment, risk=risk)
        road.journal.ended(page, step, None)

    written = await write(grouped.each, chunk.fences(new), note)
    chunk.drop_stale(written.stale)
    for refund_id in written.done:
        new[refund_id].is_recorded = True
    return len(written.done)


async def _go_on(roads: Sequence[Road]) -> None:
    """Where an earlier run has assessed already, its facts and its verdict stand."""
    again = [road for road in roads if road.was_run]
    left = journal.outputs(books.ledger(), [road.refund_id for road in again]) if again else {}
    for road in again:
        road.was_run = False
        road.journal.go_on(left.get(road.refund_id, {}))
    begun = [road.request for road in roads if road.was_assessed]
    known = await asyncio.to_thread(assessed.rounds, books.ledger(), begun) if begun else {}
    last = {refund_id: rounds[-1] for refund_id, rounds in known.items() if rounds}
    await hearing.note_superseded({r.refund_id: r for r in roads if r.refund_id in last}, known)
    asked = await hearing.waited_for({name: each for name, each in last.items() if each.is_open})
    for road in roads:
        road.was_assessed = False
        if road.refund_id not in last:
            continue
        before = last[road.refund_id]
        if not before.is_open:
            road.round = before.case.round + 1
            continue
        road.approval = before.approval
        road.round_asked = before if road.refund_id in asked else None
        road.case, road.risk, road.rules = before.case, before.risk, before.rules
        road.assessment, road.round = before.assessment, before.case.round
        road.is_recorded = True


def _cases(roads: Sequence[Road]) -> dict[str, Case]:
    return reading.cases(books.ledger(), [(road.request, road.round) for road in roads])


def _note_facts(page: Page, road: Road) -> None:
    """The journal of what was read, in the order in which the single chain reads it."""
    case, request = road.case, road.request
    is_bare = not case.after_sales and not case.evidence
    bare = case if is_bare else case.model_copy(update={"after_sales": (), "evidence": ()})
    looked = _in_round(road, "load_order", request=request, round_number=road.round)
    road.journal.ended(page, looked, bare)
    road.journal.ended(page, _in_round(road, "load_after_sale", case=bare), case)
    road.journal.ended(page, _in_round(road, "load_risk", case=case), road.risk)
    road.journal.ended(page, _in_round(road, "load_policy", case=case), road.rules)


def _in_round(road: Road, name: str, **inputs: Any) -> Step:
    return in_round(road.refund_id, name, road.round, **inputs)
