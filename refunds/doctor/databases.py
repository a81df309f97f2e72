"""The ledger and the shop's database, looked at without changing either."""

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from refunds import ledger as ledgers
from refunds.doctor import shop_tables
from refunds.doctor.findings import Unwell
from refunds.errors import BadInput, NeedsAttention, SystemUnavailable
from refunds.settings import settings
from tasks import books

# What keeps the history append-only, in each kind of database.
_SQLITE_GUARD = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'history'"
_POSTGRESQL_GUARD = (
    "SELECT tgname FROM pg_trigger WHERE tgrelid = 'history'::regclass "
    "AND NOT tgisinternal AND tgenabled <> 'D'"
)
_GUARDS = {
    "sqlite": (_SQLITE_GUARD, {"history_no_update", "history_no_delete"}),
    "postgresql": (_POSTGRESQL_GUARD, {"history_append_only"}),
}


_OTHER_SHOP = "`refunds up` starts the sandbox's; name another in REFUNDS_SHOP_URL"


def ledger() -> str:
    """It is there, and its schema is the newest."""
    url = settings().ledger_database_url
    shown = _must_exist(url, "`refunds up` creates it; elsewhere name it in REFUNDS_LEDGER_URL")
    config = Config()
    config.set_main_option("script_location", str(Path(ledgers.__file__).parent / "migrations"))
    newest = ScriptDirectory.from_config(config).get_current_head()
    remedy = "start the database, or name another in REFUNDS_LEDGER_URL"
    try:
        engine = ledgers.engine_of(ledgers.connector(url))
        with engine.connect().execution_options(reads_only=True) as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except sa.exc.SQLAlchemyError as error:
        raise Unwell(f"{shown}: {_first_line(error)}", remedy) from error
    if found != newest:
        raise Unwell(
            f"{shown} has schema {found}, this program {newest}",
            "`refunds list` brings an older one up to date; for a newer one update the program",
        )
    return f"{shown}, schema {found}"


def history_guard() -> str:
    """The triggers that refuse any change of the history."""
    engine = ledgers.engine_of(ledgers.connector(settings().ledger_database_url))
    query, wanted = _GUARDS[engine.dialect.name]
    with engine.connect().execution_options(reads_only=True) as connection:
        found = set(connection.execute(sa.text(query)).scalars())
    if missing := sorted(wanted - found):
        raise Unwell(
            f"missing: {', '.join(missing)}",
            "somebody removed it: run `refunds verify`, then restore it as in "
            "refunds/ledger/migrations",
        )
    return ", ".join(sorted(found))


def shop() -> str:
    """The tables and columns that the mapping names, and whether money in them is exact."""
    block_name = settings().shop_block
    try:
        if block_name:
            engine, shown = books.shop(), f"the block {block_name}"
        else:
            url = settings().shop_database_url
            shown = _must_exist(url, _OTHER_SHOP)
            engine = ledgers.engine_of(ledgers.connector(url), is_ledger=False)
        wrong = shop_tables.wrong(engine)
    except sa.exc.OperationalError as error:
        remedy = "start the database, or name another in REFUNDS_SHOP_URL"
        raise Unwell(f"{shown}: {_first_line(error)}", remedy) from error
    except SystemUnavailable as error:
        raise Unwell(str(error), "start Prefect's API, which has the block") from error
    except (BadInput, NeedsAttention) as error:
        raise Unwell(str(error), "correct that; docs/connect.md explains each entry") from error
    if wrong:
        raise Unwell(
            f"{shown}: {'; '.join(wrong)}",
            "map the shop's own tables in REFUNDS_SHOP_MAPPING; docs/connect.md shows how",
        )
    return f"{shown}, as {settings().shop_mapping or 'the sandbox has it'}"


def _must_exist(database_url: str, remedy: str) -> str:
    """The address without its password; opening an absent SQLite file would make an empty one."""
    url = sa.make_url(database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise Unwell(f"there is none at {url.database}", remedy)
    return url.render_as_string(hide_password=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
