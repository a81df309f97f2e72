"""The first half of the chain for a chunk: leases, facts, verdicts, and the money set aside."""

import asyncio
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.differences import changes_between
from refunds.errors import BadInput, NeedsAttention, RefundError
from refunds.ledger import Ledger, Page, approvals, assessed, charges, grouped, history
from refunds.ledger.effects import key_of
from refunds.models import Case
from refunds.policy import bound_facts
from refunds.policy_file import Policy
from tasks import books, model, records
from tasks.batch import asides, reading
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.performing import perform
from tasks.batch.writer import write


@task(name="take_leases", cache_policy=NO_CACHE, persist_result=False)
async def take_leases(chunk: Chunk) -> int:
    """Take the chunk's refunds for this run; returns how many it got."""
    rows = await write(grouped.take, chunk.refund_ids, chunk.run_id)
    for refund_id in sorted(rows):
        chunk.roads[refund_id] = Road(rows[refund_id])
    return len(rows)


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
    rules, cases = _rules(), _cases(roads)
    features = reading.features(books.ledger(), [road.request for road in roads])
    for road in roads:
        road.case, road.risk, road.rules = cases[road.refund_id], features[road.refund_id], rules


@task(name="ask_opinions", cache_policy=NO_CACHE, persist_result=False)
async def ask_opinions(chunk: Chunk) -> int:
    """The model's opinion on each case that the policy wants one on; returns how many it got."""
    new = [road for road in chunk.at(Turn.ASSESS) if not road.is_recorded]
    for road in new:
        road.opinion = None
    wanted = [road for road in new if model.is_wanted(road.case, road.risk, road.rules)]
    said = await perform(wanted, lambda road: model.question(road.case, road.risk, road.rules))
    for refund_id, effect in said.effects.items():
        chunk.roads[refund_id].opinion = model.advice_of(effect)
    await asides.put_aside(chunk, said.errors)
    return len(said.effects)


@task(name="record_assessments", cache_policy=NO_CACHE, persist_result=False)
async def record_assessments(chunk: Chunk) -> int:
    """Write the verdicts and their reasons to the ledger; returns how many are new."""
    new = {road.refund_id: road for road in chunk.at(Turn.ASSESS) if not road.is_recorded}

    def note(page: Page) -> None:
        road = new[page.refund_id]
        records.write_assessment(page, road.case, road.assessment, road.risk)

    written = await write(grouped.each, chunk.fences(new), note)
    chunk.drop_stale(written.stale)
    for refund_id in written.done:
        new[refund_id].is_recorded = True
    return len(written.done)


@task(name="reserve_money", cache_policy=NO_CACHE, persist_result=False)
async def reserve_money(chunk: Chunk) -> int:
    """Look at the world once more, then set the money aside; returns for how many.

    What changed since it was assessed, or has too little left now, is assessed again.
    """
    roads = {road.refund_id: road for road in chunk.at(Turn.RESERVE)}
    worn_out = [road for road in roads.values() if road.round > records.MOST_ROUNDS]
    await asides.put_aside(
        chunk,
        {
            road.refund_id: NeedsAttention(f"{road.refund_id} changed {records.MOST_ROUNDS} times")
            for road in worn_out
        },
    )
    try:
        changes = await asyncio.to_thread(_changes, chunk.at(Turn.RESERVE))
    except RefundError as error:
        await asides.put_aside(chunk, dict.fromkeys(roads, error))
        return 0
    same = [road for road in chunk.at(Turn.RESERVE) if road.refund_id not in changes]
    cases = {road.refund_id: road.case for road in same}
    reserved = await write(grouped.reserve, cases, chunk.fences(cases))
    chunk.drop_stale(reserved.stale)
    changes |= {refund_id: str(error) for refund_id, error in reserved.failed.items()}
    for refund_id, change in changes.items():
        await write(_reconsider, roads[refund_id], change)
        roads[refund_id].look_again()
    for refund_id in reserved.done:
        roads[refund_id].turn = Turn.PAY
    return len(reserved.done)


async def _go_on(roads: Sequence[Road]) -> None:
    """Where an earlier run has assessed already, its facts and its verdict stand."""
    begun = [road.request for road in roads if road.was_assessed]
    known = await asyncio.to_thread(assessed.rounds, books.ledger(), begun) if begun else {}
    for road in roads:
        road.was_assessed = False
        if not known.get(road.refund_id):
            continue
        before = known[road.refund_id][-1]
        if not before.is_open:
            road.round = before.case.round + 1
            continue
        road.case, road.risk, road.rules = before.case, before.risk, before.rules
        road.assessment, road.round = before.assessment, before.case.round
        road.is_recorded = True


def _rules() -> Policy:
    try:
        return books.policy()
    except BadInput as error:
        raise NeedsAttention(str(error)) from error


def _cases(roads: Sequence[Road]) -> dict[str, Case]:
    return reading.cases(books.ledger(), [(road.request, road.round) for road in roads])


def _changes(roads: Sequence[Road]) -> dict[str, str]:
    """Which bound facts differ now from what was assessed, for those that hold no money yet."""
    ledger = books.ledger()
    holding = charges.holding(ledger, [road.refund_id for road in roads])
    open_ = [road for road in roads if road.refund_id not in holding]
    cases, version = _cases(open_), _rules().full_version
    changes = {}
    for road in open_:
        assessment = road.assessment
        then = bound_facts(road.case, assessment.opinion, assessment.policy_version)
        found = changes_between(then, bound_facts(cases[road.refund_id], None, version))
        if found:
            changes[road.refund_id] = records.because_of(found)
    return changes


def _reconsider(ledger: Ledger, road: Road, change: str) -> None:
    refund_id = road.refund_id
    history.append(ledger, refund_id, "payment.reconsidered", {"why": change}, road.fence)
    approval_id = key_of(refund_id, "approval", road.round)
    approvals.supersede(ledger, refund_id, approval_id, change)
