"""Another version goes on with what waits, repeating nothing; or set-up refuses it."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.stack import free_ports
from tests.chaos.chaos_stack import ChaosStack, until
from tests.house import services

_REPOSITORY = Path(__file__).parents[2]
_CODE = ("deployments", "flows", "refunds", "sandbox", "tasks")

_ANOTHER_STEP = '''

@task(name="notify_operations", cache_key_fn=steps.by_refund, persist_result=True)
@steps.journaled
async def notify_operations(case: Case, outcome: Outcome) -> Receipt:
    """Tell operations."""
    text = wording.customer_notice(case, outcome)
    return receipt(
        await perform(_message(case, "notify_operations", ("operations", "ops"), text))
    )
'''


class Versions(ChaosStack):
    """A stack that is started from a copy of the project."""

    def run_from(self, project: Path) -> None:
        """The next start is of this copy."""
        self.command = [sys.executable, "-c", "from refunds.cli import main; main()"]
        # Not from the directory that the tests run in.
        self.environment |= {"PYTHONPATH": str(project), "PYTHONSAFEPATH": "1"}


@pytest.fixture
def versions(tmp_path: Path, postgresql_server: str) -> Iterator[Versions]:
    home = tmp_path / "home"
    home.mkdir()
    with services.fresh_database(postgresql_server) as ledger_url:
        stack = Versions(home, free_ports(), ledger_url)
        stack.run_from(_copied(tmp_path / "first"))
        with stack.running(), stack.entered():
            yield stack


def _copied(directory: Path) -> Path:
    for part in _CODE:
        shutil.copytree(
            _REPOSITORY / part, directory / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(_REPOSITORY / "prefect.yaml", directory)
    return directory


def _edit(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.postgresql
@pytest.mark.slow
def test_a_refund_that_waits_goes_on_under_another_version_and_one_that_breaks_it_is_refused(
    versions: Versions, tmp_path: Path
) -> None:
    waiting = "rf-waits"
    versions.take(waiting, paid_minor=200_000)
    until(lambda: versions.waits_for(waiting, "approval"), "it waits for a person")
    versions.down()

    renamed = _copied(tmp_path / "renamed")
    _edit(renamed / "tasks" / "cards.py", 'name="send_card"', 'name="post_card"')
    versions.run_from(renamed)
    with pytest.raises(AssertionError, match="its step send_card is not in this version"):
        versions.up()

    edited = _copied(tmp_path / "edited")
    _edit(edited / "tasks" / "crm.py", '{"note": why}', '{"note": f"Now: {why}"}')
    with (edited / "tasks" / "notices.py").open("a", encoding="utf-8") as notices:
        notices.write(_ANOTHER_STEP)
    _edit(
        edited / "flows" / "refund.py",
        "await notices.notify_service(case, outcome, why)",
        "await notices.notify_operations(case, outcome)",
    )
    shutil.copy(edited / "refunds" / "policy.toml", versions.home / "policy.toml")
    _edit(versions.home / "policy.toml", 'version = "', 'version = "another-')
    versions.run_from(edited)
    versions.up()

    def is_over() -> bool:
        if versions.waits_for(waiting, "approval"):
            versions.approve(waiting)
        return versions.row(waiting)["outcome"] is not None

    until(is_over, "it ends")
    acts = Counter(versions.acts(waiting))
    assert versions.row(waiting)["outcome"] == "PAID"
    assert set(acts.values()) == {1}
    # The policy is another one, so that the question was put anew; nothing else was.
    assert {f"{waiting}:send_card:1:team", f"{waiting}:send_card:2:team"} < acts.keys()
    assert f"{waiting}:notify_operations" in acts
    assert f"{waiting}:notify_service" not in acts
    assert versions.problems() == []
