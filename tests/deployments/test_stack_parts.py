"""What the launcher decides without starting anything."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prefect.settings.models.server.services import ServerServicesPauseExpirationsSettings
from pydantic import AliasChoices, SecretStr

from deployments import stack_environment, stack_nights, stack_people, stack_roles
from deployments.process_identity import ProcessIdentity
from deployments.stack_home import Home
from deployments.stack_processes import end_stale
from deployments.stack_restarts import Restarts
from deployments.stack_sample import is_idle, read_requests
from refunds.ledger import migrate, open_ledger, people
from refunds.ledger.access import accounts
from refunds.process_birth import birth
from refunds.settings import Settings


def test_a_process_that_is_not_ours_is_never_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        born = birth(stranger.pid)
        end_stale({"worker": ProcessIdentity.local(stranger.pid, born)})
        end_stale({"worker": ProcessIdentity.local(os.getpid(), born)})
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


def test_a_noted_process_that_has_ended_is_forgotten(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        home.write_processes({"supervisor": os.getpid(), "worker": child.pid})
        assert set(home.read_processes()) == {"supervisor", "worker"}
        child.communicate(b"\n")
    assert set(home.read_processes()) == {"supervisor"}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"worker": "nonsense"}'])
def test_a_damaged_note_of_processes_names_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "processes.json").write_text(content)
    assert Home(tmp_path).read_processes() == {}


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = home.lock()
    assert first is not None
    assert home.lock() is None
    os.close(first)
    again = home.lock()
    assert again is not None
    os.close(again)


def test_the_pool_gets_no_secret(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, gateway_key=SecretStr("sk_live_1"))
    given = {
        "REFUNDS_GATEWAY_KEY": "sk_live_1",
        "REFUNDS_LEDGER_URL": "postgresql://u:pw@db/ledger",
        "REFUNDS_COUPONS_URL": "https://u:pw@coupons.example",
        "REFUNDS_CRM_URL": "https://hooks.example/T1/pw",
        "REFUNDS_CRM_ADAPTER": "webhook",
    }
    found = stack_environment.run_environment(settings, given)
    assert found["REFUNDS_CRM_ADAPTER"] == "webhook"
    assert not any("sk_live_1" in value or "pw" in value for value in found.values())


def test_a_worker_knows_the_addresses_that_the_pool_does_not(tmp_path: Path) -> None:
    given = {"REFUNDS_CRM_URL": "https://hooks.example/T1/pw"}
    found = stack_environment.client_environment(Settings(home=tmp_path), given)
    assert found["REFUNDS_CRM_URL"] == given["REFUNDS_CRM_URL"]


def test_the_callers_own_prefect_is_never_touched(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, port=4611)
    given = {
        "PREFECT_API_URL": "https://api.prefect.cloud/api",
        "PREFECT_API_KEY": "pnu_1",
        "PREFECT_API_AUTH_STRING": "work:pw@",
        "PREFECT_PROFILE": "work",
        "PREFECT_HOME": "/home/somebody/.prefect",
        "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://u:pw@work/prefect",
    }
    for environment in (
        stack_environment.server_environment(settings, given),
        stack_environment.client_environment(settings, given),
    ):
        assert environment["PREFECT_HOME"] == str(tmp_path / "prefect")
        assert not any("cloud" in v or "pnu_1" in v or "pw@" in v for v in environment.values())
        assert environment["DO_NOT_TRACK"] == "1"


def test_each_home_has_its_own_password_for_prefect_that_only_its_owner_reads(
    tmp_path: Path,
) -> None:
    homes = [Settings(home=tmp_path / name, port=4611) for name in ("one", "two")]
    for settings in homes:
        settings.make_prefect_auth()
        settings.make_prefect_auth()
        server = stack_environment.server_environment(settings, {})
        client = stack_environment.client_environment(settings, {})
        assert server["PREFECT_SERVER_API_AUTH_STRING"] == client["PREFECT_API_AUTH_STRING"]
        assert settings.prefect_auth_file.stat().st_mode & 0o777 == 0o600
        assert "AUTH" not in str(stack_environment.run_environment(settings, {}))
    assert homes[0].embedded_auth_string != homes[1].embedded_auth_string


def test_prefects_server_leaves_what_waits_alone_unless_told_otherwise(tmp_path: Path) -> None:
    name = "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED"
    setting = ServerServicesPauseExpirationsSettings.model_fields["enabled"]
    assert isinstance(setting.validation_alias, AliasChoices)
    assert name.lower() in setting.validation_alias.choices
    settings = Settings(home=tmp_path)
    assert stack_environment.server_environment(settings, {})[name] == "false"
    assert stack_environment.server_environment(settings, {name: "true"})[name] == "true"


def test_prefect_asks_for_nothing_when_that_is_said(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, prefect_auth=SecretStr("off"))
    settings.make_prefect_auth()
    assert not settings.prefect_auth_file.exists()
    environments = (
        stack_environment.server_environment(settings, {}),
        stack_environment.client_environment(settings, {}),
    )
    assert not any("AUTH_STRING" in name for found in environments for name in found)


def test_the_homes_password_is_not_given_to_another_prefect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, prefect_auth=SecretStr("refunds:secret"))
    assert settings.prefect_auth_string == "refunds:secret"
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere.example/api")
    assert settings.prefect_auth_string == ""


def test_a_postgresql_for_prefect_gets_the_driver_that_prefect_needs(tmp_path: Path) -> None:
    url = SecretStr("postgresql://u:pw@db:5433/prefect")
    environment = stack_environment.server_environment(
        Settings(home=tmp_path, prefect_database_url=url), {}
    )
    assert (
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
        == "postgresql+asyncpg://u:pw@db:5433/prefect"
    )


def test_a_ledger_named_relative_to_the_callers_directory_is_found_by_the_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"REFUNDS_LEDGER_URL": "sqlite:///books.db"}
    settings = Settings(home=Path("here"), ledger_url=SecretStr("sqlite:///books.db"))
    environment = stack_environment.client_environment(settings, given)
    assert environment["REFUNDS_LEDGER_URL"] == f"sqlite:///{tmp_path}/books.db"
    assert environment["REFUNDS_HOME"] == f"{tmp_path}/here"


def test_the_sandbox_is_left_out_when_every_system_is_elsewhere() -> None:
    systems = [system for system in stack_environment.SYSTEMS if system != "model"]
    elsewhere = {f"{system}_url": "http://elsewhere" for system in systems}
    assert stack_roles.needs_sandbox(Settings.model_validate(elsewhere))
    elsewhere["shop_url"] = "postgresql://db/shop"
    assert not stack_roles.needs_sandbox(Settings.model_validate(elsewhere))
    assert stack_roles.needs_sandbox(Settings.model_validate(elsewhere | {"model_url": "sandbox"}))
    by_a_block = elsewhere | {"shop_url": "", "shop_block": "my-shop"}
    assert not stack_roles.needs_sandbox(Settings.model_validate(by_a_block))
    by_apprise = elsewhere | {"notices_url": "", "notices_adapter": "apprise"}
    assert not stack_roles.needs_sandbox(Settings.model_validate(by_apprise))


def test_the_pool_names_the_model_and_the_blocks_that_hold_the_secrets(tmp_path: Path) -> None:
    given = {"REFUNDS_MODEL_URL": "https://model.example/v1", "REFUNDS_MODEL_KEY": "sk-1"}
    settings = Settings(
        home=tmp_path,
        model_url=given["REFUNDS_MODEL_URL"],
        model_name="reader-1",
        model_key=SecretStr("sk-1"),
        gateway_key_block="gateway-key",
    )
    found = stack_environment.run_environment(settings, given)
    assert found["REFUNDS_MODEL_NAME"] == "reader-1"
    assert found["REFUNDS_GATEWAY_KEY_BLOCK"] == "gateway-key"
    assert "sk-1" not in found.values()


def test_the_sandbox_gets_its_secret_where_nobody_else_reads_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, webhook_secret=SecretStr("whsec_planted"))
    role = stack_roles.sandbox(settings)
    assert "whsec_planted" not in " ".join(role.command)
    assert role.environment["SANDBOX_WEBHOOK_SECRET"] == "whsec_planted"


def test_idle_means_that_only_people_can_go_on() -> None:
    assert is_idle({"completed": 3, "awaiting_approval": 1, "needs_attention": 1, "paying": 0})
    assert not is_idle({"completed": 3, "settling": 1})


def test_the_sample_is_made_of_requests_that_every_door_accepts() -> None:
    # The number that the data set's own page states.
    assert len(read_requests()) == 292


def test_the_first_start_makes_approvers_with_passwords_that_only_the_owner_reads(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path)
    migrate(settings.ledger_database_url)
    made = stack_people.make(settings)
    ledger = open_ledger(settings.ledger_database_url)
    assert set(made) == set(stack_people.NAMES)
    assert all(accounts.check_password(ledger, name, made[name]) for name in made)
    assert len(set(made.values())) == len(made)
    assert stack_people.passwords_file(settings).stat().st_mode & 0o777 == 0o600
    assert stack_people.read(settings) == made
    assert people.listed(ledger) == []
    assert stack_people.make(settings) == {}


def test_passwords_that_were_taken_away_are_not_made_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    migrate(settings.ledger_database_url)
    accounts.set_password(open_ledger(settings.ledger_database_url), "ann", "chosen by a person")
    assert stack_people.make(settings) == {}
    assert not stack_people.passwords_file(settings).exists()


def test_a_process_that_dies_of_itself_again_and_again_is_given_up() -> None:
    restarts = Restarts()
    pauses = [restarts.pause_seconds(1, now=10.0 * number) for number in range(5)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, None]


def test_one_that_dies_of_itself_now_and_then_is_not() -> None:
    restarts = Restarts()
    assert {restarts.pause_seconds(1, now=90.0 * number) for number in range(9)} == {0.5}


def test_one_that_somebody_kills_is_started_again_at_once() -> None:
    restarts = Restarts()
    assert {restarts.pause_seconds(-9, now=float(number)) for number in range(5)} == {0.5}
    assert restarts.advice == ""


def test_one_that_is_killed_again_and_again_is_started_ever_later_and_never_given_up() -> None:
    restarts, now = Restarts(), 0.0
    pauses = []
    for _ in range(60):
        pause = restarts.pause_seconds(-9, now)
        assert pause is not None
        pauses.append(pause)
        # It lives for five seconds, in which it fills the memory.
        now += pause + 5.0
    assert pauses[:12] == [0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert set(pauses[12:]) == {30.0}
    assert "killed 60 times in a row" in restarts.advice
    assert "the next try is in 30 s" in restarts.advice


def test_one_that_has_lived_for_a_while_is_started_again_at_once() -> None:
    restarts = Restarts()
    for number in range(9):
        restarts.pause_seconds(-9, now=float(number))
    assert restarts.pause_seconds(-9, now=100.0) == 0.5
    assert restarts.advice == ""


def test_a_batch_under_way_is_told_when_it_gets_on_and_only_then() -> None:
    """Prefect's answers one after the other: away, an old night, then two steps of a new one."""
    old = _progress("night-2026-11-24-progress", 100, "2026-11-24T02:00:00Z")
    new = [
        [old, _progress("night-2026-11-25-progress", percent, "2100-01-01T00:00:00Z")]
        for percent in (0, 50, 50)
    ]
    answers = iter([httpx.Response(503), httpx.Response(200, json=[old])])
    rest = iter(httpx.Response(200, json=found) for found in new)
    said: list[str] = []

    async def told() -> None:
        transport = httpx.MockTransport(lambda _: next(answers, None) or next(rest))
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await stack_nights.tell(Settings(), client, said.append, look_seconds=0)

    asyncio.run(told())
    assert said == ["so far (0 %)", "so far (50 %)"]


def _progress(key: str, percent: float, updated: str) -> dict[str, object]:
    return {"key": key, "data": percent, "description": "so far", "updated": updated}
