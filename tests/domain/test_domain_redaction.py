"""Account numbers that people type are kept nowhere; what only looks like one stays."""

import pytest

from refunds.models import RefundRequest
from refunds.redaction import without_account_numbers
from tests.domain.domain_cases import request


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("card 4242424242424242.", "card [card …4242]."),
        ("4242 4242-4242\u00a04242", "[card …4242]"),
        ("378282246310005 or 6011111111111117", "[card …0005] or [card …1117]"),
        ("to DE89370400440532013000 please", "to [account …3000] please"),
        ("to de89 3704 0044 0532 0130 00, thanks", "to [account …3000], thanks"),
        ("BE68 5390 0754 7034 THIS is mine", "[account …7034] THIS is mine"),
        ("NO93 8601 1117 947", "[account …7947]"),
        # A wrong check digit, a number that is longer than a card's, ids of orders and items.
        ("4242424242424241", "4242424242424241"),
        ("12345678901234567890", "12345678901234567890"),
        ("DE89 3704 0044 0532 0130 01", "DE89 3704 0044 0532 0130 01"),
        ("#W6067464 9624127908; 8917609800", "#W6067464 9624127908; 8917609800"),
        ("AB12 of it, and no more", "AB12 of it, and no more"),
    ],
)
def test_a_card_or_an_account_is_cut_to_its_last_four(written: str, kept: str) -> None:
    assert without_account_numbers(written) == kept
    assert without_account_numbers(kept) == kept


def test_a_request_never_holds_what_was_typed_into_its_texts() -> None:
    asked = request(message="Pay to 4242 4242 4242 4242", reason="DE89370400440532013000")
    assert (asked.message, asked.reason) == ("Pay to [card …4242]", "[account …3000]")
    assert RefundRequest.model_validate(asked.plain()) == asked
