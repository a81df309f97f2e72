"""A secret is where it was put, and is cut out of what others repeat."""

import asyncio
import base64
import re

import pytest

from refunds.settings import Settings, settings
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


SECRETS = [
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
]


@pytest.mark.parametrize("name", SECRETS)
def test_whatever_setting_is_a_secret_is_cut_out(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    value = '{"customer": "planted9secret"}' if name == "notices_channels" else "planted9secret"
    monkeypatch.setenv(f"REFUNDS_{name.upper()}", value)
    settings.cache_clear()
    assert secrets.without_secrets("Bearer planted9secret, then") == "Bearer [secret], then"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("client9id:planted9secret", "planted9secret is wrong"),
        ("a@b.example/token:planted9secret", "token planted9secret"),
        ("whsec_planted9old, whsec_planted9secret", "not by whsec_planted9secret"),
        ("https://bot:planted9%40secret@chat.example/x", "planted9@secret"),
        ("https://bot:planted9%40secret@chat.example/x", "bot:planted9%40secret@chat"),
        ("u:planted9secret", f"Basic {base64.b64encode(b'u:planted9secret').decode()}"),
        ("planted9secret", f"Basic {base64.b64encode(b'client:planted9secret').decode()} and more"),
    ],
)
def test_a_secret_is_known_in_the_forms_in_which_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("REFUNDS_GATEWAY_KEY", value)
    settings.cache_clear()
    left = secrets.without_secrets(said)
    assert "[secret]" in left
    assert "planted9" not in left
    assert not re.search(r"Basic (?!\[secret\])", left)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"CRM_ADAPTER": "webhook", "CRM_URL": "https://hooks.example/T1/planted9path"},
            "Cannot POST /T1/planted9path; planted9path is not known",
        ),
        ({"COUPONS_URL": "https://bot:planted9word@coupons.example"}, "not with planted9word"),
    ],
)
def test_what_is_secret_in_an_address_is_cut_out(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"REFUNDS_{name}", value)
    settings.cache_clear()
    left = secrets.without_secrets(said)
    assert "[secret]" in left
    assert "planted9" not in left


def test_a_token_that_was_lent_to_us_is_cut_out() -> None:
    secrets.lent("A21AAplanted9token")
    assert secrets.without_secrets("A21AAplanted9token has expired") == "[secret] has expired"


def test_a_word_too_short_to_be_a_secret_stays() -> None:
    assert secrets.without_secrets("a short text, none of it secret") == (
        "a short text, none of it secret"
    )


def test_no_setting_shows_its_secret() -> None:
    assert "sk_live_planted" not in f"{settings()!r}{settings().model_dump()}"
