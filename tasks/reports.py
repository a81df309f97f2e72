"""The night's report goes out through the notices, once."""

import asyncio

from refunds.errors import NeedsAttention, StepBlocked, StepRefused, StepUnknown, SystemUnavailable
from refunds.ledger import nights
from refunds.ledger.nights import Kept
from refunds.nights import words
from refunds.nights.report import NightReport
from refunds.settings import settings
from tasks import books
from tasks.effect import Action, cannot_ask
from tasks.json_systems import creation

# Who reads it in the morning: an audience of REFUNDS_NOTICES_CHANNELS, and a name there.
_AUDIENCE, _TO = "operations", "refund-operations"


async def send_due(batch_id: str | None = None) -> int:
    """Send the reports that have not gone out, of one night or of all; returns how many went."""
    due = await asyncio.to_thread(nights.to_send, books.ledger())
    sent = 0
    for kept in due:
        if batch_id in (None, kept.batch_id):
            sent += await _send(kept)
    return sent


async def _send(known: Kept) -> bool:
    """Write the intent, ask what an earlier send did, send, write the result."""
    ledger = books.ledger()
    kept = await asyncio.to_thread(nights.claim_notice, ledger, known)
    if kept is None:
        return False
    action = notice(NightReport.model_validate(kept.facts))
    response, was_sent = None, True
    try:
        found = await action.ask(action.key) if kept.notice_sends else None
        if found is None and kept.notice_sends and action.ask is cannot_ask:
            # A channel that cannot be asked is not told twice.
            state, detail = "refused", "it may have gone out; the channel cannot be asked"
        else:
            response = found or await action.send(action.key)
            state, detail = "succeeded", None
    except SystemUnavailable as error:
        state, detail, was_sent = kept.notice_state, str(error), False
    except StepUnknown as error:
        state, detail = "unknown", str(error)
    except (StepRefused, StepBlocked, NeedsAttention) as error:
        state, detail = "refused", str(error)
    await asyncio.to_thread(
        nights.record_notice,
        ledger,
        kept,
        state,
        response=response,
        detail=detail,
        was_sent=was_sent,
    )
    return state == "succeeded"


def notice(report: NightReport) -> Action:
    """The report as a message, under a key of its night and edition."""
    return creation(
        report.batch_id,
        "send_report",
        "notices",
        "messages",
        {"refund_id": report.batch_id, "audience": _AUDIENCE, "to": _TO},
        words={"subject": words.subject(report), "body": words.body(report)},
        address={"link": f"{settings().service_url}{words.page_of(report.batch_id)}"},
        id_field="message_id",
        attempt=report.edition,
    )
