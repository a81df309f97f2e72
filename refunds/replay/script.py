"""A history as a script: what each run of the flow called, in order, and what it was given."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from refunds.errors import BadInput
from refunds.history_document import Event, HistoryDocument
from refunds.ledger import journal
from refunds.models import RefundRequest


@dataclass(frozen=True)
class Line:
    """One step as it was called and as it ended; `error` when it failed, else `output`."""

    sequence: int
    step: str
    key: str | None
    inputs: dict[str, Any]
    output: Any = None
    error: dict[str, Any] | None = None

    def is_called(self, step: str, key: str | None) -> bool:
        """Whether this is that step under that key."""
        return (self.step, self.key) == (step, key)


@dataclass
class Act:
    """What one run of the flow did between taking the refund over and its wait, end or crash.

    `forgotten` are the keys of results that a reset dropped before this run.
    """

    code_version: str
    lines: list[Line] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Script:
    """The whole of it. `outcome` is None while the refund is under way."""

    refund_id: str
    request: RefundRequest
    acts: list[Act]
    outcome: str | None
    policies: dict[str, str]

    @property
    def failures(self) -> list[Line]:
        """The steps that failed then."""
        return [line for act in self.acts for line in act.lines if line.error is not None]


def of(document: HistoryDocument) -> Script:
    """The script in a history. Raises BadInput when it has none."""
    events = document.events
    if events[0].event != "refund.submitted":
        raise BadInput(f"{document.refund_id}: its history does not begin with its request")
    request = RefundRequest.model_validate(events[0].data["request"])
    concluded = [e.data["outcome"] for e in events if e.event == "refund.concluded"]
    try:
        acts = list(_acts(document))
    except (KeyError, TypeError) as error:
        raise BadInput(f"{document.refund_id}: its journal cannot be read: {error!r}") from error
    if concluded and not any(act.lines for act in acts):
        raise BadInput(f"{document.refund_id}: its history has no journal of its steps")
    return Script(
        document.refund_id,
        request,
        acts,
        concluded[-1] if concluded else None,
        document.policies,
    )


def _acts(document: HistoryDocument) -> Iterator[Act]:
    held = journal.values_of((event.event, event.data) for event in document.events)
    act, forgotten = None, set[str]()
    for event in document.events:
        if event.event == "run.took_over":
            if act is not None:
                yield act
            act = Act(event.data.get("code_version", ""), forgotten=forgotten)
            forgotten = set()
        elif event.event == "refund.reset":
            forgotten |= set(event.data["forgotten"])
        elif event.event in (journal.ENDED, journal.FAILED) and act is not None:
            act.lines.append(_line(event, held))
    if act is not None:
        yield act


def _line(event: Event, held: dict[str, Any]) -> Line:
    data = event.data
    return Line(
        sequence=event.sequence,
        step=data["step"],
        key=data["key"],
        inputs={name: _whole(value, held) for name, value in data["inputs"].items()},
        output=_whole(data.get("output"), held),
        error=data.get("error"),
    )


def _whole(value: Any, held: dict[str, Any]) -> Any:
    is_reference = isinstance(value, dict) and journal.SAME_AS in value
    return held[value[journal.SAME_AS]] if is_reference else value
