"""Does the shop's database have what the mapping names, in types that keep money exact?"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from refunds.shop_mapping import FIELDS, PARAMETERS, Section, column_names, money_columns
from tasks import shop

# An id that hardly any shop uses, be it text or a number: a SELECT of the user's own is tried
# with it.
_NOBODY = "0"


def wrong(engine: sa.Engine) -> list[str]:
    """What does not fit, a sentence each. Raises NeedsAttention for a mapping that is none."""
    mapping = shop.mapping()
    found: list[str] = []
    for name, section in mapping.sections().items():
        if section.select is None:
            found += _columns(engine, name, section)
            found += _money(engine, section, mapping.amounts)
        else:
            asked = {PARAMETERS[name]: _NOBODY}
            found += _select(engine, name, section.select, FIELDS[name], asked)
    return sorted(set(found))


def _columns(engine: sa.Engine, name: str, section: Section) -> Iterator[str]:
    there: dict[str, dict[str, Any] | None] = {}
    for table, column in column_names(section):
        if table not in there:
            there[table] = _table(engine, table)
        columns = there[table]
        if columns is None:
            yield f"{name}: there is no table {table}"
        elif column not in columns:
            yield f"{name}: {table} has no column {column}"


def _money(engine: sa.Engine, section: Section, amounts: str) -> Iterator[str]:
    """Floating point is never exact; SQLite keeps what is declared as a decimal that way too."""
    for table, column in money_columns(section):
        kind = (_table(engine, table) or {}).get(column)
        if kind is None or isinstance(kind, sa.types.NullType):
            # A view of SQLite's does not say; each amount is looked at when it is read.
            continue
        is_decimal = isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float)
        if isinstance(kind, sa.Float) or (is_decimal and engine.dialect.name == "sqlite"):
            yield (
                f"{table}.{column} is {kind}, which {engine.dialect.name} keeps as floating point: "
                "select whole minor units or text in its place"
            )
        elif is_decimal and amounts == "minor" and kind.scale:
            yield f"{table}.{column} is {kind}, and `amounts` says that it holds minor units"
        elif not is_decimal and not isinstance(kind, sa.Integer | sa.String):
            yield f"{table}.{column} is {kind}, which holds no amounts"


def _select(
    engine: sa.Engine, name: str, text: str, fields: tuple[str, ...], asked: dict[str, str]
) -> Iterator[str]:
    try:
        with engine.connect() as connection:
            columns = set(connection.execute(sa.text(text), asked).keys())
    except sa.exc.DataError:
        # The id is not of the column's type; the statement itself was understood.
        return
    except (sa.exc.ProgrammingError, sa.exc.OperationalError) as error:
        yield f"{name}.select: {str(error.orig).strip().splitlines()[0]}"
        return
    if missing := [field for field in fields if field not in columns]:
        yield f"{name}.select returns no {', '.join(missing)}"


def _table(engine: sa.Engine, name: str) -> dict[str, Any] | None:
    """The columns of a table or view with their types, or None."""
    schema, _, bare = name.rpartition(".")
    try:
        columns = sa.inspect(engine).get_columns(bare, schema=schema or None)
    except sa.exc.NoSuchTableError:
        return None
    return {column["name"]: column["type"] for column in columns}
