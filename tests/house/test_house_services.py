"""The services that tests use: there, or left out by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from refunds.settings import settings
from tests.house import services


@pytest.mark.postgresql
def test_postgresql_gives_each_test_an_empty_database(postgresql_server: str) -> None:
    with (
        services.fresh_database(postgresql_server) as first,
        services.fresh_database(postgresql_server) as second,
    ):
        assert first != second
        assert first.startswith("postgresql+psycopg://")
        engine = create_engine(first)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE things (number INTEGER)"))
        engine.dispose()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(make_url(first).set(drivername="postgresql").render_as_string())


@pytest.mark.postgresql
def test_a_private_postgresql_starts_and_leaves_nothing_behind() -> None:
    with services.cluster() as own:
        assert services._may_make_databases(own.url)
        own.stop()
        assert not services._may_make_databases(own.url)
        own.start()
        assert services._may_make_databases(own.url)
    assert not services._may_make_databases(own.url)


def test_a_database_is_given_on_both_kinds(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


@pytest.mark.redis
def test_redis_answers(redis_url: str) -> None:
    assert redis_url.startswith("redis://")


@pytest.mark.chromium
def test_chromium_says_its_version(chromium_path: Path) -> None:
    said = subprocess.run([chromium_path, "--version"], check=True, capture_output=True, text=True)
    assert "Chrom" in said.stdout


def test_a_test_has_a_home_of_its_own_and_no_foreign_settings(tmp_path: Path) -> None:
    assert settings().home_dir == tmp_path / "refunds"
    assert Path(os.environ["PREFECT_HOME"]) != Path.home() / ".prefect"
    assert "PREFECT_API_URL" not in os.environ
    assert not [name for name in os.environ if name.upper().endswith("_PROXY")]


@pytest.mark.parametrize(
    ("required", "exit_code", "said"),
    [
        ("", 0, "\n1 test: no Zeppelin: install it\n"),
        ("1", 1, "nothing may be left out here: no Zeppelin: install it\n"),
    ],
)
def test_what_is_missing_is_listed_here_and_fails_in_ci(
    required: str, exit_code: int, said: str, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]
    shutil.copy(root / "tests/conftest.py", tmp_path)
    flight = "import pytest\ndef test_flight():\n    pytest.skip('no Zeppelin: install it')\n"
    (tmp_path / "test_flight.py").write_text(flight, encoding="utf-8")
    environment = {"CI": "", "REFUNDS_REQUIRE_ALL": required, "PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, said in run.stdout) == (exit_code, True), run.stdout
