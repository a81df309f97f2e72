"""`refunds doctor` names what is wrong with the set-up, and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refunds.ledger import open_ledger, outages
from refunds.settings import settings
from tests.cli.cli_world import World, run


def _findings() -> dict[str, dict[str, Any]]:
    ran = run("doctor", "--json")
    found = {record["name"]: record for record in ran.records}
    assert ran.status == (0 if all(record["is_well"] for record in found.values()) else 1)
    assert all(record["remedy"] for record in found.values() if not record["is_well"])
    return found


def test_what_is_well_without_prefect_is_well(world: World) -> None:
    found = _findings()
    assert {name for name, record in found.items() if not record["is_well"]} == {
        *("Prefect API", "blocks", "work pool", "deployments"),
    }
    assert "`refunds up`" in found["Prefect API"]["remedy"]


def test_people_see_a_tick_or_a_remedy_for_each_check(world: World) -> None:
    ran = run("doctor")
    assert ran.status == 1
    assert "✓ ledger: " in ran.out
    assert "✗ Prefect API: " in ran.out
    assert "\n    start it with `refunds up`" in ran.out


def test_an_empty_home_is_looked_at_without_making_a_ledger() -> None:
    found = _findings()
    assert not found["ledger"]["is_well"]
    assert not found["shop database"]["is_well"]
    assert not found["gateway"]["is_well"]
    assert not (settings().home_dir / "ledger.db").exists()


def test_a_history_without_its_guard_is_named(world: World) -> None:
    world.tamper()
    finding = _findings()["history's guard"]
    assert not finding["is_well"]
    assert finding["seen"] == "missing: history_no_delete, history_no_update"


def test_a_ledger_of_another_version_is_named(world: World) -> None:
    world.tamper("UPDATE alembic_version SET version_num = '9999'")
    finding = _findings()["ledger"]
    assert not finding["is_well"]
    assert "has schema 9999" in finding["seen"]


def test_a_wrong_setting_is_named_and_the_rest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUNDS_PORT", "eighty")
    settings.cache_clear()
    found = _findings()
    assert "REFUNDS_PORT" in found["settings"]["seen"]
    assert found["ledger"]["remedy"] == "mend the settings first"
    assert found["Python"]["is_well"]


def test_a_policy_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUNDS_POLICY", "absent.toml")
    settings.cache_clear()
    assert not _findings()["policy"]["is_well"]


def test_a_wrong_gateway_key_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUNDS_GATEWAY_KEY", "wrong")
    settings.cache_clear()
    finding = _findings()["gateway"]
    assert finding["seen"] == "it refuses the key (401)"
    assert finding["remedy"] == "set REFUNDS_GATEWAY_KEY"


def test_the_sandboxs_secret_is_not_for_another_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUNDS_GATEWAY_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    finding = _findings()["webhook secret"]
    assert not finding["is_well"]
    assert "REFUNDS_WEBHOOK_SECRET" in finding["remedy"]


def test_a_system_that_is_away_is_named_while_refunds_wait_for_it(world: World) -> None:
    ledger = open_ledger(settings().ledger_database_url)
    for refund_id in ("rf_1", "rf_2", "rf_3"):
        outages.found_away(ledger, "crm", refund_id, "it answered 503", (30,))
    finding = _findings()["outages"]
    assert not finding["is_well"]
    assert finding["seen"].startswith("crm is away since ")


def test_an_adapter_that_lacks_its_file_or_its_channel_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REFUNDS_COUPONS_ADAPTER", "mapped")
    settings.cache_clear()
    assert "REFUNDS_SYSTEMS_MAPPING" in _findings()["adapters"]["remedy"]
    file = tmp_path / "systems.toml"
    file.write_text("")
    monkeypatch.setenv("REFUNDS_SYSTEMS_MAPPING", str(file))
    settings.cache_clear()
    assert _findings()["adapters"]["seen"].endswith("has no coupons")
    monkeypatch.setenv("REFUNDS_COUPONS_ADAPTER", "plain")
    monkeypatch.setenv("REFUNDS_NOTICES_ADAPTER", "apprise")
    monkeypatch.setenv("REFUNDS_NOTICES_CHANNELS", '{"customer": "json://localhost"}')
    settings.cache_clear()
    assert "no channel for service, approver" in _findings()["adapters"]["seen"]
