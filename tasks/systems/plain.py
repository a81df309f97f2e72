"""Systems that speak plain JSON with an Idempotency-Key, as the sandbox does."""

from typing import Any

from refunds.errors import StepRefused, StepUnknown
from tasks import http
from tasks.answers import objects_in
from tasks.effect import Action, cannot_ask
from tasks.systems.contract import Thing, Undoing


class Plain:
    """POST to a collection, found again by `?reference=`, undone by POST to its own path."""

    def making(self, thing: Thing) -> Action:
        """POST the facts with our reference."""
        system, path, key = thing.system, f"/v1/{thing.collection}", thing.key

        async def send(wire_key: str) -> dict[str, Any]:
            body = {**thing.content, "reference": key}
            answer = await http.call(system, "POST", path, key=wire_key, json=body)
            found = _identified(thing, answer)
            return thing.kept(**found)

        async def ask(key: str) -> dict[str, Any] | None:
            answer = await http.call(system, "GET", path, params={"reference": key})
            listed = objects_in(system, answer, thing.collection)
            found = [entry for entry in listed if entry.get("reference") == key]
            return _identified(thing, found[0]) if found else None

        return thing.action(send, ask)

    def undoing(self, undo: Undoing) -> Action:
        """POST to the thing's own path."""

        async def send(wire_key: str) -> dict[str, Any]:
            try:
                answer = await http.call(undo.system, "POST", undo.path, key=wire_key, json={})
            except StepRefused as error:
                raise StepRefused(undo.system, f"cannot be undone: {error.detail}") from error
            if answer.get("status", undo.done) != undo.done:
                raise StepUnknown(undo.system, f"its answer does not say {undo.done}")
            return undo.receipt()

        return Action(undo.refund_id, undo.step, undo.system, undo.recorded(), send, cannot_ask)


def _identified(thing: Thing, answer: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(answer.get(thing.id_field), str):
        raise StepUnknown(thing.system, f"its answer has no {thing.id_field}")
    kept = {"status": answer["status"]} if "status" in answer else {}
    return {"reference": answer[thing.id_field], **kept}
