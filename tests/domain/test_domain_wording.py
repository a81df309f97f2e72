"""What a customer wrote is shown as it is, and nothing in it can be pressed."""

import re
from typing import Any

import pytest

from refunds import timeline, wording
from refunds.history_document import Event
from refunds.models import Outcome
from refunds.wording import escaped, quoted
from tests.domain.domain_cases import case

# What GitHub's markdown, which Prefect's UI speaks, makes a link of although it was escaped.
_AUTOLINKS = (
    re.compile(r"(https?://|www(?=\.))[-.\w]+", re.IGNORECASE),
    re.compile(r"[-.\w+]+@[-\w]+(\.[-\w]+)+"),
)

HOSTILE = [
    "see https://evil.example/pay now",
    "see HTTP://EVIL.example",
    "www.evil.example",
    "WwW.evil.example",
    "write to ada@evil.example",
    "[press](http://evil.example) <http://evil.example> ![](https://evil.example/x.png)",
]


def rendered(markdown: str) -> str:
    """Text as a renderer has it once escapes are taken away."""
    return re.sub(r"\\(.)", r"\1", markdown)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_customer_wrote_becomes_a_link(text: str) -> None:
    for shown in (escaped(text), quoted(text)):
        assert not [found for pattern in _AUTOLINKS if (found := pattern.search(rendered(shown)))]


@pytest.mark.parametrize("text", [*HOSTILE, "a | b * c # d", "plain"])
def test_what_a_customer_wrote_is_shown_to_the_letter(text: str) -> None:
    assert rendered(escaped(text)).replace("\N{WORD JOINER}", "") == text


_ASKED: dict[str, Any] = {
    "model": "reader-1",
    "prompt_version": "opinion-1+d9d8",
    "asked_digest": "7223",
    "usage": {"input_count": 1_000, "output_count": 50, "cost_micro": 480, "currency": "USD"},
}
_BY_WHICH = "model reader-1 (prompt opinion-1+d9d8): "
_COST = "; 1000 + 50 tokens, 0.000480 USD"


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (
            {"recommendation": "reject", "confidence_percent": 95, "signals": ["threatens"]},
            "reject, 95 % sure; noticed threatens",
        ),
        ({"missing": "no answer within 30 s"}, "no opinion: no answer within 30 s"),
    ],
)
def test_the_timeline_says_what_the_model_said_by_which_prompt_and_at_what_cost(
    response: dict[str, Any], said: str
) -> None:
    data = {"key": "rf_1:ask_opinion:1", "response": response | _ASKED, "detail": None}
    assert _told("effect.succeeded", data) == f"{_BY_WHICH}{said}{_COST}"


def test_the_timeline_says_what_the_rules_made_of_it() -> None:
    reasons: list[dict[str, Any]] = [
        {"rule": "rules", "verdict": "APPROVE", "text": "Small enough."},
        {"rule": "model", "verdict": "REVIEW", "text": "The model says reject."},
    ]
    assessment: dict[str, Any] = {"verdict": "REVIEW", "policy_version": "1", "reasons": reasons}
    assert _told("refund.assessed", {"round": 1, "assessment": assessment}) == (
        "assessed: REVIEW under policy 1; The model says reject."
    )


def _told(name: str, data: dict[str, Any]) -> str:
    at, digest = "2026-11-25T12:00:00+00:00", "0" * 64
    event = Event(
        refund_id="rf_1",
        sequence=1,
        at=at,
        event=name,
        data=data,
        previous_digest="",
        digest=digest,
    )
    (entry,) = timeline.entries([event])
    return entry.title


@pytest.mark.parametrize("outcome", [Outcome.PAID, Outcome.FAILED])
def test_a_customer_is_told_the_kind_of_the_place_and_no_id_of_the_shops(outcome: Outcome) -> None:
    _, body = wording.customer_notice(case(), outcome)
    assert "to your credit card" in body
    assert case().request.refund_to not in body


def test_a_place_that_the_shop_does_not_know_is_named_as_it_was_asked_for() -> None:
    _, body = wording.customer_notice(case(refund_to="iban_7"), Outcome.FAILED)
    assert "to iban_7" in body
