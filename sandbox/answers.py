"""What comes in and what goes out: an ask, an answer, and the refusal that carries one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete JSON answer, encoded once so that a replay repeats the same bytes."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, value: object, headers: Mapping[str, str] | None = None) -> "Answer":
        """Encode `value` as the answer's JSON body."""
        body = json.dumps(value, separators=(",", ":")).encode()
        return cls(status, body, headers or {})

    def response(self) -> Response:
        """Return the answer as the web framework sends it."""
        return Response(
            self.body,
            status_code=self.status,
            headers=dict(self.headers),
            media_type="application/json",
        )


class Refused(Exception):
    """An ask is answered with an error before anything was written.

    `final` says that the refusal is the outcome of the ask and is stored under its key.
    """

    def __init__(self, answer: Answer, *, final: bool = False) -> None:
        super().__init__(answer)
        self.answer = answer
        self.final = final


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One understood request to one endpoint.

    `digest` covers path and body: two asks under one key must agree in it.
    """

    endpoint: str
    system: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    key: str | None
    digest: str
