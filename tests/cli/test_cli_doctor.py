"""`refunds doctor` names what is wrong with the set-up, and the remedy."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are one more package to pin

from deployments.stack_environment import PROJECT
from refunds import prompt
from refunds.doctor import prefect_api
from refunds.errors import BadInput
from refunds.ledger import open_ledger, outages
from refunds.settings import settings
from tasks import http
from tests.cli.cli_world import World, run
from tests.tasks.fakes import FakeZendesk
from tests.tasks.model_server import ModelServer, Said


def _findings() -> dict[str, dict[str, Any]]:
    ran = run("doctor", "--json")
    found = {record["name"]: record for record in ran.records}
    assert ran.status == (0 if all(record["is_well"] for record in found.values()) else 1)
    assert all(record["remedy"] for record in found.values() if not record["is_well"])
    return found


def test_each_deployment_that_set_up_makes_is_looked_for() -> None:
    listed = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    made = {f"{each['entrypoint'].rpartition(':')[2]}/{each['name']}" for each in listed}
    assert set(prefect_api._DEPLOYMENTS) == made


def test_what_is_well_without_prefect_is_well(world: World) -> None:
    found = _findings()
    assert {name for name, record in found.items() if not record["is_well"]} == {
        *("Prefect API", "blocks", "work pool", "deployments", "card blocks"),
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


@pytest.mark.parametrize(("key", "is_well"), [("a@b.c/token:zk", True), ("wrong", False)])
def test_a_product_that_can_be_asked_is_asked_with_the_key(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str, is_well: bool
) -> None:
    zendesk = FakeZendesk()
    monkeypatch.setattr(http, "_pool", lambda *_: zendesk)
    monkeypatch.setenv("REFUNDS_CRM_URL", "https://crm.test")
    monkeypatch.setenv("REFUNDS_CRM_ADAPTER", "zendesk")
    monkeypatch.setenv("REFUNDS_CRM_KEY", key)
    settings.cache_clear()
    finding = _findings()["crm"]
    assert finding["is_well"] is is_well
    assert zendesk.made == []
    if not is_well:
        assert finding["remedy"] == "set REFUNDS_CRM_URL and REFUNDS_CRM_KEY"


@pytest.fixture
def model_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer().running() as server:
        monkeypatch.setenv("REFUNDS_MODEL_URL", server.url)
        monkeypatch.setenv("REFUNDS_MODEL_NAME", "reader-1")
        monkeypatch.setenv("REFUNDS_MODEL_KEY", "sk-model-4711")
        settings.cache_clear()
        yield server


def test_a_model_that_answers_in_our_form_is_well(model_server: ModelServer) -> None:
    finding = _findings()["model"]
    assert finding["is_well"]
    assert finding["seen"].endswith(f"reader-1, answers with prompt {prompt.VERSION}")
    assert model_server.keys == ["Bearer sk-model-4711"]


def test_a_model_that_gives_no_opinion_is_named_without_its_key(model_server: ModelServer) -> None:
    model_server.behave = lambda _: Said.json({"error": {"message": "sk-model-4711?"}}, 401)
    finding = _findings()["model"]
    assert finding["seen"].endswith("reader-1: it does not take the key (401)")
    assert "REFUNDS_MODEL_URL" in finding["remedy"]
    assert "sk-model-4711" not in str(_findings())


def test_a_model_without_a_name_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUNDS_MODEL_URL", "https://model.example/v1")
    monkeypatch.setenv("REFUNDS_GATEWAY_KEY", "sk_live_planted")
    settings.cache_clear()
    found = _findings()
    assert found["settings"]["seen"] == (
        "settings are wrong: REFUNDS_MODEL_URL is set: name the model in REFUNDS_MODEL_NAME"
    )
    with pytest.raises(BadInput) as refusal:
        settings()
    assert "sk_live_planted" not in "".join(traceback.format_exception(refusal.value))


def test_an_address_is_shown_without_what_may_be_secret_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REFUNDS_NOTICES_URL", "http://user:hunter22@127.0.0.1:9/hook/tok_9?k=v_8")
    settings.cache_clear()
    finding = _findings()["notices"]
    assert finding["seen"] == "http://127.0.0.1:9 does not answer (ConnectError)"
    assert not any(part in str(finding) for part in ("hunter22", "tok_9", "v_8"))


@pytest.mark.parametrize("name", ["gateway_key", "webhook_secret"])
def test_a_secret_block_that_cannot_be_read_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"REFUNDS_{name.upper()}_BLOCK", "somewhere")
    settings.cache_clear()
    finding = _findings()["gateway" if name == "gateway_key" else "webhook secret"]
    assert not finding["is_well"]
    assert finding["remedy"] == (
        f"make the block in the Prefect UI, or set REFUNDS_{name.upper()} without one"
    )
