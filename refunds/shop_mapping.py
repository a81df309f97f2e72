"""The mapping file of the shop: the user's own tables and columns in our words, read strictly.

A section is a table with its columns, or a whole SELECT of the user's own that returns our columns.
Every table and column name is quoted by the database's own rules; no other SQL comes from the file.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refunds.errors import BadInput

# A name as databases take it; dots part a schema from its table, a table from its column.
_Name = Annotated[str, Field(pattern=r"^[^\s.\"`\[\];]+(\.[^\s.\"`\[\];]+)?$", max_length=130)]
_Words = Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(min_length=1)]

DEFAULT_SHOP_MAPPING = Path(__file__).with_name("shop.toml")

# Our columns of each section, and the parameter by which its rows are found.
FIELDS = {
    "orders": ("order_id", "customer_id", "status", "currency"),
    "items": ("item_id", "name", "price"),
    "payments": ("type", "amount", "payment_method_id", "charge_id"),
    "payment_methods": ("payment_method_id", "source"),
    "after_sales": ("record_id", "kind", "status", "amount", "note"),
    "risk": ("currency", "orders_total", "orders_cancelled", "spent", "refunded"),
}
PARAMETERS = {
    "orders": "order_id",
    "items": "order_id",
    "payments": "order_id",
    "payment_methods": "customer_id",
    "after_sales": "order_id",
    "risk": "customer_id",
}
# Columns in whose place a word of ours may stand, the same for every row.
_MAY_BE_FIXED = frozenset({"currency", "status", "type", "source", "kind", "note", "name"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fixed(_Part):
    """The same value in every row."""

    value: Annotated[str, Field(max_length=64)]


class Join(_Part):
    """Another table, under a name of its own; `on` is its column = a column of ours."""

    table: _Name
    name: Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,62}$")]
    on: Annotated[dict[_Name, _Name], Field(min_length=1)]
    # Left, where a row without its partner counts too.
    optional: bool = False


class Section(_Part):
    """Where rows of one kind are found: in a table, or by the user's own SELECT."""

    select: Annotated[str, Field(max_length=10_000)] | None = None
    table: _Name | None = None
    joins: tuple[Join, ...] = ()
    columns: dict[str, _Name | Fixed] = Field(default_factory=dict)
    # The column that is compared with the order's or the customer's id.
    found_by: _Name | None = None
    # Rows count only where these columns have these values.
    where: dict[_Name, str | int | bool] = Field(default_factory=dict)
    sort_by: tuple[_Name, ...] = ()
    # The shop's words for a column, by ours.
    words: dict[str, dict[str, _Words]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if (self.select is None) == (self.table is None):
            raise ValueError("give either a `table` with `columns`, or a `select`")
        if self.select is not None:
            if self.joins or self.columns or self.where or self.sort_by or self.found_by:
                raise ValueError("a `select` stands alone; it says itself what it joins and sorts")
            if not re.match(r"\s*(select|with)\s", self.select, re.IGNORECASE):
                raise ValueError("a `select` has to be one SELECT")
            if ";" in self.select.rstrip().rstrip(";"):
                raise ValueError("a `select` has to be one statement")
        return self


class ShopMapping(_Part):
    """The file. `amounts` says what money columns hold: whole minor units, or decimal numbers."""

    amounts: Literal["minor", "decimal"]
    orders: Section
    items: Section
    payments: Section
    payment_methods: Section
    after_sales: Section | None = None
    # One row a customer and currency, which may be NULL where there are no orders. Left out, it is
    # counted from `orders` and `payments`.
    risk: Section | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, fields in FIELDS.items():
            section: Section | None = getattr(self, name)
            if section is not None:
                _check_section(name, section, fields)
        if self.orders.select is not None:
            raise ValueError("orders: has to be a table; many orders are looked up at once")
        return self

    def sections(self) -> dict[str, Section]:
        """Those that the file has."""
        found: dict[str, Section | None] = {name: getattr(self, name) for name in FIELDS}
        return {name: section for name, section in found.items() if section is not None}


def read(path: Path) -> ShopMapping:
    """The mapping in a file. Raises BadInput naming each wrong entry."""
    try:
        return ShopMapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = "; ".join(
            ": ".join(filter(None, (".".join(map(str, e["loc"])), _said(e["msg"]))))
            for e in error.errors(include_input=False)
        )
        raise BadInput(f"{path} is not a valid mapping: {wrong}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"the mapping file {path} cannot be read: {error}") from error


def statement(section: Section, name: str) -> sa.Select[Any] | sa.TextClause:
    """The query of a section's rows.

    Of a table it has the rows of many, by the parameter `ids`, each with its `shop_key`; a SELECT
    of the user's own has the rows of one, by PARAMETERS[name].
    """
    if section.select is not None:
        return sa.text(section.select)
    own = section.columns.get(PARAMETERS[name])
    return _of_many(section, name, section.found_by or (own if isinstance(own, str) else ""))


def orders_of_customers(section: Section) -> sa.Select[Any]:
    """The query of all orders of some customers, by the parameter `ids`."""
    customer = section.columns["customer_id"]
    return _of_many(section, "orders", customer if isinstance(customer, str) else "")


def _of_many(section: Section, name: str, found_by: str) -> sa.Select[Any]:
    tables = _tables(section)
    key = _column(tables, found_by)
    # Without a type of ours the database compares the ids as the column has them.
    ids = sa.bindparam("ids", expanding=True, type_=sa.types.NullType())
    query = _rows_of(section, FIELDS[name], tables).add_columns(key.label("shop_key"))
    sorted_by = (_column(tables, column) for column in section.sort_by)
    return query.where(key.in_(ids)).order_by(*sorted_by)


def _rows_of(section: Section, fields: tuple[str, ...], tables: dict[str, Any]) -> sa.Select[Any]:
    columns = [_selected(tables, section.columns[field]).label(field) for field in fields]
    source: Any = tables[""]
    for join in section.joins:
        on = [
            tables[join.name].c[theirs] == _column(tables, ours) for theirs, ours in join.on.items()
        ]
        source = source.join(tables[join.name], sa.and_(*on), isouter=join.optional)
    query = sa.select(*columns).select_from(source)
    return query.where(*(_column(tables, name) == value for name, value in section.where.items()))


def in_our_words(section: Section, row: dict[str, Any]) -> dict[str, Any]:
    """The row with the shop's words in ours; a word that nobody mapped stays as it is."""
    for field, words in section.words.items():
        said = str(row[field])
        row[field] = next((ours for ours, theirs in words.items() if said in theirs), said)
    return row


def column_names(section: Section) -> list[tuple[str, str]]:
    """(table, column) of everything that a mapped section reads, for checking."""
    names = {"": section.table or "", **{join.name: join.table for join in section.joins}}
    theirs = [(join.table, column) for join in section.joins for column in join.on]
    return [*((names[table], column) for table, column in _placed(section)), *theirs]


def money_columns(section: Section) -> list[tuple[str, str]]:
    """(table, column) of those that hold money."""
    names = {"": section.table or "", **{join.name: join.table for join in section.joins}}
    fields = ("price", "amount", "spent", "refunded")
    used = [section.columns[field] for field in fields if field in section.columns]
    placed = [name.rpartition(".") for name in used if isinstance(name, str)]
    return [(names[table], column) for table, _, column in placed]


def _check_section(name: str, section: Section, fields: tuple[str, ...]) -> None:
    if unknown := sorted(set(section.words) - set(fields)):
        raise ValueError(f"{name}.words: there is no {', '.join(unknown)}")
    if section.select is None:
        _check_columns(name, section, fields)
    elif f":{PARAMETERS[name]}" not in section.select:
        raise ValueError(f"{name}.select: has to look for :{PARAMETERS[name]}")


def _check_columns(name: str, section: Section, fields: tuple[str, ...]) -> None:
    given = set(section.columns)
    if missing := [field for field in fields if field not in given]:
        raise ValueError(f"{name}.columns: {', '.join(missing)} missing")
    if more := sorted(given - set(fields)):
        raise ValueError(f"{name}.columns: there is no {', '.join(more)}")
    if section.found_by is None and PARAMETERS[name] not in fields:
        raise ValueError(f"{name}: say in `found_by` which column holds the {PARAMETERS[name]}")
    for field, column in section.columns.items():
        if isinstance(column, Fixed) and field not in _MAY_BE_FIXED:
            raise ValueError(f"{name}.columns.{field}: cannot be the same in every row")
    known = {"", *(join.name for join in section.joins)}
    for table, column in _placed(section):
        if table not in known:
            raise ValueError(f"{name}: {table}.{column} is of no table that is joined")


def _placed(section: Section) -> list[tuple[str, str]]:
    """(the table's name here, column) of what a section says of its own tables."""
    used = [column for column in section.columns.values() if isinstance(column, str)]
    used += [*section.where, *section.sort_by, *([section.found_by] if section.found_by else [])]
    used += [ours for join in section.joins for ours in join.on.values()]
    return [(table, column) for table, _, column in (name.rpartition(".") for name in used)]


def _tables(section: Section) -> dict[str, Any]:
    """The section's tables, by the name that its columns call them by; "" is its own."""
    used: dict[str, set[str]] = {"": set(), **{join.name: set(join.on) for join in section.joins}}
    for table, column in _placed(section):
        used[table].add(column)
    places = {"": (section.table or "", "shop_rows")}
    places |= {join.name: (join.table, join.name) for join in section.joins}
    found = {}
    for name, (table, alias) in places.items():
        schema, _, bare = table.rpartition(".")
        columns: list[Any] = [sa.column(column) for column in sorted(used[name])]
        found[name] = sa.table(bare, *columns, schema=schema or None).alias(alias)
    return found


def _column(tables: dict[str, Any], name: str) -> sa.ColumnElement[Any]:
    table, _, column = name.rpartition(".")
    found: sa.ColumnElement[Any] = tables[table].c[column]
    return found


def _selected(tables: dict[str, Any], column: str | Fixed) -> sa.ColumnElement[Any]:
    return sa.literal(column.value) if isinstance(column, Fixed) else _column(tables, column)


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")
