"""`refunds settle` as scripts use it."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from refunds.ledger import effects, schema
from refunds.models import State
from tasks import books
from tests.cli.cli_world import World, run

KEY = "rf_1:issue_refund"
SAYS = ("--as", "lea", "--reason", "asked them", "--evidence", "their letter")


@pytest.fixture
def unknown(world: World) -> World:
    """A payment was sent a day ago, nobody knows how it ended, and the gateway does not have it."""
    case, fence = world.begin()
    key, ledger = world.send(case, fence), books.ledger()
    effects.record(ledger, "rf_1", key, "unknown", detail="no answer", fence=fence)
    with ledger.page("rf_1") as page:
        page.append("attention.needed", {"why": "nobody knows"})
        # Prefect knows runs by ids of its own.
        page.change(run_id=str(uuid.UUID(int=1)), lease_holder=None, lease_expires_at=None)
        page.change(attention="nobody knows")
        page.enter(State.NEEDS_ATTENTION)
    with ledger.writing() as connection:
        sent_at = schema.effects.c.first_sent_at
        long_ago = ledger.clock() - timedelta(hours=25)
        connection.execute(schema.effects.update().values({sent_at: long_ago}))
    return world


def test_it_is_shown_first_and_done_with_apply(unknown: World) -> None:
    shown = run("settle", "rf_1", "--paid", "wire 1", *SAYS)
    assert (shown.status, shown.err) == (0, "")
    assert "paid as wire 1" in shown.out
    assert "lea (1 of 1)" in shown.out
    assert "Nothing was done; --apply does it." in shown.out
    assert run("show", "rf_1", "--json").records[0]["effects"][0]["state"] == "unknown"
    done = run("settle", "rf_1", "--paid", "wire 1", *SAYS, "--apply", "--json")
    assert (done.status, done.records[0]["applied"]) == (0, True)
    [effect] = run("show", "rf_1", "--json").records[0]["effects"]
    assert (effect["state"], effect["response"]["id"]) == ("succeeded", "wire 1")
    assert run("verify").status == 0


def test_not_paid_says_how_to_go_on(unknown: World) -> None:
    done = run("settle", "rf_1", "--not-paid", *SAYS, "--apply")
    assert done.status == 0
    assert "`refunds resume` pays it anew, `refunds abandon` gives it up" in done.out
    assert run("verify").status == 0


def test_what_the_gateway_contradicts_is_refused_with_status_1(unknown: World) -> None:
    reference = unknown.at_gateway(1)
    shown = run("settle", "rf_1", "--not-paid", *SAYS)
    assert shown.status == 1
    assert f"the gateway has {reference} (succeeded)" in " ".join(shown.out.split())
    refused = run("settle", "rf_1", "--not-paid", *SAYS, "--apply")
    assert (refused.status, refused.out) == (1, "")
    assert f"the gateway has {reference} (succeeded)" in refused.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (SAYS, "--paid REFERENCE or --not-paid"),
        (("--paid", "x", "--not-paid", *SAYS), "--paid REFERENCE or --not-paid"),
        (("--paid", "", *SAYS), "reference must be one line"),
        (("--not-paid", "--as", "lea", "--apply"), "needs a reason and evidence"),
        (("--not-paid", "--as", "lea", "--evidence", "\x00"), "--evidence"),
    ],
)
def test_half_a_word_is_bad_input(unknown: World, words: tuple[str, ...], why: str) -> None:
    ran = run("settle", "rf_1", *words)
    assert (ran.status, ran.out) == (2, "")
    assert why in ran.err
