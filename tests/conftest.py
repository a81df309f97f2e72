"""What every test has: its own home, its own world, and databases where the machine has them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from refunds.settings import settings
from tasks import books
from tests.house import services

# The order matters: Prefect reads its settings when it is first imported, after this file.
_SESSION_HOME = tempfile.TemporaryDirectory(prefix="refunds-tests-", ignore_cleanup_errors=True)
_OURS = (
    *("REFUNDS_REQUIRE_ALL", "REFUNDS_TEST_POSTGRESQL_URL", "REFUNDS_TEST_REDIS_URL"),
    *("REFUNDS_TEST_CANAILLE", "REFUNDS_TEST_LOCALSTRIPE", "REFUNDS_LONG"),
    *("REFUNDS_SIMULATION_STORIES", "REFUNDS_SIMULATION_SEED", "REFUNDS_CHAOS_OUTAGE_SECONDS"),
)
for name in list(os.environ):
    foreign = name.startswith(("REFUNDS_", "PREFECT_", "OPENAI_")) and name not in _OURS
    if foreign or name.upper().endswith("_PROXY"):
        del os.environ[name]
os.environ |= {
    "PREFECT_HOME": f"{_SESSION_HOME.name}/prefect",
    "REFUNDS_HOME": f"{_SESSION_HOME.name}/refunds",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # A table or a message is compared as text, so its width and colour are fixed.
    "COLUMNS": "120",
    "NO_COLOR": "1",
}
os.environ.pop("FORCE_COLOR", None)

# Folders whose tests start servers, the longest first.
_WITH_SERVERS = ("chaos", "flows", "deployments", "scale", "browser", "cli", "sandbox")


def pytest_unconfigure() -> None:
    _SESSION_HOME.cleanup()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Folders whose tests start servers come first: they are idle half of the time, and the
    quick ones fill the gaps.
    """
    if not os.environ.get("REFUNDS_LONG"):
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    places = {name: place for place, name in enumerate(_WITH_SERVERS)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(places)))


# Not xdist's own groups: with pytest 9.2 they no longer hold, and nothing says so.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process takes whole folders of tests."""
    from tests.house.folders import FolderScheduling

    return FolderScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is required, what would be left out fails instead."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and services.all_required():
        why = str(call.excinfo.value) if call.excinfo is not None else "skipped"
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: nothing may be left out here: {why}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, why, and how to have it."""
    left_out: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        why = report.longrepr[2].removeprefix("Skipped: ")
        left_out[why] = left_out.get(why, 0) + 1
    if left_out:
        terminalreporter.section("left out on this machine")
        for why, tests in sorted(left_out.items()):
            terminalreporter.write_line(f"{tests} test{'s' * (tests > 1)}: {why}")
    if not os.environ.get("REFUNDS_LONG"):
        terminalreporter.write_line("Outages played out in full are left to `make test-long`.")
    _tell_of_chaos(terminalreporter)


def _tell_of_chaos(terminalreporter: pytest.TerminalReporter) -> None:
    """What was killed and what came of it, from the tests of whichever process."""
    from tests.chaos.chaos_matrix import Column, table

    ended = [
        report for how in ("passed", "failed") for report in terminalreporter.stats.get(how, [])
    ]
    columns = [
        Column(**value)
        for report in ended
        for name, value in report.user_properties
        if name == "chaos"
    ]
    if columns:
        terminalreporter.section("killed from outside")
        terminalreporter.write_line(table(columns))
        seeds = " ".join(dict.fromkeys(str(column.seed) for column in columns))
        terminalreporter.write_line(f"seeds: {seeds}; CHAOS_SEEDS='…' replays the last two")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REFUNDS_HOME", str(tmp_path / "refunds"))
    settings.cache_clear()
    yield
    settings.cache_clear()
    # A test that did what a worker does leaves nothing of it to the next.
    books._by_blocks.clear()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a PostgreSQL server on which databases may be made: one that runs, or our own."""
    with services.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """SQLAlchemy URL of a database made for this test session and dropped after it."""
    with services.fresh_database(postgresql_server) as url:
        yield url


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)],
)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLAlchemy URL of an empty database of its own, once on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
    else:
        with services.fresh_database(request.getfixturevalue("postgresql_server")) as url:
            yield url


@pytest.fixture(scope="session")
def redis_url() -> str:
    """URL of a Redis server that answers."""
    return services.redis()


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """The program of a Chromium browser."""
    return services.chromium()
