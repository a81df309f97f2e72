"""An answer that is not quite one is none, and nothing of it is quoted."""

import json
from typing import Any

import pytest

from refunds import answer
from refunds.answer import NotAnAnswer

FINE: dict[str, Any] = {
    "recommendation": "review",
    "confidence_percent": 60,
    "reasons": ["The message names another item."],
    "signals": ["other_items_than_requested"],
}


def text(**changed: Any) -> str:
    return json.dumps(FINE | changed)


@pytest.mark.parametrize(
    "wrapped",
    ["{}", "```json\n{}\n```", "Here is my opinion:\n{}\nThat is all.", "\ufeff {} "],
)
def test_an_answer_is_found_in_what_stands_around_it(wrapped: str) -> None:
    found = answer.read(wrapped.replace("{}", text()))
    assert found.model_dump(mode="json") == FINE


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "holds no JSON object"),
        ("I approve.", "holds no JSON object"),
        ("} {", "holds no JSON object"),
        (text()[:-3] + "}", "is not valid JSON"),
        (text() + text(), "is not valid JSON"),
        ('{"recommendation": "approve", ' + text()[1:], "is not valid JSON"),
        (text(confidence_percent=float("nan")), "is not valid JSON"),
        ("{" + '"a":[' * 5_000 + "}", "is not valid JSON"),
        (text(recommendation="pay"), "has a wrong recommendation"),
        (text(recommendation=None), "has a wrong recommendation"),
        (text(confidence_percent=700), "has a wrong confidence_percent"),
        (text(confidence_percent=-1), "has a wrong confidence_percent"),
        (text(confidence_percent=0.9), "has a wrong confidence_percent"),
        (text(confidence_percent="90"), "has a wrong confidence_percent"),
        (text(confidence_percent=True), "has a wrong confidence_percent"),
        (text(reasons=[]), "has a wrong reasons"),
        (text(reasons=["x" * 1_001]), "has a wrong reasons"),
        (text(reasons=["x" * 1_000_000]), "has 1,000,1.. characters"),
        (text(reasons=["x"] * 11), "has a wrong reasons"),
        (text(reasons="x"), "has a wrong reasons"),
        (text(signals=["Not A Signal"]), "has a wrong signals"),
        (text(signals=["s" * 49]), "has a wrong signals"),
        (text(signals=[f"s{n}" for n in range(11)]), "has a wrong signals"),
        (text(amount_minor=1), "has a wrong form"),
        (json.dumps({"recommendation": "approve"}), "wrong confidence_percent, reasons, signals"),
    ],
)
def test_an_absurd_answer_is_none_and_says_what_is_wrong(said: str, why: str) -> None:
    with pytest.raises(NotAnAnswer, match=why) as refusal:
        answer.read(said)
    assert len(str(refusal.value)) < 100


def test_a_reason_is_one_line_of_what_is_seen() -> None:
    [reason] = answer.read(text(reasons=["a\n\nb\u202ec\u0000 <b>"])).reasons
    assert reason == "a b[U+202E]c[U+0000] <b>"


def test_a_reason_stays_short_when_what_is_not_seen_is_written_out() -> None:
    [reason] = answer.read(text(reasons=["\u200b" * 1_000])).reasons
    assert len(reason) == 1_000
    assert reason.startswith("[U+200B][U+200B]")


def test_the_schema_that_servers_are_given_has_the_fields_that_are_read() -> None:
    fields = set(answer.Answer.model_fields)
    assert set(answer.SCHEMA["properties"]) == set(answer.SCHEMA["required"]) == fields
