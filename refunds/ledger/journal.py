"""The journal: each step of the flow leaves one event when it ends, so that it can be replayed.

A run's part of a history begins with `run.took_over` (run id, fence, code version). In it,
every step that the flow calls ends in one event: `step.ended` or `step.failed`; each further
attempt in between leaves a `step.retried`. A finished step that a later run finds by its key
leaves nothing: it ended before.

`step.ended` holds {step, key, inputs, output, task_run_id, started_at}; `step.failed` has
`error` {kind, fields, message} in place of the output. `key` is null for a step that is asked
anew by every run. Inputs are by parameter name, in plain JSON, redacted. A longer value that an
earlier event of the refund holds already is {"$same_as": its digest}; a policy is always
{"$policy": its full version, "digest": of its content}, since the ledger keeps every policy's text.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_jsonable_python

from refunds.digests import canonical, digest, digest_of
from refunds.ledger import schema
from refunds.ledger.book import Ledger, Page
from refunds.ledger.pages import among
from refunds.models import RefundRequest
from refunds.policy_file import Policy
from refunds.redaction import redacted

ENDED, FAILED, RETRIED = "step.ended", "step.failed", "step.retried"
SAME_AS, POLICY = "$same_as", "$policy"

# A reference is about 80 characters long; a shorter value is better read where it stands.
_SHORT_CHARACTERS = 120


@dataclass(frozen=True)
class Call:
    """One call of a step by the flow: what it was given, as plain JSON by parameter name."""

    step: str
    key: str | None
    inputs: dict[str, Any]
    started_at: datetime
    task_run_id: str | None = None


def plain(value: Any) -> Any:
    """A step's input or output as redacted JSON types."""
    if isinstance(value, Policy):
        return {POLICY: value.full_version, "digest": value.content_digest}
    return redacted(to_jsonable_python(value))


def ended(page: Page, call: Call, output: Any, known: set[str]) -> set[str]:
    """Append that a step ended with an output.

    `known` holds the digests of the values that the history holds already (`known_values`, or
    what was returned before); returned are those that it holds once this is committed.
    """
    known = set(known)
    data = _called(call, known)
    data["output"] = _shortened(plain(output), known)
    page.append(ENDED, data)
    return known


def failed(page: Page, call: Call, error: BaseException, known: set[str]) -> set[str]:
    """Append that a step ended with an error; as `ended`."""
    known = set(known)
    page.append(FAILED, {**_called(call, known), "error": described(error)})
    return known


def retried(page: Page, call: Call, error: BaseException, attempt: int) -> None:
    """Append that an attempt failed and another one follows; the first attempt is number 1."""
    page.append(
        RETRIED,
        {
            "step": call.step,
            "key": call.key,
            "attempt": attempt,
            "error": described(error),
            "task_run_id": call.task_run_id,
            "started_at": call.started_at.isoformat(),
        },
    )


def described(error: BaseException) -> dict[str, Any]:
    """An error as {kind, fields, message}: our own errors are built again from their fields."""
    fields = redacted(to_jsonable_python(error.args, fallback=str))
    return {"kind": type(error).__name__, "fields": fields, "message": redacted(str(error))}


class Told:
    """A refund's values as its history tells them: in full the first time, then by reference.

    Each value is looked at once, however many events it stands in.
    """

    def __init__(self, request: RefundRequest) -> None:
        """`refund.submitted` holds the request already."""
        self._known: set[str] = {digest(redacted(request.plain()))}
        self._said: dict[int, tuple[Any, Any]] = {}

    def value(self, value: Any) -> Any:
        """The value as the next event has it."""
        if value is None or isinstance(value, str | int):
            return plain(value)
        if id(value) in self._said:
            return self._said[id(value)][1]
        told = plain(value)
        name = _name(told)
        # The value is kept too: as long as it is, nothing else has its identity.
        self._said[id(value)] = (value, told if name is None else {SAME_AS: name})
        return _told(told, name, self._known)


def outputs(ledger: Ledger, refund_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What each finished step of these refunds left, by refund id and the step's key."""
    row = schema.history.c
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    with ledger.reading() as connection:
        events = connection.execute(
            sa.select(row.refund_id, row.data).where(
                among(connection, row.refund_id, refund_ids), row.event == ENDED
            )
        )
        for refund_id, data in events:
            if data["key"] is not None:
                found[refund_id][data["key"]] = data["output"]
    return found


def known_values(page: Page) -> set[str]:
    """The digests of the values that a refund's history holds."""
    row = schema.history.c
    events = page.connection.execute(
        sa.select(row.event, row.data)
        .where(row.refund_id == page.refund_id, row.event.in_((ENDED, FAILED, "refund.submitted")))
        .order_by(row.sequence)
    )
    return set(values_of((event, data) for event, data in events))


def values_of(events: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Each value that (event, data) pairs hold in full, by its digest."""
    return {digest(value): value for event, data in events for value in _held(event, data)}


def _called(call: Call, known: set[str]) -> dict[str, Any]:
    return {
        "step": call.step,
        "key": call.key,
        "inputs": {name: _shortened(value, known) for name, value in call.inputs.items()},
        "task_run_id": call.task_run_id,
        "started_at": call.started_at.isoformat(),
    }


def _shortened(value: Any, known: set[str]) -> Any:
    """The value, or a reference where the history holds it already."""
    return _told(value, _name(value), known)


def _told(value: Any, name: str | None, known: set[str]) -> Any:
    """The value, or its name where that is known; it is from here on."""
    if name is None:
        return value
    if name in known:
        return {SAME_AS: name}
    known.add(name)
    return value


def _name(value: Any) -> str | None:
    """What a value that is worth a reference is referred to by: its digest."""
    if not isinstance(value, dict | list):
        return None
    text = canonical(value)
    return None if len(text) < _SHORT_CHARACTERS else digest_of(text)


def _held(event: str, data: dict[str, Any]) -> Iterator[Any]:
    if event == "refund.submitted":
        yield redacted(data["request"])
    elif event in (ENDED, FAILED):
        yield from (part for part in data["inputs"].values() if _is_whole(part))
        if _is_whole(data.get("output")):
            yield data["output"]


def _is_whole(value: Any) -> bool:
    is_reference = isinstance(value, dict) and (SAME_AS in value or POLICY in value)
    return isinstance(value, dict | list) and not is_reference
