"""`refunds keys` and `refunds accounts`: what opens the service's doors."""

from __future__ import annotations

from refunds.ledger import migrate, open_ledger
from refunds.ledger.access import accounts, api_keys
from refunds.settings import settings
from tests.cli.cli_world import run


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked() -> None:
    created = run("keys", "create", "shop", "--scope", "refunds:read", "--days", "30", "--json")
    [record] = created.records
    ledger = open_ledger(settings().ledger_database_url)
    key = api_keys.find(ledger, record["key"])
    assert key is not None
    assert key.name == "shop"
    listed = run("keys", "list", "--json")
    assert record["key"].rpartition("_")[2] not in listed.out
    assert listed.records[0]["expires_at"] is not None
    assert run("keys", "revoke", key.key_id).status == 0
    assert api_keys.find(ledger, record["key"]) is None


def test_a_key_that_decides_needs_its_person() -> None:
    refused = run("keys", "create", "bot", "--scope", "decisions:write")
    assert refused.status == 2
    assert "--person" in refused.err
    assert run("keys", "create", "bot", "--scope", "decisions:write", "--person", "ann").status == 0


def test_an_unknown_key_and_an_unknown_scope_are_bad_input() -> None:
    assert run("keys", "revoke", "absent").status == 2
    assert run("keys", "create", "shop", "--scope", "refunds:everything").status == 2


def test_a_password_is_read_from_standard_input_and_taken_away_again() -> None:
    assert run("accounts", "password", "ann", given="correct horse battery\n").status == 0
    migrate(settings().ledger_database_url)
    ledger = open_ledger(settings().ledger_database_url)
    assert accounts.check_password(ledger, "ann", "correct horse battery")
    assert run("accounts", "link", "ann", "https://id.example", "42").status == 0
    assert accounts.linked(ledger, "https://id.example", "42") == "ann"
    assert run("accounts", "forget", "ann").status == 0
    assert not accounts.has_password(ledger, "ann")
    assert accounts.linked(ledger, "https://id.example", "42") is None


def test_a_short_password_is_refused() -> None:
    refused = run("accounts", "password", "ann", given="short\n")
    assert (refused.status, "12 to 256 characters" in refused.err) == (2, True)
