"""A payment that no books can end, ended by the word of people: from any door, after a look."""

import asyncio
from typing import Any

from pydantic import TypeAdapter, ValidationError

from refunds import asking, money
from refunds.deciding import check_person
from refunds.errors import BadInput, StepRefused
from refunds.ledger import requests, settling
from refunds.ledger.effects import Effect
from refunds.ledger.settling import AtGateway, Settlement, Word
from refunds.origin import Origin
from refunds.recovering import is_told, set_going
from refunds.values import Line
from tasks import books, gateways, payments
from tasks.gateways import GatewayRefund

Told = dict[str, Any]

_REFERENCE: TypeAdapter[str] = TypeAdapter(Line)


class Settling:
    """The part of the front door for payments that stay unknown."""

    async def settle(
        self,
        refund_id: str,
        *,
        paid_as: str | None,
        person: str,
        reason: str = "",
        evidence: str = "",
        channel: str = "api",
        origin: Origin | None = None,
        apply: bool = False,
    ) -> Told:
        """Say what became of a payment: paid under the reference `paid_as`, or (None) not paid.

        What it would do, or with `apply` what it did. It takes somebody who could approve the
        refund, two where two have to approve it, and an unknown payment that the gateway, asked
        once more, has no word on. Paid, the refund goes on; not paid, it can be resumed or given
        up. Raises UnknownRefund, BadInput, SystemUnavailable or StepUnknown when the gateway
        cannot be asked, and with `apply` CannotSettle.
        """
        word = _word(paid_as, person, reason, evidence, origin or Origin.of(channel))
        if apply and not (word.reason.strip() and word.evidence.strip()):
            raise BadInput("settling needs a reason and evidence; both are kept in the history")
        ledger = books.ledger()
        row = await asyncio.to_thread(requests.read, ledger, refund_id)
        question = asking.settlement(row, books.policy())
        effect = await asyncio.to_thread(settling.unsettled, ledger, refund_id)
        # Where it has not to be asked, the ledger says why; else it changed since.
        found = AtGateway("it was settled while you looked, or is being; look again", None)
        if effect is not None:
            found = await _at_gateway(row, effect, word)
        act = settling.apply if apply else settling.plan
        done = await asyncio.to_thread(act, ledger, refund_id, word, question, found)
        is_applied = apply and done.is_enough
        if is_applied and word.is_paid:
            await is_told(set_going(refund_id))
        return _told(done, is_kept=apply, is_applied=is_applied)


def _told(done: Settlement, *, is_kept: bool, is_applied: bool) -> Told:
    return {**done.plain(), "kept": is_kept, "applied": is_applied}


def _word(paid_as: str | None, person: str, reason: str, evidence: str, origin: Origin) -> Word:
    why, known_by = (check_person(person, text) for text in (reason, evidence))
    try:
        reference = "" if paid_as is None else _REFERENCE.validate_python(paid_as)
    except ValidationError as error:
        said = error.errors(include_input=False)[0]["msg"]
        raise BadInput(f"the payment's reference must be one line of text: {said}") from error
    return Word(
        is_paid=paid_as is not None,
        reference=reference,
        person=person.strip(),
        channel=origin.channel,
        verified=origin.channel in books.policy().approval.verified_channels,
        reason=why.strip(),
        evidence=known_by.strip(),
    )


async def _at_gateway(row: Told, effect: Effect, word: Word) -> AtGateway:
    """Ask the gateway once more, by our own reference, by its list of the charge, by the word's."""
    gateway, charge_id = gateways.gateway(), effect.request["charge"]
    if effect.state != "pending" and payments.keeps_key(effect, gateway.keeps_keys_hours):
        return AtGateway("the gateway still knows its key: `refunds resume` sends it safely", None)
    ours = await gateway.find(charge_id, effect.key)
    listed = [refund async for refund in gateway.listed(charge_id)]
    ours = ours or next((r for r in listed if r["refund_id"] == row["refund_id"]), None)
    if ours is not None:
        return AtGateway(
            f"the gateway has {ours['id']} ({ours['status']}) for it; `refunds resume` takes its "
            "word",
            None,
        )
    if not word.is_paid:
        return AtGateway(_made_by_hand(row, listed), None)
    named = next((r for r in listed if r["id"] == word.reference), None)
    named = named or await _named(word.reference)
    if named is None:
        # Paid some other way: a transfer of the bank, another account.
        return AtGateway(None, None)
    return AtGateway(_another(row, charge_id, named), dict(named))


async def _named(reference: str) -> GatewayRefund | None:
    try:
        return await gateways.gateway().look_up(reference)
    except StepRefused:
        return None


def _made_by_hand(row: Told, listed: list[GatewayRefund]) -> str | None:
    """A refund of the charge that may be this one, made by somebody who left no reference."""
    like = [
        refund
        for refund in listed
        if (refund["amount"], refund["currency"]) == (row["amount_minor"], row["currency"])
        and refund["status"] != "failed"
        and refund["refund_id"] is None
        and refund.get("source") != "history"
    ]
    spoken_for = settling.references_known(books.ledger(), [refund["id"] for refund in like])
    for refund in like:
        if refund["id"] not in spoken_for:
            return (
                f"the gateway has {refund['id']} of the same amount on its charge, made by hand; "
                f"if that is this payment, it is paid as {refund['id']}"
            )
    return None


def _another(row: Told, charge_id: str, named: GatewayRefund) -> str | None:
    """How the refund that was named is another one than this payment would be."""
    shown = f"{named['id']} at the gateway"
    if named["status"] != "succeeded":
        return f"{shown} is {named['status']}"
    if (named["amount"], named["currency"]) != (row["amount_minor"], row["currency"]):
        amount = money.show(named["amount"], named["currency"])
        return f"{shown} is of {amount}"
    if charge_id not in (named["charge"], *named.get("other_names", ())):
        return f"{shown} is of another charge: {named['charge']}"
    if named["refund_id"] is not None:
        return f"{shown} is the payment of {named['refund_id']}"
    return f"{shown} was paid before we came" if named.get("source") == "history" else None
