"""A secret is where it was put, and is cut out of what others repeat."""

import asyncio

import pytest

from refunds.settings import settings
from tasks import secrets


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUNDS_GATEWAY_KEY", "sk_live_planted")
    monkeypatch.setenv("REFUNDS_MODEL_KEY", "short")
    settings.cache_clear()
    secrets._kept.clear()


def test_without_a_block_the_environment_has_it() -> None:
    assert asyncio.run(secrets.secret("gateway_key")) == "sk_live_planted"


def test_a_known_secret_is_cut_out_of_a_foreign_text() -> None:
    said = "Bearer sk_live_planted is unknown (whsec_sandbox)"
    assert secrets.without_secrets(said) == "Bearer [secret] is unknown ([secret])"


def test_a_word_too_short_to_be_a_secret_stays() -> None:
    assert secrets.without_secrets("a short text, none of it secret") == (
        "a short text, none of it secret"
    )


def test_no_setting_shows_its_secret() -> None:
    assert "sk_live_planted" not in f"{settings()!r}{settings().model_dump()}"
