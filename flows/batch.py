"""Many refunds in one run: the refund chain, each step for a whole chunk at a time.

What leaves the main road (a person is asked, a system is away, money is pending) waits where the
single chain would have it wait, and the rest go on.
"""

from typing import Any

from prefect import flow
from prefect.states import Completed

from flows import waiting
from flows.refund import EXPIRED, REJECTED, because
from refunds import policy
from refunds.models import Decision, Outcome, PaymentStatus, Verdict
from tasks import sleepers
from tasks.batch import (
    assessing,
    batches,
    hearing,
    paying,
    questions,
    reporting,
    reserving,
    sharding,
    telling,
)
from tasks.batch.chunk import Chunk, Turn
from tasks.batch.line import CHUNKS_AT_ONCE, Line


@flow(name="batch", persist_result=False)
async def batch(batch_id: str) -> Any:
    """Carry a batch's refunds as far as they go without anybody, from where the batch stands."""
    return await work_off(batch_id)


async def work_off(batch_id: str) -> Any:
    """Chunk after chunk in key order, until nothing is left or the night is over.

    A large batch is shared out, and whoever carries its last shard goes on with the batch itself.
    """
    batch = await batches.take_batch(batch_id)
    if batch is None:
        return Completed(name="AlreadyRunning", message=f"{batch_id} has another run")
    async with batches.alive(batch):
        if shards := await sharding.share_out(batch):
            return Completed(name="SharedOut", message=f"{shards} shards have runs of their own")
        await reporting.show_progress(batch)
        line = Line(batch)
        # While the calls of one chunk are under way, another's results are written.
        await batches.side_by_side(*(carry_chunks(line) for _ in range(CHUNKS_AT_ONCE)))
        whole = await reporting.close_batch(batch)
        await reporting.send_report(batch)
        await sleepers.end_sleepers(batch)
    return await work_off(whole) if whole is not None else batch_id


async def carry_chunks(line: Line) -> None:
    """The chain of `flows.refund` for a chunk, and for the next one that nobody has taken."""
    while True:
        # Of refunds that want the same money the first in the line gets it.
        async with line.turn:
            chunk = await batches.next_chunk(line)
            if chunk is None:
                return
            await set_out(chunk)
        # Prefect makes runs slower than money moves: nobody waits for the other.
        asking = questions.ask_people(chunk, waiting.approval_form)
        await batches.side_by_side(asking, finish(chunk))
        await batches.advance(line, chunk)
        await reporting.show_progress(line.batch)


async def set_out(chunk: Chunk) -> None:
    """Take each refund, judge it, and set the money aside for what the rules approve."""
    await assessing.take_leases(chunk)
    while chunk.at(Turn.ASSESS):
        await assessing.load_cases(chunk)
        await assessing.ask_opinions(chunk)
        assess(chunk)
        await assessing.record_assessments(chunk)
        by_verdict(chunk)
        await hearing.hear_answers(chunk)
        by_answer(chunk)
        await reserving.reserve_money(chunk)


async def finish(chunk: Chunk) -> None:
    """Pay what is to be paid and tell everybody how it ended."""
    await pay(chunk)
    await conclude(chunk)


def assess(chunk: Chunk) -> None:
    """The policy's verdict on each case that was not judged before."""
    for road in chunk.at(Turn.ASSESS):
        if not road.is_recorded:
            road.assessment = policy.assess(road.case, road.risk, road.rules, road.opinion)


def by_verdict(chunk: Chunk) -> None:
    """Rejected, for a person, or approved by the rules."""
    for road in chunk.at(Turn.ASSESS):
        if road.assessment.verdict is Verdict.REJECT:
            road.conclude(Outcome.REJECTED, because(road.assessment))
        elif road.assessment.verdict is Verdict.REVIEW:
            road.turn = Turn.ASK if road.round_asked is None else Turn.HEAR
        else:
            road.turn = Turn.RESERVE


def by_answer(chunk: Chunk) -> None:
    """Approved or rejected by a person, decided by nobody in time, or to be asked anew."""
    for road in chunk.at(Turn.HEAR):
        if road.answer.is_stale:
            road.look_again()
        elif road.answer.decision is Decision.APPROVED:
            road.turn = Turn.RESERVE
        elif road.answer.decision is Decision.REJECTED:
            road.conclude(Outcome.REJECTED, REJECTED)
        else:
            road.conclude(Outcome.EXPIRED, EXPIRED)


async def pay(chunk: Chunk) -> None:
    """Stop the goods, apologise, pay; undo all of it where the gateway says no for good."""
    await paying.hold_or_label(chunk)
    await paying.issue_coupons(chunk)
    await paying.issue_refunds(chunk)
    for road in chunk.at(Turn.PAY):
        if road.payment.status is PaymentStatus.FAILED:
            road.turn = Turn.TAKE_BACK
        else:
            road.conclude(Outcome.PAID, f"Paid as {road.payment.reference}.")
    await paying.take_back(chunk)
    for road in chunk.at(Turn.TAKE_BACK):
        road.conclude(Outcome.FAILED, f"The gateway refused: {road.payment.detail}")


async def conclude(chunk: Chunk) -> None:
    """Tell everybody how it ended and close the books."""
    await telling.sync_crm(chunk)
    await telling.notify_customers(chunk)
    await telling.notify_service(chunk)
    await telling.write_audits(chunk)
