"""What is made and undone in other systems, and what an adapter to one of them has to build."""

from dataclasses import dataclass
from typing import Any, Protocol

from refunds.ledger.effects import key_of
from tasks.effect import Action, Ask, Send


@dataclass(frozen=True)
class Thing:
    """A thing to be made: a case, a coupon, a hold, a label or a message.

    `collection` is its kind in the plural, `facts` what its key stands for, `id_field` what the
    plain systems call its id. `words` are kept with the answer, `address` is not kept.
    """

    refund_id: str
    step: str
    system: str
    collection: str
    facts: dict[str, Any]
    id_field: str
    attempt: str | int | None = None
    words: dict[str, str] | None = None
    address: dict[str, str] | None = None

    @property
    def content(self) -> dict[str, Any]:
        """All that it says."""
        return {**self.facts, **(self.words or {}), **(self.address or {})}

    def kept(self, reference: str, **more: Any) -> dict[str, Any]:
        """What is kept of a send's answer."""
        return {"reference": reference, **more, **({"words": self.words} if self.words else {})}

    def action(self, send: Send, ask: Ask) -> Action:
        """The action that makes it."""
        return Action(
            self.refund_id, self.step, self.system, self.facts, send, ask, attempt=self.attempt
        )

    @property
    def key(self) -> str:
        """Our own reference, by which the thing is found again."""
        return key_of(self.refund_id, self.step, self.attempt)


@dataclass(frozen=True)
class Undoing:
    """A thing to be undone: its own system's `reference`, the `verb`, and how it stands after."""

    refund_id: str
    step: str
    system: str
    collection: str
    reference: str
    verb: str
    done: str

    @property
    def path(self) -> str:
        """Where the plain systems undo it."""
        return f"/v1/{self.collection}/{self.reference}/{self.verb}"

    def recorded(self) -> dict[str, str]:
        """What the ledger keeps of it."""
        return {"path": self.path, "done": self.done}

    def receipt(self) -> dict[str, Any]:
        """What is kept of its answer."""
        return {"status": self.done, "reference": self.path}


class Adapter(Protocol):
    """How one product is spoken to. Its actions record the same request, whichever it is."""

    def making(self, thing: Thing) -> Action:
        """The action that makes a thing once; its response has a `reference`."""
        ...

    def undoing(self, undo: Undoing) -> Action:
        """The action that undoes a thing; undoing what is undone already is a success."""
        ...


def never_undone(undo: Undoing) -> Action:
    """For what only ever makes things. Raises NotImplementedError."""
    raise NotImplementedError(f"{undo.system} undoes nothing")
