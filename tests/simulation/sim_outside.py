"""The outside world with a memory, and what goes wrong with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from refunds.errors import StepRefused, StepUnknown, SystemUnavailable
from tests.simulation.sim_tape import Tape

# The gateway's own; the engine stops sending two hours earlier.
KEY_RETENTION = timedelta(hours=24)

_ID_FIELDS = {
    "cases": "case_id",
    "coupons": "coupon_id",
    "holds": "hold_id",
    "labels": "label_id",
    "messages": "message_id",
}
_HOLDING = ("succeeded", "pending")


@dataclass
class Outside:
    """Every system, its books and the faults that the tape brings."""

    tape: Tape
    clock: Callable[[], datetime]
    # Called at the moment money moves: may it?
    on_payment: Callable[[dict[str, Any]], None]
    captured: dict[str, int] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    # How often the world acted under each key.
    acts: dict[str, int] = field(default_factory=dict)
    made: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _undone: set[str] = field(default_factory=set)
    events: list[dict[str, Any]] = field(default_factory=list)
    fault_percent: int = 0
    down: set[str] = field(default_factory=set)
    _keys: dict[tuple[str, str], tuple[datetime, Any]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def fault(self) -> str:
        """What goes wrong with the next request; mostly nothing."""
        if not self.tape.happens(self.fault_percent):
            return "none"
        kinds = ("after", "before", "after", "away", "stored")
        return kinds[self.tape.below(len(kinds))]

    def serve(self, request: dict[str, Any], fault: str) -> Any:
        """Answer one request, or raise what the HTTP layer makes of its answer."""
        system = request["system"]
        if system in self.down or fault == "away":
            raise SystemUnavailable(system, "not reachable (ConnectError)")
        if fault == "before":
            raise StepUnknown(system, "it answered 500")
        answer = self._answer(request, fault)
        if fault == "after":
            raise StepUnknown(system, "no answer (ReadTimeout)")
        return answer

    def _answer(self, request: dict[str, Any], fault: str) -> Any:
        if request["method"] == "GET":
            return self._read(request)
        slot = (request["system"], request["key"])
        kept = self._keys.get(slot)
        if kept is not None and self.clock() - kept[0] < KEY_RETENTION:
            answer = kept[1]
        else:
            answer = self._acted(request, fault)
            self._keys[slot] = (self.clock(), answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _acted(self, request: dict[str, Any], fault: str) -> Any:
        system, key = request["system"], request["key"]
        if fault == "stored":
            # Stripe keeps a 500 under the key and answers it again.
            return StepUnknown(system, "it answered 500")
        if system == "gateway":
            return self._pay(request)
        path: str = request["path"].removeprefix("/v1/")
        collection, _, rest = path.partition("/")
        if rest:
            done = {"void": "void", "release": "released", "cancel": "cancelled"}
            # Undoing what is undone changes nothing, even when the key is long forgotten.
            if path not in self._undone:
                self._undone.add(path)
                self.acts[key] = self.acts.get(key, 0) + 1
            return {"status": done[rest.partition("/")[2]]}
        self.acts[key] = self.acts.get(key, 0) + 1
        entry = {
            _ID_FIELDS[collection]: f"{collection}_{next(self._numbers)}",
            "reference": request["json"]["reference"],
        }
        self.made.setdefault(f"{system}/{collection}", []).append(entry)
        return entry

    def _read(self, request: dict[str, Any]) -> Any:
        path, params = request["path"], request["params"] or {}
        if request["system"] == "gateway":
            if path.startswith("/v1/charges/"):
                return {"disputed": False}
            if path != "/v1/refunds":
                return dict(self.refunds[path.rpartition("/")[2]])
            found = [
                r for r in self.refunds.values() if params.get("charge") in (None, r["charge"])
            ]
            return {"data": [dict(refund) for refund in reversed(found)], "has_more": False}
        collection = path.rpartition("/")[2]
        made = self.made.get(f"{request['system']}/{collection}", [])
        return {collection: [e for e in made if e["reference"] == params["reference"]]}

    # --- The gateway ---

    def _pay(self, request: dict[str, Any]) -> Any:
        form = request["form"]
        charge, amount = form["charge"], int(form["amount"])
        if amount > self.captured[charge] - self.given_back(charge):
            return StepRefused("gateway", "it answered 400: greater than unrefunded amount")
        if self.tape.happens(8):
            return StepRefused("gateway", "it answered 402: the card was closed")
        refund = {
            "id": f"re_{next(self._numbers)}",
            "object": "refund",
            "status": "pending" if self.tape.happens(30) else "succeeded",
            "amount": amount,
            "currency": "usd",
            "charge": charge,
            "metadata": {
                name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")
            },
        }
        self.on_payment(refund)
        self.acts[request["key"]] = self.acts.get(request["key"], 0) + 1
        self.refunds[refund["id"]] = refund
        self._tell(refund)
        return dict(refund)

    def given_back(self, charge: str) -> int:
        """What left a charge, or is about to."""
        mine = [r for r in self.refunds.values() if r["charge"] == charge]
        return sum(r["amount"] for r in mine if r["status"] in _HOLDING)

    def settle(self, refund: dict[str, Any], status: str) -> None:
        """The bank settles a pending refund."""
        refund["status"] = status
        if status == "failed":
            refund["failure_reason"] = "insufficient_funds"
        self._tell(refund)

    def pending(self) -> list[dict[str, Any]]:
        """Refunds that the bank has not settled yet."""
        return [refund for refund in self.refunds.values() if refund["status"] == "pending"]

    def _tell(self, refund: dict[str, Any]) -> None:
        number = next(self._numbers)
        data = {"object": {**refund, "metadata": dict(refund["metadata"])}}
        self.events.append({"id": f"evt_{number}", "type": "refund.updated", "data": data})
