"""What holds of one refund in the ledger, whatever the gateway says."""

from collections.abc import Iterator
from typing import Any

from refunds.authority import folded
from refunds.digests import digest
from refunds.errors import HistoryBroken
from refunds.ledger import history
from refunds.ledger.effects import FINAL, PAYMENT_STEP, key_of
from refunds.ledger.settling import SAID
from refunds.models import Decision, Outcome, RefundRequest, State, Verdict
from refunds.policy import binding_digest
from refunds.verify.dossiers import Dossier


def broken(dossier: Dossier) -> Iterator[str]:
    """A sentence for each rule that does not hold."""
    yield from _against_history(dossier)
    yield from _effects(dossier)
    yield from _authority(dossier)
    yield from _settled(dossier)
    yield from _reservation(dossier)


def _against_history(dossier: Dossier) -> Iterator[str]:
    """The chain holds, and the refund's row says what the chain says."""
    row, events, name = dossier.row, dossier.events, dossier.refund_id
    try:
        history.check(events)
    except (HistoryBroken, TypeError) as broken:
        yield f"{name}: its history does not verify: {broken}"
    end = (events[-1]["sequence"], events[-1]["digest"]) if events else (0, "")
    if not events or end != (row["last_sequence"], row["last_digest"]):
        yield (
            f"{name}: its history ends with event {end[0]}, and the ledger's entry with "
            f"event {row['last_sequence']} or another digest"
        )
    told = {
        "state": dossier.last("state.changed").get("to", str(State.RECEIVED)),
        "outcome": dossier.last("refund.concluded").get("outcome"),
        "verdict": dossier.last("refund.assessed").get("assessment", {}).get("verdict"),
        "request": dossier.last("refund.submitted").get("request"),
    }
    for column, value in told.items():
        if row[column] != value:
            yield f"{name}: the ledger's {column} is {row[column]!r}, its history says {value!r}"
    try:
        is_same = RefundRequest.model_validate(row["request"]).digest() == row["request_digest"]
    except ValueError:
        is_same = False
    # A smaller amount that was proposed is in force in place of the one that was asked.
    entered = {**row["request"], **_amount(dossier.last("amount.proposed"))}
    copied = ("amount_minor", "currency", "order_id", "customer_id")
    differing = [c for c in copied if row[c] != entered.get(c)]
    if not is_same or differing:
        yield f"{name}: the ledger's entry is not what was asked: {differing or 'another digest'}"


def _amount(proposed: dict[str, Any]) -> dict[str, Any]:
    return {name: proposed[name] for name in ("amount_minor",) if name in proposed}


def _effects(dossier: Dossier) -> Iterator[str]:
    """Every effect was intended once, and ended as its history says."""
    name, rows = dossier.refund_id, {e["key"]: e for e in dossier.effects}
    intents: dict[str, dict[str, Any]] = {}
    endings: dict[str, str] = {}
    for event in dossier.events:
        kind, data = event["event"], event["data"]
        if kind == "effect.intended":
            if data["key"] in intents:
                yield f"{name}: {data['key']} was intended twice"
            intents[data["key"]] = data["request"]
        elif kind in ("effect.succeeded", "effect.refused"):
            endings[data["key"]] = kind.removeprefix("effect.")
        elif kind == "effects.reopened":
            endings = {k: e for k, e in endings.items() if e != "refused" or _pays(rows.get(k))}
    for key in sorted(intents.keys() - rows.keys()):
        yield f"{name}: {key} was intended, and the ledger has no such effect"
    for effect in dossier.effects:
        yield from _effect(name, effect, intents, endings)
    if sum(_pays(effect) and effect["state"] != "refused" for effect in dossier.effects) > 1:
        yield f"{name}: it is paid by more than one effect"


def _effect(
    name: str, effect: dict[str, Any], intents: dict[str, dict[str, Any]], endings: dict[str, str]
) -> Iterator[str]:
    key, state = effect["key"], effect["state"]
    if not f"{key}:".startswith(f"{name}:{effect['step']}:"):
        yield f"{name}: the effect {key} has a key of another refund or step"
    if key not in intents:
        yield f"{name}: {key} is {state}, and was never intended"
    elif intents[key] != effect["request"] or digest(intents[key]) != effect["request_digest"]:
        yield f"{name}: {key} was intended with another request than the ledger has"
    if (state if state in FINAL else None) != endings.get(key):
        said = endings.get(key, "that it has not ended")
        yield f"{name}: {key} is {state} in the ledger, its history says {said}"


def _pays(effect: dict[str, Any] | None) -> bool:
    return effect is not None and effect["step"] == PAYMENT_STEP


def _authority(dossier: Dossier) -> Iterator[str]:
    """What was sent to be paid is what the rules or enough people approved."""
    payment, name = dossier.payment, dossier.refund_id
    if payment is None:
        return
    sent_at = next(
        (
            e["sequence"]
            for e in dossier.events
            if e["event"] == "effect.intended" and e["data"]["key"] == payment["key"]
        ),
        None,
    )
    assessed = dossier.last("refund.assessed", before=sent_at)
    verdict = assessed.get("assessment", {}).get("verdict")
    if payment["request"].get("amount") != str(dossier.row["amount_minor"]):
        yield (
            f"{name}: {payment['request'].get('amount')} was sent to be paid, "
            f"{dossier.row['amount_minor']} was asked"
        )
    if verdict == Verdict.REVIEW:
        yield from _approved(dossier, payment, assessed["round"])
    elif verdict != Verdict.APPROVE:
        yield f"{name}: it was sent to be paid under the verdict {verdict}"


def _approved(dossier: Dossier, payment: dict[str, Any], round_number: int) -> Iterator[str]:
    """A person's approval of the very facts that were sent to be paid."""
    name, approval_id = dossier.refund_id, key_of(dossier.refund_id, "approval", round_number)
    found = next((a for a in dossier.approvals if a["approval_id"] == approval_id), None)
    closed = [e["data"] for e in dossier.events if e["event"] == "approval.closed"]
    told = {"approval_id": approval_id, "status": str(Decision.APPROVED)}
    if found is None or found["status"] != Decision.APPROVED or told not in closed:
        yield f"{name}: it was sent to be paid, and nobody's approval of it is in the ledger"
        return
    facts = found["facts"]
    asked = next(
        e["data"]
        for e in [*dossier.events, {"event": "approval.requested", "data": {}}]
        if e["event"] == "approval.requested"
        and e["data"].get("approval_id", approval_id) == approval_id
    )
    if not found["digest"] == binding_digest(facts) == asked.get("digest"):
        yield f"{name}: what was approved has another digest than what is in the ledger"
    sent = (payment["request"].get("charge"), payment["request"].get("metadata[refund_to]"))
    if sent != (facts.get("charge_id"), facts.get("refund_to")):
        yield f"{name}: it was sent to be paid to another place than was approved"
    if payment["request"].get("amount") != str(facts.get("amount_minor")):
        yield f"{name}: another amount was sent to be paid than was approved"
    votes = [
        d
        for d in dossier.decisions
        if d["approval_id"] == approval_id and d["decision"] == Decision.APPROVED
    ]
    if found["verified_needed"]:
        votes = [d for d in votes if d["verified"]]
    if len(votes) < asked.get("people_needed", found["people_needed"]):
        yield f"{name}: it was approved by {len(votes)} people, and needed more"


def _settled(dossier: Dossier) -> Iterator[str]:
    """A payment that people ended as paid ended as they said, and they were enough."""
    settled, payment, name = dossier.settled, dossier.payment, dossier.refund_id
    if settled is None:
        return
    said = {
        folded(data["person"])
        for data in (e["data"] for e in dossier.events if e["event"] == SAID)
        if (data["is_paid"], data["reference"]) == (True, settled["reference"])
    }
    if len(said) < settled["needed"]:
        yield f"{name}: {len(said)} people ended its payment, and {settled['needed']} had to"
    reference = ((payment or {}).get("response") or {}).get("id")
    if reference != settled["reference"]:
        yield f"{name}: people named {settled['reference']}, and the ledger has {reference}"


def _reservation(dossier: Dossier) -> Iterator[str]:
    """Money is reserved while it may be paid, and booked once it is."""
    payment, reservation = dossier.payment, dossier.reservation
    is_paid = payment is not None and payment["state"] == "succeeded"
    if dossier.row["outcome"] == Outcome.PAID and not is_paid:
        yield f"{dossier.refund_id}: its outcome is PAID, and no payment succeeded"
    if payment is None:
        return
    wanted = {"succeeded": "refunded", "refused": "released"}.get(payment["state"], "reserved")
    if dossier.came_back:
        wanted = "released"
    state = reservation["state"] if reservation else None
    if state != wanted:
        yield f"{dossier.refund_id}: its money is {state}, and should be {wanted}"
    amount = reservation["amount_minor"] if reservation else None
    if reservation and amount != dossier.row["amount_minor"]:
        yield f"{dossier.refund_id}: {amount} is reserved for {dossier.row['amount_minor']}"
