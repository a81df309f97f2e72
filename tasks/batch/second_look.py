"""The world once more, just before money is set aside: the gateway's disputes, the shop's facts."""

import asyncio
from collections.abc import Sequence

from refunds.differences import changes_between
from refunds.errors import NeedsAttention, RefundError
from refunds.ledger import charges
from refunds.policy import bound_facts
from tasks import books, disputes, records
from tasks.batch import asides, reading
from tasks.batch.chunk import Chunk, Road, Turn
from tasks.batch.writer import write

# As many as one step has calls under way.
_ASKED_AT_ONCE = 32

_DISPUTED = "its charge is disputed, and nothing is paid while the bank has not decided"


async def changes(chunk: Chunk, roads: Sequence[Road]) -> dict[str, str]:
    """What has changed since these were assessed, by refund id.

    Who cannot be looked at is put aside, alone.
    """
    disputed = await _disputed(chunk, roads)
    changed = await _changed(chunk, [road for road in roads if road.turn is Turn.RESERVE])
    return dict.fromkeys(disputed, _DISPUTED) | changed


async def _disputed(chunk: Chunk, roads: Sequence[Road]) -> set[str]:
    """Whose charge the customer has claimed from the bank, by the gateway's own word."""
    gate, errors, words = asyncio.Semaphore(_ASKED_AT_ONCE), dict[str, Exception](), {}

    async def one(road: Road, charge_id: str) -> None:
        try:
            async with gate:
                words[charge_id] = await disputes.ask(charge_id)
        except RefundError as error:
            errors[road.refund_id] = error

    charged = [(road, road.case.charge.charge_id) for road in roads if road.case.charge]
    await asyncio.gather(*(one(*each) for each in charged))
    await write(charges.note_disputes, words)
    await asides.put_aside(chunk, errors)
    return {road.refund_id for road, charge_id in charged if words.get(charge_id)}


async def _changed(chunk: Chunk, roads: Sequence[Road]) -> dict[str, str]:
    """Which bound facts differ now; one that does not fit is nobody else's trouble."""
    try:
        return await asyncio.to_thread(_differences, roads)
    except NeedsAttention as error:
        if len(roads) == 1:
            await asides.put_aside(chunk, {roads[0].refund_id: error})
            return {}
        found: dict[str, str] = {}
        for road in roads:
            found |= await _changed(chunk, [road])
        return found
    except RefundError as error:
        await asides.put_aside(chunk, dict.fromkeys([road.refund_id for road in roads], error))
        return {}


def _differences(roads: Sequence[Road]) -> dict[str, str]:
    ledger, version = books.ledger(), reading.rules().full_version
    cases = reading.cases(ledger, [(road.request, road.round) for road in roads])
    found = {}
    for road in roads:
        assessment = road.assessment
        then = (
            road.approval.facts
            if road.approval is not None
            else bound_facts(road.case, assessment.opinion, assessment.policy_version)
        )
        changed = changes_between(then, bound_facts(cases[road.refund_id], None, version))
        if changed:
            found[road.refund_id] = records.because_of(changed)
    return found
