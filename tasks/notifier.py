"""Prefect's notification blocks: Slack, Teams, e-mail, or any messenger that Apprise speaks to.

A messenger has no key and cannot be asked what it did. So a card goes through it at most once:
whatever is not known to have gone out is never sent this way again, the ledger says so, and the
inbox gets the card instead. Its text carries the card's reference, so that a double is seen.
"""

import inspect
from typing import Any

from prefect.blocks import notifications
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.exceptions import PrefectHTTPStatusError

from refunds.errors import StepUnknown, SystemUnavailable
from refunds.ledger.effects import Effect
from tasks.effect import Action

_SYSTEM = "notifier"

# What became of a card: handed over, perhaps handed over, certainly not.
_SENT, _UNKNOWN, _FAILED = "sent", "unknown", "failed"

# Its import has registered the messengers that Prefect brings along, so that they can be loaded.
_BROUGHT_ALONG = notifications

# Nothing reached the other side.
_NOT_SENT = (ConnectionRefusedError,)


async def load(block_name: str) -> NotificationBlock | None:
    """The block by its type/name, or None when Prefect has none that notifies.

    Raises SystemUnavailable when Prefect cannot be asked. To be called before the intent is
    written: so far certainly nothing was sent.
    """
    try:
        found: Any = await Block.aload(block_name)
    except ValueError:
        return None
    except (OSError, PrefectHTTPStatusError) as error:
        raise SystemUnavailable("prefect", f"no block: {type(error).__name__}") from error
    return found if isinstance(found, NotificationBlock) else None


def notification(
    refund_id: str,
    step: str,
    block: NotificationBlock | None,
    *,
    body: dict[str, Any],
    words: dict[str, str],
    link: str,
    attempt: str,
) -> Action:
    """One message through a block, at most once; `body` is what its key stands for."""

    async def send(key: str) -> dict[str, Any]:
        if block is None:
            return {"reference": key, "delivery": _FAILED, "detail": "there is no such block"}
        text = f"{words['body']}\n\n{link}\n\nReference: {key}"
        try:
            with block.raise_on_failure():
                told: Any = block.notify(text, words["subject"])
                if inspect.isawaitable(told):
                    await told
        except _NOT_SENT as error:
            return {"reference": key, "delivery": _FAILED, "detail": type(error).__name__}
        except Exception as error:  # noqa: BLE001 - a messenger raises what it likes
            # What it says may hold its own address, which is a secret.
            raise StepUnknown(_SYSTEM, f"no word of it ({type(error).__name__})") from None
        return {"reference": key, "delivery": _SENT, "words": words}

    async def ask(key: str) -> dict[str, Any]:
        return {"reference": key, "delivery": _UNKNOWN}

    return Action(refund_id, step, _SYSTEM, body, send, ask, attempt=attempt)


def is_sent(effect: Effect) -> bool:
    """Whether the messenger said that it took the message."""
    return (effect.response or {}).get("delivery") == _SENT
