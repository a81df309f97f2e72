"""A refund's history as one document: all events with what they refer to, fit to be taken home."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refunds.code_version import code_version
from refunds.errors import BadInput, HistoryBroken
from refunds.ledger import Ledger, history, journal, policies
from refunds.values import RefundId

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Event(BaseModel):
    """One thing that happened; `digest` is SHA-256 of the rest, as canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refund_id: RefundId
    sequence: Annotated[int, Field(strict=True, ge=1)]
    at: Annotated[str, Field(description="ISO 8601, UTC")]
    event: Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z_]+$", max_length=48)]
    data: dict[str, Any]
    previous_digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    digest: _Digest


class HistoryDocument(BaseModel):
    """Everything that happened to one refund, oldest first.

    `policies` has the text of each policy version that the events name; `code_version` is that
    of the program that wrote the document.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["durable-refunds/history"] = "durable-refunds/history"
    # The next number is for a document that the programs of today could not read.
    version: Literal[1] = 1
    refund_id: RefundId
    code_version: str
    policies: dict[str, str]
    events: Annotated[tuple[Event, ...], Field(min_length=1)]

    def plain(self) -> dict[str, Any]:
        """The document as JSON types."""
        return self.model_dump(mode="json")

    def plain_events(self) -> list[dict[str, Any]]:
        """The events as JSON types."""
        return [event.model_dump(mode="json") for event in self.events]


def of(ledger: Ledger, refund_id: str) -> HistoryDocument:
    """The history of a refund. Raises UnknownRefund."""
    events = history.read(ledger, refund_id)
    texts = {name: policies.text_of(ledger, name) for name in _policies_named(events)}
    return HistoryDocument(
        refund_id=refund_id,
        code_version=code_version(),
        policies={name: text for name, text in sorted(texts.items()) if text is not None},
        events=tuple(Event(**event) for event in events),
    )


def read(content: bytes, source: str) -> HistoryDocument:
    """The document in a file. Raises BadInput when it is none, or not as it was written."""
    try:
        document = HistoryDocument.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise BadInput(f"{source} is not a history: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source} is not JSON: {error}") from error
    return checked(document, source)


def checked(document: HistoryDocument, source: str) -> HistoryDocument:
    """The same document, once its chain holds. Raises BadInput."""
    try:
        history.check(document.plain_events())
    except (HistoryBroken, TypeError) as error:
        raise BadInput(f"{source} is not as it was written: {error}") from error
    if any(event.refund_id != document.refund_id for event in document.events):
        raise BadInput(f"{source} holds events of more than one refund")
    return document


def schema() -> dict[str, Any]:
    """The JSON Schema of the document (`docs/history.schema.json`)."""
    return HistoryDocument.model_json_schema()


def _policies_named(events: list[dict[str, Any]]) -> set[str]:
    named = {event["data"]["assessment"]["policy_version"] for event in events if _assesses(event)}
    for event in events:
        output = event["data"].get("output")
        if isinstance(output, dict) and journal.POLICY in output:
            named.add(output[journal.POLICY])
    return named


def _assesses(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "refund.assessed")
