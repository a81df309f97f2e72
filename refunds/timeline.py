"""A history told for people: each event with its lane, a sentence, and what was pending then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from refunds import money, wording
from refunds.history_document import Event

Lane = Literal["flow", "systems", "people"]
Tone = Literal["plain", "good", "bad", "wait"]

# Enough of a sentence for one line of a terminal or a picture; the event has the whole of it.
_SHOWN_CHARACTERS = 160


@dataclass(frozen=True)
class Entry:
    """One event as it is shown. `pending` is what was under way or awaited right after it."""

    sequence: int
    at: datetime
    lane: Lane
    event: str
    title: str
    tone: Tone
    pending: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """The entry as JSON types."""
        return {**vars(self), "at": self.at.isoformat(), "pending": list(self.pending)}


@dataclass(frozen=True)
class Span:
    """A wait, from when to when; `until` is None while it lasts."""

    name: str
    since: datetime
    until: datetime | None

    def plain(self) -> dict[str, Any]:
        """The span as JSON types."""
        until = self.until.isoformat() if self.until else None
        return {"name": self.name, "since": self.since.isoformat(), "until": until}


def entries(events: Sequence[Event]) -> list[Entry]:
    """Every event, oldest first."""
    pending, told = _Pending(), []
    currency = _currency(events)
    for event in events:
        pending.take(event.event, event.data)
        data = event.data | ({"currency": currency} if event.event in _OF_MONEY else {})
        lane, tone, sentence = _SENTENCES.get(event.event, _other)(event.event, data)
        told.append(
            Entry(
                sequence=event.sequence,
                at=datetime.fromisoformat(event.at),
                lane=lane,
                event=event.event,
                title=_cut(sentence),
                tone=tone,
                pending=pending.now(),
            )
        )
    return told


def spans(events: Sequence[Event]) -> list[Span]:
    """Every wait, in the order in which they began."""
    begun: dict[str, tuple[datetime, datetime | None]] = {}
    for event in events:
        at, data = datetime.fromisoformat(event.at), event.data
        if event.event == "wait.started":
            begun[data["name"]] = (at, None)
        elif event.event == "wait.ended":
            for name in _ended(data, [n for n, (_, until) in begun.items() if until is None]):
                begun[name] = (begun[name][0], at)
    return [Span(name, since, until) for name, (since, until) in begun.items()]


def _currency(events: Sequence[Event]) -> str:
    for event in events:
        if event.event == "refund.submitted":
            return str(event.data["request"]["currency"])
    return ""


@dataclass
class _Pending:
    """What is under way, event by event."""

    waits: list[str] = field(default_factory=list)
    effects: dict[str, str] = field(default_factory=dict)
    question: str | None = None

    def take(self, event: str, data: dict[str, Any]) -> None:
        kind, _, what = event.partition(".")
        if event == "wait.started":
            self.waits.append(data["name"])
        elif event == "wait.ended":
            gone = _ended(data, self.waits)
            self.waits = [name for name in self.waits if name not in gone]
        elif kind == "effect" and what in ("succeeded", "refused"):
            self.effects.pop(data["key"], None)
        elif kind == "effect":
            self.effects[data["key"]] = what.replace("_", " ")
        elif event == "approval.requested":
            self.question = data["approval_id"]
        elif event == "approval.closed":
            self.question = None

    def now(self) -> tuple[str, ...]:
        asked = (f"{self.question} is open",) if self.question else ()
        under_way = (f"{key} is {state}" for key, state in self.effects.items())
        return (*(f"waits for {name}" for name in self.waits), *asked, *under_way)


def _ended(data: dict[str, Any], names: list[str]) -> list[str]:
    if "name" in data:
        return [name for name in names if name == data["name"]]
    kinds = tuple(f"{kind}-" for kind in data.get("kinds", ()))
    return [name for name in names if name.startswith(kinds)]


Told = tuple[Lane, Tone, str]


def _other(event: str, data: dict[str, Any]) -> Told:
    is_outside = event.startswith(("effect.", "payment.", "money."))
    parts = (f"{name} {value}" for name, value in data.items() if isinstance(value, str | int))
    sentence = f"{event.replace('.', ' ').replace('_', ' ')}: {', '.join(parts)}"
    return "systems" if is_outside else "flow", "plain", sentence


def _effect(event: str, data: dict[str, Any]) -> Told:
    state = event.partition(".")[2]
    tone: Tone = {"succeeded": "good", "refused": "bad", "unknown": "bad"}.get(state, "plain")  # type: ignore[assignment]  # a table of tones
    response = data.get("response") or {}
    if "prompt_version" in response:
        return "systems", tone, wording.opinion_line(response)
    detail = data.get("detail") or response.get("id") or ""
    return "systems", tone, f"{data['key']} {state.replace('_', ' ')} {detail}".strip()


def _assessed(_event: str, data: dict[str, Any]) -> Told:
    """The verdict, and what the rules made of the model's opinion where there is one."""
    assessment = data["assessment"]
    sentence = f"assessed: {assessment['verdict']} under policy {assessment['policy_version']}"
    of_model = [r["text"] for r in assessment.get("reasons", ()) if r["rule"] == "model"]
    return "flow", "plain", "; ".join((sentence, *of_model))


def _step(event: str, data: dict[str, Any]) -> Told:
    error = data.get("error")
    if event == "step.retried":
        return "flow", "bad", f"{data['step']}: attempt {data['attempt']} failed, {_said(error)}"
    if error is not None:
        return "flow", "bad", f"{data['step']} failed: {_said(error)}"
    return "flow", "plain", f"{data['step']} ended"


def _said(error: dict[str, Any] | None) -> str:
    return f"{error['kind']}: {error['message']}" if error else ""


def _decision(event: str, data: dict[str, Any]) -> Told:
    if event == "decision.refused":
        return "people", "bad", f"{data['person']} said {data['choice']}, not taken: {data['why']}"
    tone: Tone = "good" if data["decision"] == "APPROVED" else "bad"
    said = f"{data['person']}: {data['decision']} ({data['channel']}) {data['reason']}"
    return "people", tone, said.strip()


def _by(event: str, data: dict[str, Any]) -> Told:
    who = data.get("person") or "somebody"
    changed = ", ".join(f"{name} {value}" for name, value in data.get("changes", {}).items())
    said = (changed, data.get("reason"), data.get("text"))
    sentence = f"{who} {_DONE_BY[event]}: {'; '.join(text for text in said if text)}"
    return "people", "plain", sentence.rstrip(": ")


def _proposed(_event: str, data: dict[str, Any]) -> Told:
    amount = money.show(data["amount_minor"], data["currency"])
    sentence = f"{data['proposed_by']} proposed {amount} instead: {data['reason']}"
    return "people", "wait", sentence.rstrip(": ")


def _reserved(_event: str, data: dict[str, Any]) -> Told:
    amount = money.show(data["amount_minor"], data["currency"])
    return "systems", "plain", f"{amount} of {data['charge_id']} is reserved"


# What one person did, by the event that tells it.
_DONE_BY = {
    "approval.seen": "looked at it",
    "evidence.added": "added evidence",
    "refund.given_up": "gave it up",
    "refund.resumed": "resumed it",
    "refund.updated": "updated it",
}

# Their amounts are in the refund's currency.
_OF_MONEY = ("amount.proposed", "money.reserved")


_SENTENCES: dict[str, Callable[[str, dict[str, Any]], Told]] = {
    "refund.submitted": lambda _, d: (
        "people",
        "plain",
        f"{d['request'].get('requested_by') or d['request']['customer_id']} asked for it",
    ),
    "run.took_over": lambda _, d: ("flow", "plain", f"a run took over (fence {d['fence']})"),
    "run.launched": lambda _, d: (
        "flow",
        "plain",
        f"run number {d['run_number']} launched {d.get('why', '')}".rstrip(),
    ),
    "refund.gathered": lambda _, d: (
        "flow",
        "plain",
        f"{d['burst_id']} carries it with others that go on now",
    ),
    "run.lost": lambda _, d: ("flow", "bad", f"the run with fence {d['fence']} is gone"),
    "run.turned_away": lambda _, __: ("flow", "plain", "another run was turned away"),
    "refund.assessed": _assessed,
    "state.changed": lambda _, d: ("flow", "plain", f"{d['from']} → {d['to']}"),
    "wait.started": lambda _, d: (
        "flow",
        "wait",
        f"waits for {d['name']}" + (f" until {d['due_at'][:16]}" if d["due_at"] else ""),
    ),
    "wait.ended": lambda _, d: ("flow", "wait", f"the wait is over: {d['why']}"),
    "approval.requested": lambda _, d: (
        "people",
        "wait",
        f"{d['people_needed']} of the approvers asked until {d['deadline'][:16]}",
    ),
    "approval.closed": lambda _, d: (
        "people",
        "good" if d["status"] == "APPROVED" else "bad",
        f"the question is closed: {d['status']}",
    ),
    "approval.superseded": lambda _, d: ("people", "bad", f"asked anew: {d['why']}"),
    "attention.needed": lambda _, d: ("people", "bad", f"needs a person: {d['why']}"),
    "refund.reset": lambda _, d: (
        "people",
        "bad",
        f"{d['person']} reset it to {d['to']}: {d['reason']}".rstrip(": "),
    ),
    "payment.settlement_said": lambda _, d: (
        "people",
        "plain",
        f"{d['person']} says {_ended_as(d)}: {d['reason']} ({d['evidence']})",
    ),
    "payment.settled": lambda _, d: (
        "people",
        "good" if d["is_paid"] else "bad",
        f"settled by the word of {' and '.join(d['said_by'])}: {_ended_as(d)}",
    ),
    "refund.concluded": lambda _, d: (
        "flow",
        "good" if d["outcome"] == "PAID" else "bad",
        f"{d['outcome']}: {d['why']}",
    ),
    "decision.recorded": _decision,
    "decision.refused": _decision,
    "approval.escalated": lambda _, d: ("people", "wait", f"asked one level up: {d['level']}"),
    "amount.proposed": _proposed,
    "money.reserved": _reserved,
    "money.refunded": lambda _, __: ("systems", "plain", "what was reserved is refunded"),
    "money.released": lambda _, __: ("systems", "plain", "what was reserved is free again"),
    "money.returned": lambda _, __: ("systems", "bad", "what was refunded is back on the charge"),
    "wait.passed": lambda _, __: ("flow", "plain", "the flow went on after its wait"),
    **dict.fromkeys(_DONE_BY, _by),
    "step.ended": _step,
    "step.failed": _step,
    "step.retried": _step,
    **dict.fromkeys(
        ("effect.intended", "effect.sent_again", "effect.pending", "effect.succeeded"), _effect
    ),
    **dict.fromkeys(("effect.refused", "effect.unknown", "effect.blocked"), _effect),
}


def _ended_as(data: dict[str, Any]) -> str:
    return f"it was paid as {data['reference']}" if data["is_paid"] else "it was not paid"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}…"
