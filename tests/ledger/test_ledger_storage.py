"""Results of steps, the schema and the policies, in the ledger's database."""

import asyncio
from functools import partial

import pytest
import sqlalchemy as sa
from prefect_sqlalchemy import SqlAlchemyConnector

from refunds.errors import BadInput
from refunds.ledger import Ledger, LedgerStorage, connector, engine_of, migrate, policies, schema
from tests.ledger.ledger_desk import Desk, at_once, new_id


@pytest.fixture
def storage(ledger_url: str) -> LedgerStorage:
    return LedgerStorage(connector=connector(ledger_url))


def test_what_was_written_is_read(storage: LedgerStorage) -> None:
    path = storage.write_path(new_id("result"), b"\x00\xffpaid")
    assert storage.read_path(path) == b"\x00\xffpaid"


def test_what_is_written_again_takes_the_place_of_what_was_there(storage: LedgerStorage) -> None:
    path = new_id("result")
    for content in (b"first", b"second"):
        storage.write_path(path, content)
    assert storage.read_path(path) == b"second"


def test_prefect_reads_and_writes_it_from_its_event_loop(storage: LedgerStorage) -> None:
    path = new_id("result")
    asyncio.run(storage.awrite_path(path, b"paid"))
    assert asyncio.run(storage.aread_path(path)) == b"paid"


def test_a_missing_result_is_a_value_error_as_prefect_expects(storage: LedgerStorage) -> None:
    with pytest.raises(ValueError, match="no result is stored under 'rf_nobody'"):
        storage.read_path("rf_nobody")


def test_of_many_writers_at_once_one_content_stays_whole(storage: LedgerStorage) -> None:
    path = new_id("result")
    contents = [bytes([n]) * 50_000 for n in range(8)]
    written = at_once(*[partial(storage.write_path, path, content) for content in contents])
    assert written == [path] * 8
    assert storage.read_path(path) in contents


def test_a_migrated_ledger_stays_as_it_is_when_migrated_again(desk: Desk, ledger_url: str) -> None:
    runner = desk.run()
    migrate(ledger_url)
    assert "run.took_over" in desk.events(runner.refund_id)


def test_the_migrations_make_the_schema_that_the_code_speaks_to(desk: Desk) -> None:
    found = sa.inspect(desk.ledger.engine)
    for table in schema.metadata.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: bool(column.nullable) for column in table.columns}


def test_a_password_stays_a_secret_in_the_block() -> None:
    block = connector("postgresql+psycopg://ann:hunter2@127.0.0.1/ledger")
    assert isinstance(block, SqlAlchemyConnector)
    assert "hunter2" not in repr(block) + block.model_dump_json()


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(BadInput, match="use sqlite or postgresql"):
        connector("mysql://127.0.0.1/ledger")


def test_one_process_has_one_engine_for_a_ledger(ledger_url: str) -> None:
    assert engine_of(connector(ledger_url)) is engine_of(connector(ledger_url))


def test_a_policy_is_kept_word_for_word_whoever_saw_it_first(desk: Desk) -> None:
    version = new_id("policy")
    seen_by = [Ledger(desk.ledger.engine, clock=desk.clock) for _ in range(6)]
    remember = policies.remember.__wrapped__
    assert at_once(*[partial(remember, one, version, "text") for one in seen_by]) == [None] * 6
    policies.remember(desk.ledger, version, "another text")
    assert policies.text_of(desk.ledger, version) == "text"
    assert policies.text_of(desk.ledger, "never used") is None
