"""Each way to get the policy file wrong has an error that names the entry."""

import re

import pytest

from refunds.errors import BadInput
from refunds.models import Kind
from refunds.policy_file import DEFAULT_POLICY_FILE, parse
from tests.domain.domain_cases import POLICY, policy

TEXT = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
WHY_CANCEL = 'why = "Nothing has left the warehouse while an order is pending."'


def complaint(text: str) -> str:
    with pytest.raises(BadInput) as refusal:
        parse(text, "my.toml")
    assert str(refusal.value).startswith("my.toml is not ")
    return str(refusal.value)


def test_the_default_policy_is_the_shops() -> None:
    assert POLICY.rule_for(Kind.CANCEL).order_status == ("pending",)
    assert POLICY.rule_for(Kind.CANCEL).reasons == ("no longer needed", "ordered by mistake")
    assert POLICY.rule_for(Kind.RETURN).order_status == ("delivered",)
    assert POLICY.approve_without_a_person.of("USD") == 100_000
    assert POLICY.approve_without_a_person.of("CHF") is None


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('version = "2026-11-1"', "version = 1", "version: Input should be a valid string"),
        ('version = "2026-11-1"', 'version = ""', "version: .* at least 1 character"),
        ('version = "2026-11-1"\n', "", "version: Field required"),
        ("[cancel]", "[cancle]", "cancel: Field required; cancle: Extra inputs"),
        ('order_status = ["pending"]', "order_status = []", r"cancel\.order_status: .* at least 1"),
        ('order_status = ["pending"]', 'order_status = "pending"', r"cancel\.order_status: .*list"),
        (WHY_CANCEL, "", r"cancel\.why: Field required"),
        (WHY_CANCEL, 'why = ""', r"cancel\.why: .* at least 1"),
        ("USD = 2_500", "usd = 2_500", r"goodwill\.usd: 'usd' is not an ISO 4217"),
        ("USD = 2_500", "USD = 25.00", r"goodwill\.USD: .*valid integer"),
        ("USD = 2_500", 'USD = "2500"', r"goodwill\.USD: .*valid integer"),
        ("USD = 2_500", "USD = true", r"goodwill\.USD: .*valid integer"),
        ("USD = 2_500", "USD = -1", r"goodwill\.USD: .*greater than or equal to 0"),
        ("USD = 2_500", "USD = 10_000_000_000_000", r"goodwill\.USD: .*less than or equal"),
        ("USD = 2_500", "amounts_minor = {USD = 1}", r"goodwill\.EUR: Extra inputs"),
        ('why = "An apology, not a second refund."', "", r"goodwill\.why: .* at least 1"),
        ("other_refunds = 4", "other_refunds = 0", r"risk\.other_refunds: .*greater than 0"),
        ("cancelled_percent = 50", "cancelled_percent = 101", r"risk\.cancelled_percent: .*100"),
        ("other_refunds = 4", "other_refund = 4", r"risk\.other_refund: Extra inputs"),
        ('name = "leads"', 'name = "team"', "approval: each of the levels needs a name of its own"),
        ('name = "leads"', 'name = "The leads"', r"approval\.levels\.1\.name: .*match"),
        ("hours = 48", "hours = 100_000", r"approval\.levels\.1\.hours: .*8784"),
        ("hours = 48", 'hours = 48\nblock = "slack"', r"approval\.levels\.1\.block: .*match"),
        ("proposer_may_approve = true", "", r"partial\.proposer_may_approve: Field required"),
        ("settle_within_hours = 240", f"settle_within_hours = {10**18}", "settle_within_hours"),
        ('"APPROVE", "REVIEW"]', '"APPROVE", "REJECT"]', r"model\.asked_about\.1: .*'REVIEW'"),
        ("answer_within_seconds = 30", "answer_within_seconds = 41", r"model\..*_seconds: .*40"),
        ("input_price_micro = 4", "input_price_micro = -4", r"model\.input_price_micro: .*0"),
        ('"threatens"]', '"Threatens!"]', r"model\.signals_for_a_person\.3: .*pattern"),
        ("outage_seconds = [30,", "outage_seconds = [0,", r"patience\.outage_seconds\.0"),
        ("outage_seconds = [30,", f"outage_seconds = [{10**18},", r"patience\.outage_seconds\.0"),
        ('audience = "finance-leads"', 'audience = ""', r"approval\.levels\.1\.audience"),
    ],
)
def test_a_wrong_edit_is_named(old: str, new: str, named: str) -> None:
    assert old in TEXT
    assert re.search(named, complaint(TEXT.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("version = \n", "not valid TOML: .*line 1"),
        ('version = "1"\nversion = "2"', "not valid TOML: .*overwrite"),
        ("version = " + "1" * 5_000, "not valid TOML: "),
        ("version = " + "[" * 5_000, "nested too deeply"),
        ("", "version: Field required; cancel: Field required"),
    ],
    ids=["half", "twice", "long number", "deep", "empty"],
)
def test_a_file_that_is_no_policy_at_all_is_refused(text: str, named: str) -> None:
    assert re.search(named, complaint(text))


def test_all_wrong_entries_are_named_at_once() -> None:
    text = TEXT.replace("USD = 2_500", "USD = -1").replace("other_refunds = 4", "other_refunds = 0")
    assert re.search("goodwill.*; risk", complaint(text))


def test_an_edit_that_keeps_the_version_is_still_another_version() -> None:
    edited = policy("USD = 2_500", "USD = 2_501")
    assert edited.version == POLICY.version
    assert edited.full_version != POLICY.full_version


def test_a_comment_does_not_make_another_version() -> None:
    assert policy("[goodwill]", "# generous\n[goodwill]").full_version == POLICY.full_version


@pytest.mark.parametrize(
    ("amount", "currency", "people", "verified"),
    [
        (499_999, "USD", 1, False),
        (500_000, "USD", 1, True),
        (999_999, "USD", 1, True),
        (1_000_000, "USD", 2, True),
        (1, "CHF", 2, True),
    ],
)
def test_from_its_limits_on_an_amount_needs_more_care(
    amount: int, currency: str, people: int, verified: bool
) -> None:
    assert POLICY.people_needed(amount, currency) == people
    assert POLICY.verified_needed(amount, currency) is verified


def test_without_a_section_about_it_no_model_is_asked() -> None:
    without, _, _ = TEXT.partition("[model]")
    assert parse(without).model is None


def test_a_section_that_is_not_there_is_in_no_digest() -> None:
    """A version from before the section was known stays the version that people approved under."""
    without, _, _ = TEXT.partition("[model]")
    assert "model" not in parse(without).model_dump(mode="json")
    assert parse(without).full_version != parse(TEXT).full_version
