"""What people have said to the questions of a chunk's refunds, by the ledger's word."""

import asyncio
from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.ledger import Ledger, Page, approvals, grouped, questions, waits
from refunds.ledger.assessed import Assessed
from refunds.models import Answer, Decision
from tasks import books
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.journaling import Step, every_time
from tasks.batch.writer import write


@task(name="hear_answers", cache_policy=NO_CACHE, persist_result=False)
async def hear_answers(chunk: Chunk) -> int:
    """Take in the answer to each question that was waited for; returns how many there are.

    Where nobody has answered after all, the refund's own run goes on asking.
    """
    roads = {road.refund_id: road for road in chunk.at(Turn.HEAR)}
    if not roads:
        return 0
    answers = await write(_answers, list(roads.values()))

    def note(page: Page) -> None:
        road = roads[page.refund_id]
        if page.refund_id in answers:
            road.answer = answers[page.refund_id]
            road.journal.ended(page, _asking(road.round_asked), road.answer)
        else:
            page.change(lane="now", run_id=None, lease_holder=None, lease_expires_at=None)
            road.leave("it is asked on by a run of its own")

    chunk.drop_stale((await write(grouped.each, chunk.fences(roads), note)).stale)
    return len(answers)


async def note_superseded(roads: Mapping[str, Road], rounds: Mapping[str, list[Assessed]]) -> None:
    """The journal of the questions that count no more: the single chain asks for each again."""
    wanted = {
        refund_id: [found for found in rounds[refund_id] if found.approval and not found.is_open]
        for refund_id in roads
    }

    def note(page: Page) -> None:
        for found in wanted[page.refund_id]:
            answer = Answer(decision=None, is_stale=True)
            roads[page.refund_id].journal.ended(page, _asking(found), answer)

    fences = {refund_id: roads[refund_id].fence for refund_id in roads if wanted[refund_id]}
    if fences:
        await write(grouped.each, fences, note)


async def waited_for(rounds: Mapping[str, Assessed]) -> set[str]:
    """Whose question was put and waited for, by refund id: it is not put again."""
    names = {
        refund_id: f"approval-{found.case.round}-{found.approval.levels[0]}"
        for refund_id, found in rounds.items()
        if found.approval is not None
    }
    return await asyncio.to_thread(waits.begun_among, books.ledger(), names) if names else set()


def _answers(ledger: Ledger, roads: Sequence[Road]) -> dict[str, Answer]:
    """The answers by refund id; a question whose time is over is closed first."""
    rounds = {road.refund_id: road.round for road in roads}
    for refund_id, (status, deadline) in questions.statuses(ledger, rounds).items():
        if status == approvals.OPEN and ledger.clock() >= deadline:
            approvals.expire(ledger, refund_id)
    return {
        refund_id: _answer(status)
        for refund_id, (status, _) in questions.statuses(ledger, rounds).items()
        if status != approvals.OPEN
    }


def _answer(status: str) -> Answer:
    if status == approvals.SUPERSEDED:
        return Answer(decision=None, is_stale=True)
    return Answer(decision=Decision(status))


def _asking(found: Assessed | None) -> Step:
    if found is None or found.approval is None:
        raise AssertionError("nothing was asked")
    given = {"case": found.case, "approval": found.approval, "level": found.approval.levels[0]}
    return every_time("record_approval", **given)
