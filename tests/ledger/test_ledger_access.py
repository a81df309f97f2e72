"""Who may knock: passwords, sessions, keys and rates, as the ledger keeps them."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from refunds.errors import BadInput
from refunds.ledger.access import accounts, api_keys, rates, schema, sessions
from refunds.ledger.access.rates import Rate
from refunds.origin import Origin
from refunds.scopes import Scope
from tests.ledger.ledger_desk import Desk

PASSWORD = "correct horse battery"
HERE = Origin(channel="service", ip="192.0.2.7", user_agent="Firefox")


def rows(desk: Desk, table: sa.Table) -> list[dict[str, Any]]:
    with desk.ledger.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def test_a_password_is_kept_as_what_it_is_checked_against(desk: Desk) -> None:
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    assert accounts.check_password(desk.ledger, "ann", PASSWORD)
    assert not accounts.check_password(desk.ledger, "ann", PASSWORD + "x")
    assert not accounts.check_password(desk.ledger, "nobody", PASSWORD)
    assert PASSWORD not in str(rows(desk, schema.accounts))


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_a_password_that_is_too_short_or_too_long_is_refused(desk: Desk, password: str) -> None:
    with pytest.raises(BadInput, match="12 to 256 characters"):
        accounts.set_password(desk.ledger, "ann_1", password)
    assert not accounts.has_password(desk.ledger, "ann_1")


def test_a_new_password_ends_the_old_one_and_every_session(desk: Desk) -> None:
    accounts.set_password(desk.ledger, "bob", PASSWORD)
    token = sessions.open_session(desk.ledger, "bob", "password", HERE)
    accounts.set_password(desk.ledger, "bob", PASSWORD + "2")
    assert not accounts.check_password(desk.ledger, "bob", PASSWORD)
    assert sessions.find(desk.ledger, token) is None


def test_an_identity_is_whoever_it_was_linked_to_last_until_they_are_forgotten(desk: Desk) -> None:
    issuer = "https://id.example"
    assert accounts.linked(desk.ledger, issuer, "42") is None
    accounts.link(desk.ledger, issuer, "42", "cy")
    accounts.link(desk.ledger, issuer, "42", "dee")
    assert accounts.linked(desk.ledger, issuer, "42") == "dee"
    assert accounts.linked(desk.ledger, "https://other.example", "42") is None
    accounts.forget(desk.ledger, "dee")
    assert accounts.linked(desk.ledger, issuer, "42") is None


def test_a_sessions_token_is_not_in_the_ledger(desk: Desk) -> None:
    token = sessions.open_session(desk.ledger, "eve", "password", HERE)
    session = sessions.find(desk.ledger, token)
    assert session is not None
    assert session.person_id == "eve"
    assert token not in str(rows(desk, schema.sessions))


def test_signing_in_again_ends_the_session_that_the_browser_had(desk: Desk) -> None:
    planted = sessions.open_session(desk.ledger, "mallory", "password", HERE)
    own = sessions.open_session(desk.ledger, "fay", "password", HERE, replaces=planted)
    assert sessions.find(desk.ledger, planted) is None
    assert own != planted


@pytest.mark.parametrize(
    ("hours", "uses", "lives"),
    [(0.9, 0, True), (1.1, 0, False), (11.5, 20, True), (12.1, 20, False)],
)
def test_a_session_ends_after_an_idle_hour_or_a_working_day(
    desk: Desk, hours: float, uses: int, lives: bool
) -> None:
    token = sessions.open_session(desk.ledger, "gil", "password", HERE)
    for _ in range(uses):
        desk.clock.advance(hours * 3600 / (uses + 1))
        sessions.find(desk.ledger, token)
    desk.clock.advance(hours * 3600 / (uses + 1))
    assert (sessions.find(desk.ledger, token) is not None) == lives


def test_sessions_that_are_over_are_dropped_and_others_stay(desk: Desk) -> None:
    old = sessions.open_session(desk.ledger, "hal", "password", HERE)
    desk.clock.advance(1.1 * 3600)
    new = sessions.open_session(desk.ledger, "ida", "password", HERE)
    assert len(rows(desk, schema.sessions)) >= 2
    assert sessions.forget_dead(desk.ledger) >= 1
    assert sessions.forget_dead(desk.ledger) == 0
    assert sessions.find(desk.ledger, old) is None
    assert sessions.find(desk.ledger, new) is not None


def test_a_key_is_shown_once_and_kept_as_a_digest(desk: Desk) -> None:
    text = api_keys.create(desk.ledger, "shop", [Scope.READ, Scope.WRITE])
    key = api_keys.find(desk.ledger, text)
    assert key is not None
    assert (key.name, sorted(key.scopes)) == ("shop", ["refunds:read", "refunds:write"])
    # The secret itself may hold underscores.
    secret = text.split("_", 2)[2]
    assert secret not in str(rows(desk, schema.api_keys))
    assert all("secret" not in str(listed) for listed in api_keys.listed(desk.ledger))


@pytest.mark.parametrize("changed", ["", "rfk", "rfk_", "rfk__", "{}x", "x{}", "{}_", "\x00{}"])
def test_no_other_text_is_a_key(desk: Desk, changed: str) -> None:
    text = api_keys.create(desk.ledger, "shop", [Scope.READ])
    assert api_keys.find(desk.ledger, changed.format(text)) is None


def test_a_key_ends_when_it_is_revoked_and_when_its_time_is_over(desk: Desk) -> None:
    tomorrow = desk.clock() + timedelta(days=1)
    short = api_keys.create(desk.ledger, "short", [Scope.READ], expires_at=tomorrow)
    revoked = api_keys.create(desk.ledger, "revoked", [Scope.READ])
    for _ in range(2):
        api_keys.revoke(desk.ledger, revoked.split("_")[1])
    assert api_keys.find(desk.ledger, revoked) is None
    assert api_keys.find(desk.ledger, short) is not None
    desk.clock.advance(86_400)
    assert api_keys.find(desk.ledger, short) is None
    with pytest.raises(BadInput, match="refunds keys list"):
        api_keys.revoke(desk.ledger, "absent")


def test_a_key_that_decides_belongs_to_a_person_and_no_other_does(desk: Desk) -> None:
    with pytest.raises(BadInput, match="--person"):
        api_keys.create(desk.ledger, "bot", [Scope.DECIDE])
    with pytest.raises(BadInput, match="--person"):
        api_keys.create(desk.ledger, "bot", [Scope.READ], person_id="ann")
    key = api_keys.find(
        desk.ledger, api_keys.create(desk.ledger, "bot", [Scope.DECIDE], person_id="ann")
    )
    assert key is not None
    assert key.person_id == "ann"


def test_a_bucket_gives_its_burst_and_then_one_at_a_time(desk: Desk) -> None:
    rate = Rate(burst=3, every=timedelta(seconds=10))
    assert [rates.take(desk.ledger, "ann", rate) for _ in range(3)] == [None] * 3
    assert rates.take(desk.ledger, "ann", rate) == timedelta(seconds=10)
    assert rates.take(desk.ledger, "bob", rate) is None
    desk.clock.advance(10)
    assert rates.take(desk.ledger, "ann", rate) is None
    assert rates.take(desk.ledger, "ann", rate) == timedelta(seconds=10)
    desk.clock.advance(30)
    assert rates.forget_full(desk.ledger) >= 1
    assert [row for row in rows(desk, schema.buckets) if row["full_at"] <= desk.clock()] == []
    assert [rates.take(desk.ledger, "ann", rate) for _ in range(4)].count(None) == 3


def test_a_refused_knock_takes_nothing_from_the_bucket(desk: Desk) -> None:
    rate = Rate(burst=2, every=timedelta(seconds=10))
    assert rates.take(desk.ledger, "cy", rate, count=2) is None
    for _ in range(5):
        assert rates.take(desk.ledger, "cy", rate) == timedelta(seconds=10)
