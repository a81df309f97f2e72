"""Zendesk's tickets API. The key is `agent@example.com/token:…`."""

import base64
from typing import Any

from refunds.errors import StepFailed, StepRefused, StepUnknown
from tasks import http, secrets
from tasks.answers import objects_in, reference_in
from tasks.effect import Action
from tasks.systems import tickets
from tasks.systems.contract import Thing, Undoing, never_undone

_TICKETS = "/api/v2/tickets.json"


class Zendesk:
    """One solved ticket per refund, with our key as its `external_id`.

    Zendesk keeps an Idempotency-Key for two hours; the external id is looked for at any time.
    """

    def making(self, thing: Thing) -> Action:
        """POST a ticket that nobody has to answer."""
        system, key = thing.system, thing.key

        async def send(wire_key: str) -> dict[str, Any]:
            ticket = {
                "subject": tickets.subject(thing),
                "comment": {"body": tickets.body(thing), "public": False},
                "external_id": key,
                # A ticket is only solved by somebody: by whom the key is of.
                "status": "solved",
                "assignee_email": (await secrets.secret("crm_key")).partition("/")[0],
                "tags": ["refund", str(thing.facts["outcome"]).lower()],
            }
            answer = await http.call(
                system,
                "POST",
                _TICKETS,
                key=wire_key,
                json={"ticket": ticket},
                headers=await _headers(),
                refusal=_refusal,
            )
            return thing.kept(reference_in(system, answer, "ticket", "id"))

        async def ask(key: str) -> dict[str, Any] | None:
            answer = await http.call(
                system,
                "GET",
                _TICKETS,
                params={"external_id": key},
                headers=await _headers(),
                refusal=_refusal,
            )
            listed = objects_in(system, answer, "tickets")
            found = [ticket for ticket in listed if ticket.get("external_id") == key]
            return {"reference": reference_in(system, found[0], "id")} if found else None

        return thing.action(send, ask)

    def undoing(self, undo: Undoing) -> Action:
        """A case is never undone."""
        return never_undone(undo)


async def _headers() -> dict[str, str]:
    pair = base64.b64encode((await secrets.secret("crm_key")).encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _refusal(status: int, answer: Any) -> StepFailed:
    if not isinstance(answer, dict) or "error" not in answer:
        return http.not_in_its_words("crm", status)
    why = http.in_short(f"{answer['error']} {answer.get('description', '')}")
    said = f"it answered {status}: {why}"
    if answer["error"] == "IdempotentRequestError":
        # The key was used with another body; the ticket it made is looked for.
        return StepUnknown("crm", said)
    return StepRefused("crm", said)
