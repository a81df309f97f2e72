"""A user's own HTTP service for coupons or logistics, as the mapping file describes it."""

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from refunds import money
from refunds.errors import BadInput, NeedsAttention, StepRefused
from refunds.settings import settings
from refunds.systems_mapping import Finding, Kind, SystemsMapping, filled, read
from tasks import http, secrets
from tasks.answers import objects_in, reference_in
from tasks.effect import Action, Ask, cannot_ask
from tasks.systems.contract import Thing, Undoing


class Mapped:
    """Paths, bodies and fields by the file that `REFUNDS_SYSTEMS_MAPPING` names."""

    def making(self, thing: Thing) -> Action:
        """Make it under our key; where `find` is mapped it is found again by that key."""
        kind, key = _kind(thing.collection), thing.key
        facts = {**_with_amount(thing.content), "key": key}

        async def send(wire_key: str) -> dict[str, Any]:
            answer = await http.call(
                thing.system,
                kind.make.method,
                _path(kind.make.path, facts),
                key=wire_key,
                key_header=kind.key_header,
                json=filled(kind.make.body, facts),
                headers=await _headers(thing.system),
            )
            return thing.kept(reference_in(thing.system, answer, *kind.make.id.split(".")))

        ask = _asking(thing.system, kind.find) if kind.find else cannot_ask
        return thing.action(send, ask)

    def undoing(self, undo: Undoing) -> Action:
        """Undo it; what is not there any more is undone."""
        kind = _kind(undo.collection)

        async def send(wire_key: str) -> dict[str, Any]:
            facts = {"id": undo.reference, "refund_id": undo.refund_id, "key": wire_key}
            try:
                await http.call(
                    undo.system,
                    kind.undo.method,
                    _path(kind.undo.path, facts),
                    key=wire_key,
                    key_header=kind.key_header,
                    json=filled(kind.undo.body, facts) or None,
                    headers=await _headers(undo.system),
                    absent=kind.undo.absent,
                    any_body=True,
                )
            except StepRefused as error:
                raise StepRefused(undo.system, f"cannot be undone: {error.detail}") from error
            return undo.receipt()

        return Action(undo.refund_id, undo.step, undo.system, undo.recorded(), send, cannot_ask)


def _asking(system: str, find: Finding) -> Ask:
    async def ask(key: str) -> dict[str, Any] | None:
        answer = await http.call(
            system,
            "GET",
            _path(find.path, {"key": key}),
            headers=await _headers(system),
            absent=(404,),
        )
        if not answer:
            return None
        for entry in objects_in(system, answer, *find.list.split(".")):
            if entry.get(find.key) == key:
                return {"reference": reference_in(system, entry, find.id)}
        return None

    return ask


def _kind(collection: str) -> Kind:
    path = settings().systems_mapping
    if path is None:
        raise NeedsAttention("REFUNDS_SYSTEMS_MAPPING names no file for the mapped adapter")
    try:
        kind: Kind | None = getattr(_mapping(path), collection)
    except BadInput as error:
        raise NeedsAttention(str(error)) from error
    if kind is None:
        raise NeedsAttention(f"{path} has no [{collection}]")
    return kind


@lru_cache(maxsize=4)
def _mapping(path: Path) -> SystemsMapping:
    return read(path)


def _path(template: str, facts: dict[str, Any]) -> str:
    quoted = {name: quote(str(value), safe="") for name, value in facts.items()}
    return str(template.format(**quoted))


def _with_amount(facts: dict[str, Any]) -> dict[str, Any]:
    if "amount_minor" not in facts:
        return facts
    return {**facts, "amount": money.decimal_text(facts["amount_minor"], facts["currency"])}


async def _headers(system: str) -> dict[str, str]:
    key = await secrets.secret("coupons_key" if system == "coupons" else "logistics_key")
    return {"Authorization": f"Bearer {key}"} if key else {}
