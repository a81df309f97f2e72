"""What a request may hold: bad input, one by one."""

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from refunds import errors
from refunds.intake import InvalidLines
from refunds.models import Payment, RefundRequest, Verdict
from refunds.money import MAX_AMOUNT_MINOR
from tests.domain.domain_cases import FIELDS, request

ONE_LINE_FIELDS = ["order_id", "customer_id", "refund_to", "reason"]


def refused(field: str, value: Any) -> bool:
    """Whether the field alone is blamed for the value."""
    try:
        RefundRequest.model_validate(FIELDS | {field: value})
    except ValidationError as error:
        return {detail["loc"][0] for detail in error.errors()} == {field}
    return False


@pytest.mark.parametrize("field", sorted(set(FIELDS) - {"message"}))
def test_a_field_without_a_default_is_required(field: str) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        RefundRequest.model_validate({k: v for k, v in FIELDS.items() if k != field})


def test_an_unknown_field_is_refused() -> None:
    assert refused("amount", 3_000)


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT_MINOR + 1, 10**30, 30.0, "3000", True, None])
def test_an_amount_is_a_whole_positive_number_of_minor_units(amount: Any) -> None:
    assert refused("amount_minor", amount)


def test_the_largest_amount_is_accepted() -> None:
    assert request(amount_minor=MAX_AMOUNT_MINOR).amount_minor == MAX_AMOUNT_MINOR


@pytest.mark.parametrize("goodwill", [-1, 1.0, True, "1", MAX_AMOUNT_MINOR + 1])
def test_goodwill_is_zero_or_more_whole_minor_units(goodwill: Any) -> None:
    assert refused("goodwill_minor", goodwill)


@pytest.mark.parametrize("currency", ["usd", "ZZZ", "US", "DOLLAR", "", 840, None])
def test_a_currency_is_an_iso_code_in_upper_case(currency: Any) -> None:
    assert refused("currency", currency)


@pytest.mark.parametrize(
    "refund_id", ["", "-a", "a b", "a\n", "ä", "a/b", "a:b", "../a", "x" * 65, 7, "\ud800"]
)
def test_a_refund_id_is_safe_in_keys_and_addresses(refund_id: Any) -> None:
    assert refused("refund_id", refund_id)


def test_a_refund_id_has_up_to_64_characters() -> None:
    assert request(refund_id="x" * 64).refund_id == "x" * 64


@pytest.mark.parametrize("kind", ["refund", "RETURN", "", 1, None])
def test_a_kind_is_cancel_or_return(kind: Any) -> None:
    assert refused("kind", kind)


@pytest.mark.parametrize(
    "items", [[], ["lamp"] * 201, "lamp", [1], [None], [[]], {}, [""]], ids=repr
)
def test_items_are_one_to_two_hundred_ids(items: Any) -> None:
    assert refused("item_ids", items)


@pytest.mark.parametrize("field", ONE_LINE_FIELDS)
@pytest.mark.parametrize(
    "text",
    ["", " a", "a ", "a\nb", "a\tb", "a\x00b", "a\x1bb", "a\x85b", "\ud800", "x" * 129, 5],
    ids=ascii,
)
def test_a_name_is_one_clean_line(field: str, text: Any) -> None:
    assert refused(field, text)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u202e", "\u2066"], ids=ascii)
def test_a_name_cannot_pretend_to_be_another_on_a_card(mark: str) -> None:
    assert refused("order_id", f"#W1{mark}2")


def test_a_name_may_be_in_any_script() -> None:
    assert request(reason="ongewünscht 不要 مكسور 🙁").reason == "ongewünscht 不要 مكسور 🙁"


@pytest.mark.parametrize(
    "message",
    ["\x00", "\x1b[2J", "a\x7f", "\x9b", "\ud800", "x" * 20_001],
    ids=lambda m: ascii(m)[:12],
)
def test_a_message_holds_no_control_characters_and_not_more_than_a_letter(message: str) -> None:
    assert refused("message", message)


def test_a_message_may_have_lines_and_twenty_thousand_characters() -> None:
    assert request(message="a\r\n\tb").message == "a\r\n\tb"
    assert len(request(message="x" * 20_000).message) == 20_000


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        request().amount_minor = 1  # type: ignore[misc]


def test_a_request_survives_json() -> None:
    assert RefundRequest.model_validate_json(request().model_dump_json()) == request()


def test_a_request_nobody_entered_is_the_customers_own() -> None:
    assert (request().requester, request(requested_by="eve").requester) == ("ada", "eve")


def test_a_failed_payment_says_why() -> None:
    fields = {"status": "failed", "reference": "re_1", "amount_minor": 1, "currency": "USD"}
    with pytest.raises(ValidationError, match="detail"):
        Payment.model_validate(fields)
    assert Payment.model_validate(fields | {"detail": "closed"}).detail == "closed"


def test_a_verdict_is_its_own_word() -> None:
    assert [str(verdict) for verdict in Verdict] == ["APPROVE", "REJECT", "REVIEW"]


@pytest.mark.parametrize(
    "error",
    [
        errors.BadInput("no"),
        errors.UnknownRefund("rf_1"),
        errors.ContentConflict("rf_1", ("amount_minor",)),
        errors.PaymentDeclined("gateway", "closed"),
        InvalidLines("file", ((3, "bad"),)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_pickles_with_its_words(error: errors.RefundError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
