"""What a model is shown: as little as it needs, and text that stays text."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refunds import policy, prompt
from refunds.digests import digest
from refunds.models import AfterSale, Case
from refunds.redaction import without_account_numbers
from tests.domain.domain_cases import CALM, POLICY, case, order, rival
from tests.domain.test_domain_policy_properties import thorough


def asked(the_case: Case) -> str:
    return prompt.question(the_case, CALM, policy.assess(the_case, CALM, POLICY))


def facts(the_case: Case) -> dict[str, Any]:
    """What is between the delimiters."""
    text = asked(the_case)
    inner = text.removeprefix(prompt.OPENING).removesuffix(prompt.CLOSING)
    assert f"{prompt.OPENING}{inner}{prompt.CLOSING}" == text
    found: dict[str, Any] = json.loads(inner)
    return found


def shown_message(text: str, **changed: Any) -> str:
    return str(facts(case(message=text, **changed))["customer_message"]["text"])


def test_a_model_is_shown_the_request_the_history_and_what_the_rules_said() -> None:
    found = facts(case(order(), rival()))
    assert found["request"] == {
        "kind": "return",
        "reason": "broken",
        "amount": "$30.00",
        "goodwill": "$0.00",
        "items": [{"name": "Lamp", "price": "$30.00"}],
        "goes_to": "credit_card",
        "goes_to_what_paid": True,
    }
    assert found["customer"]["orders_total"] == 3
    assert found["other_requests_on_the_order"] == 1
    assert found["rules"] == {"verdict": "APPROVE", "because": ["rules"]}
    assert found["customer_message"] == {"text": "It flickers.", "left_out_characters": 0}


def test_no_name_and_no_id_of_ours_is_shown() -> None:
    secret = case(
        order(order_id="#W77", customer_id="ada_lovelace_1"),
        rival(refund_id="rf_other"),
        order_id="#W77",
        customer_id="ada_lovelace_1",
        requested_by="sam.agent",
        message=(
            "I am Ada LOVELACE (ada_lovelace_1, ada.l@example.com, +44 20 7946 0018), order #W77, "
            "card card_1 4242 4242 4242 4242, request rf_1."
        ),
    )
    note = AfterSale(
        record_id="as_9", kind="return", status="open", amount_minor=1, note="Ada called"
    )
    text = asked(secret.model_copy(update={"after_sales": (note,)})).lower()
    for hidden in (
        *("ada", "lovelace", "example.com", "7946", "#w77", "card_1", "4242"),
        *("rf_1", "rf_other", "sam.agent", "as_9", "ch_1", "lamp_id"),
    ):
        assert hidden not in text, hidden


def test_nothing_is_shown_of_the_numbers_that_the_door_cut_to_their_last_four() -> None:
    written = "Not to 4242 4242 4242 4242, please, but to GB82 WEST 1234 5698 7654 32."
    taken = without_account_numbers(written)
    assert ("4242]" in taken, "5432]" in taken) == (True, True)
    assert shown_message(taken) == "Not to [card], please, but to [account]."
    assert facts(case(reason=taken))["request"]["reason"] == shown_message(taken)


def test_a_short_id_leaves_the_words_that_it_stands_in_alone() -> None:
    assert shown_message("a lamp, an amp", refund_id="a", customer_id="ada") == "a lamp, an amp"


def test_an_amount_or_a_date_in_a_message_stays_readable() -> None:
    message = "It cost $1,234.56 on 12/24/2026 and came to 90210."
    assert shown_message(message) == message


@thorough
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=300))
def test_no_message_breaks_out_of_its_place(text: str) -> None:
    question = asked(case(message=text))
    assert question.count("<") == question.count(">") == 2
    assert question.endswith(prompt.CLOSING)
    assert set(facts(case(message=text))) == set(facts(case()))


@pytest.mark.parametrize(
    ("hidden", "seen"),
    [
        ("a\u200bb", "a[U+200B]b"),
        ("a\u202eb", "a[U+202E]b"),
        ("a\U000e0041b", "a[U+E0041]b"),
        ("a\U000e0100b", "a[U+E0100]b"),
        ("a\ue000b", "a[U+E000]b"),
        ("a\u2028b", "a[U+2028]b"),
        # Selectors that no writing has, and a filler that counts as a letter.
        ("a\ufe05b", "a[U+FE05]b"),
        ("a\u3164b", "a[U+3164]b"),
        # Zeros and ones in joiners; one of them alone is ordinary.
        ("a\u200c\u200d\u200d\u200cb", "a[U+200C][U+200D][U+200D][U+200C]b"),
    ],
)
def test_what_is_not_seen_is_written_out_and_noticed(hidden: str, seen: str) -> None:
    assert shown_message(hidden) == seen
    assert prompt.noticed(hidden) == ("hidden_text",)


@pytest.mark.parametrize(
    "text",
    [
        "मैं क्षत्रिय हूँ \u200d",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "👩\u200d💻 ❤️",
        "שלום\u200f!",
        "❤\ufe0f\u200d🔥 👨\u200d👩\u200d👧",
    ],
    ids=["hindi", "persian", "emoji", "hebrew", "joined emoji"],
)
def test_what_ordinary_writing_needs_stays(text: str) -> None:
    assert shown_message(text) == text
    assert prompt.noticed(text) == ()


def test_of_a_long_message_the_beginning_and_the_end_are_shown() -> None:
    text = "begin " + "x" * 10_000 + " end"
    found = facts(case(message=text))["customer_message"]
    assert found["left_out_characters"] == len(text) - prompt.MESSAGE_CHARACTERS
    assert found["text"].startswith("begin ")
    assert found["text"].endswith(" end")
    assert len(found["text"]) < prompt.MESSAGE_CHARACTERS + 50
    assert prompt.noticed(text) == ("message_cut",)


@pytest.mark.parametrize("piece", ["1-", "a.", "a@", "(1)", "9 ", "\u0300", "<", "名"])
def test_no_message_makes_the_preparation_slow(piece: str) -> None:
    """A search that grows with the square of the text would take minutes, not a second."""
    began = time.process_time()
    asked(case(message=(piece * 20_000)[:20_000]))
    assert time.process_time() - began < 10


def test_the_version_of_the_prompt_follows_its_text() -> None:
    name, _, content = prompt.VERSION.partition("+")
    assert name == "opinion-1"
    assert len(content) == 12
    assert content == digest(prompt.INSTRUCTIONS)[:12]
