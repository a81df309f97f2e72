"""CRM, coupons, logistics, notices: what is made or undone there, by whichever adapter is set."""

from typing import Any

from refunds.ledger.effects import Effect
from refunds.models import Receipt
from tasks import systems
from tasks.effect import Action
from tasks.systems.contract import Thing, Undoing


def creation(
    refund_id: str,
    step: str,
    system: str,
    collection: str,
    body: dict[str, Any],
    *,
    id_field: str,
    attempt: str | int | None = None,
    words: dict[str, str] | None = None,
    address: dict[str, str] | None = None,
) -> Action:
    """Make a thing once; an earlier send is found again by our own reference, where one can ask.

    The key stands for `body`, which holds business facts only. `words` may be put otherwise by
    the next version of this program; they are kept with the answer. `address` is where we are
    found at this time, and is not kept.
    """
    thing = Thing(refund_id, step, system, collection, body, id_field, attempt, words, address)
    return systems.adapter(system).making(thing)


def undoing(undo: Undoing) -> Action:
    """Undo a thing once; undoing what is undone already is a success."""
    return systems.adapter(undo.system).undoing(undo)


def receipt(effect: Effect) -> Receipt:
    """What a done effect is known by: its key, and the other system's own id for it."""
    return Receipt(key=effect.key, reference=(effect.response or {})["reference"])


def receipt_of(effect: Effect | None) -> Receipt | None:
    """The same for an effect that perhaps was never done."""
    return receipt(effect) if effect is not None else None
