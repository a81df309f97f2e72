"""Cards for those who are asked in place of others, while no run carries the refund on.

The intent is committed with the change that asks for the card. A card whose sender died on the
way is sent by the sweep, under the same key, after its system was asked for it.
"""

from refunds.digests import digest
from refunds.errors import NeedsAttention, StepFailed, StepRefused
from refunds.ledger import Page, approvals, effects
from refunds.ledger.approvals import Standing
from refunds.ledger.effects import Intent
from tasks import books, cards
from tasks.effect import Action

# What tells their keys from those of the cards that a run sends.
_MARK = ":to:"


def intent(standing: Standing, page: Page) -> Intent:
    """What is to be sent to those who are asked now."""
    action = _action(standing, page.refund_id)
    return Intent(action.key, action.step, action.system, action.request, page.row["fence"])


async def send(refund_id: str) -> bool:
    """Send the card that the question asks for, once; False while it is not known to be out."""
    standing = approvals.standing(books.ledger(), refund_id)
    if standing is None or not standing.levels:
        return False
    action = _action(standing, refund_id)
    known = effects.read(books.ledger(), action.key)
    if known is None or known.is_final:
        return known is not None and known.state == "succeeded"
    try:
        # Whoever began to send it may have died right behind it.
        answer = await action.ask(action.key) or await action.send(known.wire_key)
    except StepRefused as refusal:
        _refused(refund_id, action.key, refusal.detail)
        return False
    except (StepFailed, NeedsAttention):
        return False
    effects.record(books.ledger(), refund_id, action.key, action.judge(answer), response=answer)
    return True


async def send_unsent() -> int:
    """Send every such card that is not known to be out; returns how many are now."""
    sent = 0
    for row in effects.unsettled(books.ledger(), "send_card"):
        if _MARK not in row["key"]:
            continue
        standing = approvals.standing(books.ledger(), row["refund_id"])
        if (
            standing is None
            or standing.status != approvals.OPEN
            or _action(standing, row["refund_id"]).key != row["key"]
        ):
            _refused(row["refund_id"], row["key"], "others are asked by now, or nobody")
        else:
            sent += await send(row["refund_id"])
    return sent


def _action(standing: Standing, refund_id: str) -> Action:
    asked = standing.request(refund_id)
    level = next(level for level in asked.levels if level.name == standing.level)
    # A digest, because an audience may be long and hold any character.
    return cards.card(asked, level, f"{_MARK}{digest(level.audience)[:12]}")


def _refused(refund_id: str, key: str, why: str) -> None:
    effects.record(books.ledger(), refund_id, key, "refused", detail=why)
