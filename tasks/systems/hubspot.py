"""HubSpot's CRM objects API. The key is a private app's token.

The tickets need a text property `refund_key` that is marked as unique: HubSpot has no idempotency
keys, so this property is what makes a second ticket impossible.
"""

from typing import Any
from urllib.parse import quote

from refunds.errors import StepFailed, StepRefused, StepUnknown
from tasks import http, secrets
from tasks.answers import reference_in
from tasks.effect import Action
from tasks.systems import tickets
from tasks.systems.contract import Thing, Undoing, never_undone

_TICKETS = "/crm/v3/objects/tickets"

# HubSpot's own support pipeline, and its last stage ("Closed").
_PIPELINE, _CLOSED = "0", "4"


# What HubSpot says, with a 400, of a property that is unique and another ticket has.
_IS_THERE = "CONFLICTING_UNIQUE_VALUE"


class HubSpot:
    """One closed ticket per refund; a second one under the same key is not made."""

    def making(self, thing: Thing) -> Action:
        """POST a ticket."""
        system, key = thing.system, thing.key

        async def send(wire_key: str) -> dict[str, Any]:
            properties = {
                "subject": tickets.subject(thing),
                "content": tickets.body(thing),
                "hs_pipeline": _PIPELINE,
                "hs_pipeline_stage": _CLOSED,
                "refund_key": key,
            }
            answer = await http.call(
                system,
                "POST",
                _TICKETS,
                key=wire_key,
                json={"properties": properties},
                headers=await _headers(),
                refusal=_refusal,
            )
            return thing.kept(reference_in(system, answer, "id"))

        async def ask(key: str) -> dict[str, Any] | None:
            # Not by search: its index follows some seconds behind.
            answer = await http.call(
                system,
                "GET",
                f"{_TICKETS}/{quote(key, safe='')}",
                params={"idProperty": "refund_key"},
                headers=await _headers(),
                refusal=_refusal,
                absent=(404,),
            )
            return {"reference": reference_in(system, answer, "id")} if answer else None

        return thing.action(send, ask)

    def undoing(self, undo: Undoing) -> Action:
        """A case is never undone."""
        return never_undone(undo)


async def _headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {await secrets.secret('crm_key')}"}


def _refusal(status: int, answer: Any) -> StepFailed:
    if not isinstance(answer, dict) or "category" not in answer:
        return http.not_in_its_words("crm", status)
    said = f"{answer['category']} {answer.get('message', '')}"
    detail = f"it answered {status}: {http.in_short(said)}"
    if _IS_THERE in said:
        # An earlier send of ours made it: it is looked for.
        return StepUnknown("crm", detail)
    return StepRefused("crm", detail)
