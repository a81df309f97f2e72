"""A stand-in for a model: a chat completion by a few patterns, the same for the same question.

It shows the way of an opinion without a key and without a cost; it understands nothing.
"""

import json
import re
import sqlite3
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from sandbox.answers import Answer, Ask
from sandbox.clock import Clock, to_ms
from sandbox.dialects import JSON_DIALECT
from sandbox.door import Effect, Reading
from sandbox.fault_rules import Rule
from sandbox.records import reader_of

_STEERS = {
    "asks_to_ignore_rules": r"\b(ignore|disregard|override|bypass)\b",
    "claims_authority": r"\bi am (the|your|an?) (manager|developer|admin|supervisor)\b",
    "hidden_text": r"\[u\+[0-9a-f]{4,6}\]",
    "threatens": r"\b(lawyer|sue|chargeback|or else)\b",
}
_CLAIMS = {
    "claims_non_delivery": r"\b(never|not) (arrived|came|delivered|received)\b",
    "claims_damage": r"\b(broken|damaged|cracked|defective)\b",
    "urgency": r"\b(urgent|urgently|immediately|right now)\b",
}
# About what real models count.
_CHARACTERS_PER_TOKEN = 4


class _Loose(BaseModel):
    """Clients send much that this model has no use for."""

    model_config = ConfigDict(extra="allow", frozen=True)


class ChatMessage(_Loose):
    """One turn."""

    role: str
    content: str


class ChatRequest(_Loose):
    """The body of `POST /model/v1/chat/completions`."""

    model: str
    messages: tuple[ChatMessage, ...]


_DIALECT = replace(JSON_DIALECT, key_required=False)
_parse = reader_of(ChatRequest)


def endpoints(clock: Clock) -> list[Effect | Reading]:
    """Return the model's endpoint; asking it changes nothing, so that it is no act."""

    def act(tx: sqlite3.Connection, ask: Ask, fault: Rule | None) -> Answer:
        del tx, fault
        return Answer.of(200, _completion(ask.body, to_ms(clock()) // 1_000))

    def parse(request: Request, raw: bytes) -> ChatRequest:
        del request
        return _parse(raw)

    return [
        Effect(
            system="model",
            dialect=_DIALECT,
            path="/model/v1/chat/completions",
            parse=parse,
            act=act,
            refund_of=lambda *_: None,
        )
    ]


def _completion(asked: ChatRequest, created: int) -> dict[str, Any]:
    text = json.dumps(_opinion(asked.messages[-1].content.lower() if asked.messages else ""))
    read = sum(len(message.content) for message in asked.messages) // _CHARACTERS_PER_TOKEN
    written = len(text) // _CHARACTERS_PER_TOKEN
    return {
        "id": "chatcmpl_sandbox",
        "object": "chat.completion",
        "created": created,
        "model": asked.model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text, "refusal": None},
            }
        ],
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        },
    }


def _opinion(text: str) -> dict[str, Any]:
    steers, claims = ([s for s, p in known.items() if re.search(p, text)] for known in _KNOWN)
    if steers:
        return {
            "recommendation": "review",
            "confidence_percent": 80,
            "reasons": ["The message tries to steer whoever reads it."],
            "signals": steers + claims,
        }
    return {
        "recommendation": "approve",
        "confidence_percent": 90,
        "reasons": ["Nothing in the message speaks against the request."],
        "signals": claims,
    }


_KNOWN = (_STEERS, _CLAIMS)
