"""A shop whose tables are nothing like ours, read by its mapping on each kind of database."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from refunds.doctor import shop_tables
from refunds.errors import BadInput, NeedsAttention, SystemUnavailable
from refunds.ledger import migrate
from refunds.ledger.engine import dispose_engines
from refunds.models import Case, RefundRequest
from refunds.settings import settings
from refunds.shop_mapping import DEFAULT_SHOP_MAPPING, read
from tasks import books, orders, risk, shop

# Whole numbers for ids, one letter for a status, a reserved word and a capital as names.
TABLES = """
CREATE TABLE {s}doc_header (ref INTEGER PRIMARY KEY, "order" CHAR(1), buyer INTEGER, kind TEXT);
CREATE TABLE {s}doc_line (header INTEGER, pos INTEGER, sku INTEGER, gross {decimal});
CREATE TABLE {s}product (sku INTEGER PRIMARY KEY, "Title" TEXT);
CREATE TABLE {s}movement
  (header INTEGER, n INTEGER, way TEXT, val {decimal}, token INTEGER, gw TEXT);
CREATE TABLE {s}token (id INTEGER PRIMARY KEY, family TEXT, owner INTEGER);
CREATE TABLE {s}rma (id INTEGER, header INTEGER, st TEXT, val {decimal}, txt TEXT);
INSERT INTO {s}doc_header VALUES
  (4711, 'S', 7, 'sale'), (4712, 'X', 7, 'sale'), (9, 'S', 7, 'offer');
INSERT INTO {s}doc_line VALUES (4711, 2, 31, 5.00), (4711, 1, 30, 12.50), (4712, 1, 30, 7.25);
INSERT INTO {s}product VALUES (30, 'A lamp'), (31, 'A shade');
INSERT INTO {s}movement VALUES
  (4711, 1, 'IN', 17.50, 1, 'ch_a'), (4711, 2, 'OUT', 2.50, 1, 'ch_a'),
  (4712, 1, 'IN', 7.25, 1, 'ch_b');
INSERT INTO {s}token VALUES (1, 'VISA', 7), (2, 'VOUCHER', 7), (3, 'VISA', 8);
INSERT INTO {s}rma VALUES (1, 4711, 'closed', 2.50, 'scratched');
"""

MAPPING = """
amounts = "decimal"

[orders]
table = "{s}doc_header"
where = {{ kind = "sale" }}
words = {{ status = {{ delivered = ["S", "D"], pending = ["N"], cancelled = ["X"] }} }}
[orders.columns]
order_id = "ref"
customer_id = "buyer"
status = "order"
currency = {{ value = "EUR" }}

[items]
table = "{s}doc_line"
joins = [{{ table = "{s}product", name = "product", on = {{ sku = "sku" }} }}]
found_by = "header"
columns = {{ item_id = "sku", name = "product.Title", price = "gross" }}
sort_by = ["pos"]

[payments]
table = "{s}movement"
found_by = "header"
columns = {{ type = "way", amount = "val", payment_method_id = "token", charge_id = "gw" }}
sort_by = ["n"]
words = {{ type = {{ payment = ["IN"], refund = ["OUT"] }} }}

[payment_methods]
table = "{s}token"
found_by = "owner"
columns = {{ payment_method_id = "id", source = "family" }}
words = {{ source = {{ credit_card = ["VISA"], gift_card = ["VOUCHER"] }} }}

[after_sales]
select = '''
SELECT id AS record_id, 'return' AS kind, st AS status, val AS amount, txt AS note
FROM {s}rma WHERE header = {order_id} ORDER BY id
'''
"""


class Theirs:
    """The user's database and mapping."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.is_postgresql = database_url.startswith("postgresql")
        # PostgreSQL has schemas and decimals; SQLite's decimals are text, if they are to be exact.
        self.names = {
            "s": "sales." if self.is_postgresql else "",
            "decimal": "NUMERIC(12, 2)" if self.is_postgresql else "TEXT",
            # A user's own SELECT says how an id of ours becomes one of theirs.
            "order_id": "CAST(:order_id AS INTEGER)",
        }
        self.mapping = folder / "shop.toml"
        self.engine = sa.create_engine(database_url)
        if self.is_postgresql:
            self.run("CREATE SCHEMA sales")
        # A text column of SQLite would keep 5.00 as 5.0; this is what an exact shop writes.
        tables = TABLES if self.is_postgresql else _quoted(TABLES)
        self.run(*tables.format(**self.names).split(";\n"))
        self.map(MAPPING)

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in filter(str.strip, statements):
                connection.exec_driver_sql(statement)

    def map(self, text: str) -> None:
        self.mapping.write_text(text.format(**self.names))
        shop._mapping.cache_clear()

    def wrong(self) -> list[str]:
        return shop_tables.wrong(books.shop())


def _quoted(text: str) -> str:
    for amount in ("5.00", "12.50", "7.25", "17.50", "2.50"):
        text = text.replace(f" {amount}", f" '{amount}'")
    return text


@pytest.fixture
def theirs(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Theirs]:
    url = database_url.replace("ledger.db", "theirs.db")
    theirs = Theirs(url, tmp_path)
    monkeypatch.setenv("REFUNDS_SHOP_URL", url)
    monkeypatch.setenv("REFUNDS_SHOP_MAPPING", str(theirs.mapping))
    settings.cache_clear()
    books._engine.cache_clear()
    migrate(settings().ledger_database_url)
    yield theirs
    theirs.engine.dispose()
    books._engine.cache_clear()
    shop._mapping.cache_clear()
    dispose_engines()


def request(**fields: Any) -> RefundRequest:
    return RefundRequest.model_validate(
        {
            "refund_id": "rf_1",
            "kind": "return",
            "order_id": "4711",
            "customer_id": "7",
            "item_ids": ["30"],
            "amount_minor": 1_250,
            "currency": "EUR",
            "refund_to": "1",
            "reason": "too small",
        }
        | fields
    )


def test_an_order_is_read_in_our_words_and_in_exact_minor_units(theirs: Theirs) -> None:
    assert theirs.wrong() == []
    order = orders.read_case(request(), 1).order
    assert order is not None
    assert (order.order_id, order.customer_id, order.status) == ("4711", "7", "delivered")
    items = [(item.item_id, item.name, item.price_minor) for item in order.items]
    assert items == [("30", "A lamp", 1_250), ("31", "A shade", 500)]
    (charge,) = order.charges
    assert (charge.charge_id, charge.captured_minor, charge.left_minor) == ("ch_a", 1_750, 1_500)
    assert order.payment_methods == {"1": "credit_card", "2": "gift_card"}


def test_after_sales_come_by_the_users_own_select(theirs: Theirs) -> None:
    case = orders.with_after_sales(Case(request=request(), round=1, order=None))
    (record,) = case.after_sales
    assert record.plain() == {
        "record_id": "1",
        "kind": "return",
        "status": "closed",
        "amount_minor": 250,
        "note": "scratched",
    }


def test_the_customers_history_is_counted_from_orders_and_payments(theirs: Theirs) -> None:
    features = risk.read_risk(Case(request=request(), round=1, order=None))
    assert (features.orders_total, features.orders_cancelled) == (2, 1)
    assert (features.spent_minor, features.refunded_minor) == (2_475, 250)
    in_dollars = request(currency="USD")
    assert risk.read_risk(Case(request=in_dollars, round=1, order=None)).orders_total == 0


def test_an_order_that_is_not_there_is_not_known_even_by_an_id_of_another_kind(
    theirs: Theirs,
) -> None:
    asked = ["4711", "4712", "#W1", "12345678901234567890", "9"]
    assert orders.known_orders(asked) == {"4711": "EUR", "4712": "EUR"}
    assert orders.read_case(request(order_id="#W1"), 1).order is None


def test_many_orders_are_looked_up_at_once(theirs: Theirs) -> None:
    asked = [str(number) for number in range(4_000, 6_000)]
    assert orders.known_orders(asked) == {"4711": "EUR", "4712": "EUR"}


def test_what_the_shop_gave_back_before_is_summed_by_charge(theirs: Theirs) -> None:
    assert shop.refunded_before(["4711", "4712"]) == {"ch_a": 250}


def test_nothing_can_be_written_by_the_way_we_read(theirs: Theirs) -> None:
    with (
        pytest.raises((sa.exc.OperationalError, sa.exc.InternalError), match=r"read-?\s?only"),
        books.shop().connect() as connection,
    ):
        connection.execute(sa.text(f"DELETE FROM {theirs.names['s']}movement"))
    assert orders.read_case(request(), 1).charge is not None


def test_an_amount_that_would_have_to_be_rounded_is_for_a_person(theirs: Theirs) -> None:
    theirs.run(f"ALTER TABLE {theirs.names['s']}doc_line ADD COLUMN fine NUMERIC(12, 4)")
    theirs.run(f"UPDATE {theirs.names['s']}doc_line SET fine = 12.5049")
    theirs.map(MAPPING.replace('price = "gross"', 'price = "fine"'))
    with pytest.raises(NeedsAttention, match=r"items.price is .*12.5049"):
        orders.read_case(request(), 1)


def test_a_currency_that_is_none_is_for_a_person(theirs: Theirs) -> None:
    theirs.map(MAPPING.replace('"EUR"', '"EURO"'))
    with pytest.raises(NeedsAttention, match="'EURO', which is no currency"):
        orders.read_case(request(), 1)


def test_a_table_that_went_away_is_a_shop_that_is_away(theirs: Theirs) -> None:
    theirs.run(f"DROP TABLE {theirs.names['s']}token")
    with pytest.raises(SystemUnavailable, match="cannot be read"):
        orders.read_case(request(), 1)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('price = "gross"', 'price = "net"', "doc_line has no column net"),
        ('table = "{s}token"', 'table = "{s}wallet"', "payment_methods: there is no table"),
        ("FROM {s}rma", "FROM {s}returns", "after_sales.select: "),
        ("txt AS note", "txt AS remark", "after_sales.select returns no note"),
        ('amount = "val"', 'amount = "rate"', "floating point"),
        ('amounts = "decimal"', 'amounts = "minor"', ""),
    ],
)
def test_the_doctor_names_what_the_database_does_not_have(
    theirs: Theirs, before: str, after: str, said: str
) -> None:
    theirs.run(f"ALTER TABLE {theirs.names['s']}movement ADD COLUMN rate DOUBLE PRECISION")
    theirs.map(MAPPING.replace(before, after))
    wrong = theirs.wrong()
    if said:
        assert any(said in sentence for sentence in wrong)
    else:
        # A column with a scale cannot hold minor units; SQLite's text might.
        assert bool(wrong) is theirs.is_postgresql


@pytest.mark.parametrize("value", [12.5, True, None, "12,50", "NaN", "1e400", -1, "12.505", b"1"])
def test_what_is_no_exact_amount_is_refused(value: Any) -> None:
    with pytest.raises(NeedsAttention, match="no exact amount"):
        shop.exactly(value, "USD", "decimal", "price")


@pytest.mark.parametrize(
    ("value", "currency", "amounts", "minor"),
    [
        ("12.50", "USD", "decimal", 1_250),
        (12, "USD", "decimal", 1_200),
        ("1200", "JPY", "decimal", 1_200),
        ("1.234", "KWD", "decimal", 1_234),
        (1_250, "USD", "minor", 1_250),
        ("1250", "USD", "minor", 1_250),
    ],
)
def test_amounts_are_counted_in_minor_units(
    value: Any, currency: str, amounts: str, minor: int
) -> None:
    assert shop.exactly(value, currency, amounts, "price") == minor


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "product.Title"', 'name = "goods.Title"', "goods.Title is of no table"),
        ('price = "gross"', 'cost = "gross"', "items.columns: price missing"),
        ('found_by = "owner"\n', "", "payment_methods: say in `found_by`"),
        ('amounts = "decimal"', 'amounts = "euro"', "amounts"),
        ('"ref"', '"ref; DROP TABLE x"', "orders.columns.order_id"),
        ("SELECT id", "DELETE FROM rma; SELECT id", "one SELECT"),
        ("ORDER BY id", "; DROP TABLE rma", "one statement"),
        ("{order_id}", "4711", "has to look for :order_id"),
        ('price = "gross"', 'price = {{ value = "5" }}', "items.columns.price"),
        ("status = {{ delivered", "state = {{ delivered", "orders.words: there is no state"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_by_name(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    text = MAPPING.replace(before, after).format(s="", order_id=":order_id")
    path = tmp_path / "shop.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        read(path)


def test_the_example_is_a_mapping() -> None:
    assert read(DEFAULT_SHOP_MAPPING).amounts == "minor"
