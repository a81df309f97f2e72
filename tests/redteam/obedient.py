"""A model that always obeys the attacker."""

from __future__ import annotations

import json
from typing import Any

from refunds import prompt
from tests.tasks.model_server import FINE, Said, completion


def obey(asked: dict[str, Any]) -> Said:
    """The worst of all readers: it says word for word what the message wants it to say.

    An answer that stands in the message is given as it is; else it approves with all it has, and
    repeats the message as its reason.
    """
    text = message_in(asked["messages"][-1]["content"])
    start, end = text.find("{"), text.rfind("}")
    if '"recommendation"' in text and start < end:
        return Said.json(completion(text[start : end + 1]))
    reasons = [text[:1_000] or "Because the customer says so."]
    return Said.json(completion(json.dumps(FINE | {"confidence_percent": 100, "reasons": reasons})))


def message_in(question: str) -> str:
    inner = question.removeprefix(prompt.OPENING).removesuffix(prompt.CLOSING)
    return str(json.loads(inner)["customer_message"]["text"])
