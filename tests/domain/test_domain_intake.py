"""Reading files: all or nothing, and every bad line is named with what to do."""

import json
import re
from typing import Any

import pytest

from refunds.errors import BadInput
from refunds.intake import MAX_LINE_BYTES, InvalidLines, read_request, read_requests
from refunds.shop_data import read_customers, read_orders
from tests.domain.domain_cases import FIELDS, request

GOOD = json.dumps(FIELDS).encode()


def line(**changed: Any) -> bytes:
    return json.dumps(FIELDS | changed).encode()


def numbered(number: int) -> bytes:
    return line(refund_id=f"rf_{number}")


def problems(raw: bytes) -> tuple[tuple[int, str], ...]:
    with pytest.raises(InvalidLines) as refusal:
        read_requests(raw, "file.jsonl")
    return refusal.value.problems


def problem(bad: bytes) -> str:
    """What is said of a bad line that stands between two good ones."""
    ((number, text),) = problems(b"\n".join([numbered(1), bad, numbered(3)]))
    assert number == 2
    return text


def test_requests_come_in_the_order_of_the_file() -> None:
    raw = b"\n".join(numbered(n) for n in (3, 1, 2)) + b"\n"
    assert [r.refund_id for r in read_requests(raw, "f")] == ["rf_3", "rf_1", "rf_2"]
    assert read_requests(GOOD, "f") == [request()]


def test_one_malformed_line_among_ten_thousand_is_named_and_nothing_is_taken() -> None:
    lines = [numbered(n) for n in range(1, 10_001)]
    assert len(read_requests(b"\n".join(lines), "f")) == 10_000
    lines[4_999] = lines[4_999][:-1]
    assert problems(b"\n".join(lines)) == (
        (5_000, "not valid JSON at character 216: Expecting ',' delimiter"),
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"{", "not valid JSON at character 2"),
        (GOOD + GOOD, "not valid JSON at character 214: Extra data"),
        (b"rf_1,return", "not valid JSON at character 1"),
        (b"[1]", "must be a JSON object .* not an array"),
        (b'"rf_1"', "must be a JSON object .* not a string"),
        (b"7", "must be a JSON object .* not a number"),
        (b"null", "must be a JSON object .* not null"),
        (b"true", "must be a JSON object .* not true or false"),
        (GOOD[:-1] + b', "kind": "cancel"}', "'kind' stands there twice"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' stands there twice"),
        (line(amount=1), r"unknown: 'amount' \(did you mean amount_minor\?\)"),
        (line(zzz=1, yyy=2), r"unknown: 'zzz' and 1 more \(remove it\)"),
        (b"{}", "missing: refund_id, kind, order_id and 6 more"),
        (b'{"ammount_minor": 1}', "missing: .*; unknown: .*did you mean amount_minor"),
        (line(amount_minor=-1), "amount_minor must be greater than 0"),
        (line(amount_minor=0), "amount_minor must be greater than 0"),
        (line(amount_minor=10**13), "amount_minor must be less than or equal to 1000000000000"),
        (line(amount_minor=10**5_000 // 10**4_000), "number of 1,001 digits"),
        (line(currency="usd"), "currency is wrong: 'usd' is not an ISO 4217 .* such as USD"),
        (line(message="\x00"), r"message is wrong: control character U\+0000 at position 0"),
        (line(message="x" * 20_001), "message must have at most 20000 characters"),
        (line(refund_id="a b"), "refund_id must be 1 to 64 letters, digits"),
        (line(kind="refund"), "kind must be 'cancel' or 'return'"),
        (line(item_ids=[]), "item_ids must have at least 1 item, not 0"),
        (line(item_ids="lamp"), "item_ids must be an array"),
        (line(item_ids=["lamp", 5]), r"item_ids\.1 must be a valid string"),
        (line(item_ids=[1] * 9), "and 6 more$"),
        (line(order_id="\ud800"), "order_id holds half a character"),
        (line(**{"\ud800": 1}), "^a field's name holds half a character"),
        (GOOD.replace(b"flickers", b"\x07"), "Invalid control character"),
        (GOOD.replace(b"flickers", b"\xc3("), "byte 203 is not UTF-8; save the file as UTF-8"),
        (GOOD.replace(b"3000", b"NaN"), "NaN is not JSON"),
        (GOOD.replace(b"3000", b"-Infinity"), "-Infinity is not JSON"),
        (GOOD.replace(b"3000", b"1" * 5_000), "number of 5,000 digits"),
        (GOOD.replace(b"3000", b"1e999"), "amount_minor must be a whole number"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 40_000, "nested too deeply"),
        (b" " * 9 + b"x" * (MAX_LINE_BYTES + 1), "262,145 bytes long; a line has at most 262,144"),
        (b"\xef\xbb\xbf" + GOOD, "byte-order mark in the middle of the file"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_a_bad_line_is_named_with_what_to_do(bad: bytes, said: str) -> None:
    assert re.search(said, problem(bad)), problem(bad)


@pytest.mark.parametrize("amount", [30.0, 30.5, "3000", True, None, [], {}], ids=repr)
@pytest.mark.parametrize(("currency", "digits"), [("USD", 2), ("JPY", 0), ("KWD", 3)])
def test_an_amount_of_another_type_is_told_the_currencys_digits(
    amount: Any, currency: str, digits: int
) -> None:
    assert problem(line(amount_minor=amount, currency=currency)) == (
        f"amount_minor must be a whole number of minor units ({currency} has {digits} digits)"
    )


def test_the_longest_message_fits_in_a_line() -> None:
    longest = line(message="🙁" * 20_000)
    assert len(longest) > 240_000
    assert len(read_requests(longest, "f")[0].message) == 20_000


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_are_accepted() -> None:
    raw = b"\xef\xbb\xbf\r\n" + numbered(1) + b"\r\n\r\n  \t\n" + numbered(2) + b"\r\n\n"
    assert [r.refund_id for r in read_requests(raw, "f")] == ["rf_1", "rf_2"]


def test_blank_lines_are_counted() -> None:
    assert [number for number, _ in problems(b"\n\r\n" + GOOD + b"\n\n{")] == [5]


def test_line_breaks_of_unicode_do_not_end_a_line() -> None:
    text = "one\u2028two"
    raw = json.dumps(FIELDS | {"message": text}, ensure_ascii=False).encode()
    assert read_requests(raw, "f")[0].message == text


@pytest.mark.parametrize("raw", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(raw: bytes) -> None:
    with pytest.raises(BadInput, match=r"f\.jsonl is empty"):
        read_requests(raw, "f.jsonl")


def test_the_same_request_twice_counts_once() -> None:
    reordered = json.dumps(dict(reversed(FIELDS.items())) | {"goodwill_minor": 0}).encode()
    assert read_requests(GOOD + b"\n" + reordered, "f") == [request()]


def test_two_requests_under_one_id_are_an_error_that_names_both_lines() -> None:
    raw = b"\n".join([GOOD, numbered(2), line(amount_minor=1, reason="other")])
    ((number, text),) = problems(raw)
    assert number == 3
    assert "refund_id 'rf_1' is also on line 1, with another amount_minor, reason" in text


def test_every_bad_line_is_named_and_twenty_are_printed() -> None:
    raw = b"\n".join([b"{"] * 21 + [GOOD] + [b"x"] * 4)
    assert [number for number, _ in problems(raw)] == [*range(1, 22), *range(23, 27)]
    printed = str(InvalidLines("f", problems(raw))).splitlines()
    assert printed[0].startswith("f: nothing was taken; correct 25 lines")
    assert len(printed) == 22
    assert printed[20].startswith("  line 20: ")
    assert printed[21] == "  and 5 more"


@pytest.mark.parametrize(
    "bad",
    [
        line(**{"x" * 5_000: 1}),
        line(**{"x" * 500 + str(n): 1 for n in range(50)}),
        line(message="x" * 30_000),
        line(refund_id="x" * 5_000),
        line(currency="x" * 5_000),
        line(kind="x" * 5_000),
        line(amount_minor="x" * 5_000),
        b"x" * 5_000,
        b'{"' + b"x" * 5_000 + b'": 1, "' + b"x" * 5_000 + b'": 1}',
    ],
    ids=range(9),
)
def test_an_error_never_repeats_more_than_eighty_characters_of_the_input(bad: bytes) -> None:
    assert "x" * 81 not in problem(bad)
    assert problem(bad).count("x") < 90


def test_an_error_never_carries_a_terminals_control_characters() -> None:
    assert problem(line(**{"\x1b[2J\u202e": 1})).isprintable()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([FIELDS], "must be a JSON object .* not an array"),
        (None, "not null"),
        (b"{}", "not a bytes"),
        ({}, "missing: refund_id"),
        (FIELDS | {"amount_minor": 30.0}, r"USD has 2 digits"),
        (FIELDS | {7: 1}, "must be|Keys"),
        (FIELDS | {"\ud800": 1}, "a field's name holds half a character"),
        (FIELDS | {"amount_minor": 10**5_000}, "amount_minor"),
    ],
    ids=range(8),
)
def test_one_value_that_is_no_request_is_refused(raw: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_request(raw)


def test_one_value_is_read_as_a_line_is() -> None:
    assert read_request(FIELDS) == read_request(request()) == request()


ORDER = {
    "order_id": "#W1",
    "customer_id": "ada",
    "status": "delivered",
    "currency": "USD",
    "ship_to": {"state": "NY", "zip": "10083", "country": "USA"},
    "items": [
        {"item_id": "1", "product_id": "2", "name": "Lamp", "price_minor": 3_000, "options": {}}
    ],
    "payments": [{"type": "payment", "amount_minor": 3_000, "payment_method_id": "card_1"}],
}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("items.0.price_minor", 30.0, r"items\.0\.price_minor must be a whole number .*USD has 2"),
        ("payments.0.amount_minor", True, r"payments\.0\.amount_minor must be a whole number"),
        ("payments.0.amount_minor", -1, r"payments\.0\.amount_minor must be greater than 0"),
        ("payments.0.type", "gift", r"payments\.0\.type must be 'payment' or 'refund'"),
        ("items.0.options", {"a": 1}, r"items\.0\.options\.a must be a valid string"),
        ("items.0.options", {"a b" * 50: "x"}, r"items\.0\.options\.'a ba ba ba ba ba…' must have"),
        ("status", "lost", "status must be 'pending', 'processed'"),
        ("ship_to.street", "x", "unknown: 'street'"),
        ("order_id", "W 1", "order_id must match pattern"),
        ("items", [], "items must have at least 1 item"),
    ],
)
def test_a_bad_order_is_named_by_its_line(path: str, value: Any, said: str) -> None:
    bad = json.loads(json.dumps(ORDER))
    *way, last = path.split(".")
    place: Any = bad
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    assert read_orders(json.dumps(ORDER).encode(), "orders.jsonl")[0].order_id == "#W1"
    with pytest.raises(InvalidLines, match=rf"orders\.jsonl: .*\n  line 2: {said}"):
        read_orders(f"\n{json.dumps(bad)}".encode(), "orders.jsonl")


def test_a_customer_twice_with_another_name_is_an_error() -> None:
    fields = {"customer_id": "ada", "name": "Ada", "email": "a@b", "state": "NY", "zip": "1"}
    lines = [json.dumps(fields | {"payment_methods": [], "name": n}) for n in ("Ada", "Eve")]
    with pytest.raises(InvalidLines, match="customer_id 'ada' is also on line 1"):
        read_customers("\n".join(lines).encode(), "c")
