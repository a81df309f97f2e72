"""What docs/connect.md shows is what the program reads."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from refunds.settings import Settings, settings
from refunds.shop_mapping import Section
from refunds.systems_mapping import SystemsMapping
from tests.house.source import ROOT

TEXT = (ROOT / "docs" / "connect.md").read_text(encoding="utf-8")
TOML = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def test_the_mapping_of_the_systems_is_one() -> None:
    (text,) = (text for text in TOML if "[coupons]" in text)
    mapping = SystemsMapping.model_validate(tomllib.loads(text))
    assert mapping.coupons is not None
    assert mapping.coupons.undo.absent == (410,)
    assert mapping.labels is not None


def test_each_section_of_the_shops_mapping_is_one() -> None:
    (text,) = (text for text in TOML if "[orders]" in text)
    entries = tomllib.loads(text)
    assert entries.pop("amounts") == "decimal"
    for name, section in entries.items():
        assert Section.model_validate(section).table, name


@pytest.mark.parametrize("name", ["REFUNDS_LIMITS", "REFUNDS_NOTICES_CHANNELS"])
def test_what_is_set_by_a_variable_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (value,) = re.findall(rf"^{name}=(.*)$", TEXT, re.MULTILINE)
    json.loads(value)
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    assert getattr(settings(), name.removeprefix("REFUNDS_").lower())


def test_every_adapter_is_named() -> None:
    for name, field in Settings.model_fields.items():
        if name.endswith("_adapter"):
            for choice in field.annotation.__args__:  # type: ignore[union-attr]
                assert choice == "plain" or f"`{choice}`" in TEXT or f"={choice}" in TEXT


def test_the_example_that_it_links_to_is_there() -> None:
    assert Path(ROOT / "refunds" / "shop.toml").exists()
