"""Who may decide is kept by `refunds people`; who did what is written by `refunds audit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refunds.ledger import history
from refunds.models import Verdict
from refunds.settings import settings
from tests.cli.cli_world import World, run

ALICE = ("people", "add", "alice", "--name", "Alice", "--limit", "USD=50000", "--as", "root")


def test_a_person_is_registered_listed_limited_and_removed() -> None:
    added = run(*ALICE, "--json")
    assert (added.status, added.records[0]["limits"]) == (0, {"USD": 50_000})
    limited = run("people", "limit", "ALICE", "EUR=7_00", "--json").records
    assert limited[0]["limits"] == {"USD": 50_000, "EUR": 700}
    assert run("people", "remove", "alice", "--json").records[0]["is_active"] is False
    assert [person["person_id"] for person in run("people", "list", "--json").records] == ["alice"]
    assert "$500.00" in run("people", "list").out


def test_an_absence_has_an_end_and_a_delegate_and_can_be_ended() -> None:
    run(*ALICE)
    run("people", "add", "bob", "--role", "finance-leads")
    gone = run(
        *("people", "away", "alice", "--until", "2027-01-04T08:00", "--delegate", "bob"),
        *("--from", "2026-12-24", "--json"),
    )
    assert gone.records[0]["away_until"] == "2027-01-04T08:00:00Z"
    assert gone.records[0]["delegate_to"] == "bob"
    back = run("people", "away", "alice", "--back", "--json").records
    assert back[0]["delegate_to"] is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("add", "alice", "--limit", "USD"), "not a limit such as USD=500000"),
        (("add", "alice", "--limit", "usd=1"), "not a limit"),
        (("add", "alice", "--limit", "USD=1.50"), "not a limit"),
        (("add", "alice", "--limit", "USD=-1"), "not a limit"),
        (("add", "alice", "--limit", "USD=99999999999999999"), "limits.USD"),
        (("add", "a" * 65), "person_id"),
        (("limit", "nobody", "USD=1"), "nobody is registered as 'nobody'"),
        (("away", "alice", "--until", "2027-01-01"), "needs --until and --delegate"),
        (("away", "alice", "--until", "soon", "--delegate", "bob"), "not a time"),
        (("remove", "nobody"), "`refunds people list` shows everybody"),
    ],
)
def test_what_cannot_be_kept_of_a_person_is_refused(arguments: tuple[str, ...], named: str) -> None:
    ran = run("people", *arguments)
    assert ran.status == 2
    assert named in ran.err
    assert run("people", "list", "--json").out == ""


def test_an_empty_register_says_what_that_means() -> None:
    assert "a name counts as its door knows it" in run("people", "list").err


def test_a_registered_persons_limit_holds_on_the_command_line(world: World) -> None:
    case, fence = world.begin(1, Verdict.REVIEW)
    world.ask(case, fence)
    run("people", "add", "alice", "--limit", "USD=9999")
    refused = run("decide", "rf_1", "approve", "--as", "alice")
    assert (refused.status, "above the $99.99 that alice may approve" in refused.err) == (1, True)
    run("people", "limit", "alice", "USD=10000")
    assert run("decide", "rf_1", "approve", "--as", "alice").status == 0


def test_a_delegate_decides_for_who_is_away_and_the_page_says_so(world: World) -> None:
    case, fence = world.begin(1, Verdict.REVIEW)
    world.ask(case, fence)
    for name in ("alice", "bob"):
        run("people", "add", name, "--limit", "USD=10000")
    assert run("decide", "rf_1", "approve", "--as", "bob", "--for", "alice").status == 1
    run("people", "away", "alice", "--until", "2099-01-01", "--delegate", "bob")
    shown = run("decide", "rf_1", "approve", "--as", "bob", "--for", "alice")
    assert (shown.status, "bob for alice: APPROVED" in shown.out) == (0, True)


def test_the_audit_trail_is_exported_whole_with_each_events_digest(
    world: World, tmp_path: Path
) -> None:
    world.pay(1)
    world.pay(2)
    run(*ALICE)
    file = tmp_path / "audit.jsonl"
    ran = run("audit", "export", "--out", str(file))
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert f"{len(events)} events written" in ran.err
    for refund_id in ("rf_1", "rf_2"):
        history.check([event for event in events if event["refund_id"] == refund_id])
    (change,) = [event for event in events if event["refund_id"] is None]
    assert (change["event"], change["data"]["by"]) == ("person.added", "root")
    assert run("audit", "export", "--json").records == events
    assert list(tmp_path.glob("*.part")) == []


def test_an_export_from_a_time_on_holds_only_what_came_after(world: World) -> None:
    world.pay(1)
    assert run("audit", "export", "--since", "2099-01-01").out == ""
    assert len(run("audit", "export", "--since", "2020-01-01T00:00").records) > 5
    wrong = run("audit", "export", "--since", "yesterday")
    assert (wrong.status, "not a time such as" in wrong.err) == (2, True)


def test_an_export_that_cannot_be_written_leaves_nothing(world: World, tmp_path: Path) -> None:
    ran = run("audit", "export", "--out", str(tmp_path / "missing" / "audit.jsonl"))
    assert (ran.status, "No such file" in ran.err) == (1, True)
    assert settings().home_dir.exists()
