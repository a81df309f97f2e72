"""`refunds verify` finds each kind of damage and names it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import httpx
import pytest

from refunds.ledger import effects, migrate
from refunds.ledger.engine import dispose_engines
from refunds.models import Outcome, Verdict
from refunds.settings import settings
from sandbox.process import SandboxProcess
from sandbox.testing import AUTHORIZATION
from tasks import books
from tests.cli.cli_world import World, run
from tests.house import services


@pytest.fixture
def paid(world: World) -> World:
    """One refund paid by the rules, one after a person approved it."""
    world.pay(1)
    world.pay(2, Verdict.REVIEW)
    return world


def test_a_ledger_that_agrees_with_the_gateway_is_well(paid: World) -> None:
    ran = run("verify")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("all is well: 2 refunds, ")
    assert "paid $200.00" in ran.out


def test_the_counts_are_one_json_object(paid: World) -> None:
    ran = run("verify", "--json")
    assert ran.status == 0
    assert ran.records[-1] | {"events": 0} == {
        "problems": 0,
        "refunds": 2,
        "events": 0,
        "effects": 2,
        "charges": 2,
        "gateway_refunds": 2,
        "paid_minor": {"USD": 20_000},
        "settled_by_people": 0,
    }


_DAMAGES = {
    "an event was changed": (
        "UPDATE history SET data = '{}' WHERE refund_id = 'rf_1' AND sequence = 2",
        "rf_1: its history does not verify: rf_1 event 2 was changed after it was written",
    ),
    "an event holds a number that was never written": (
        "UPDATE history SET data = '{\"a\": 1.5}' WHERE refund_id = 'rf_1' AND sequence = 2",
        "rf_1: its history does not verify",
    ),
    "an event is unreadable": (
        "UPDATE history SET data = 'no' WHERE refund_id = 'rf_1' AND sequence = 2",
        "rf_1: an entry cannot be read",
    ),
    "an event was taken out": (
        "DELETE FROM history WHERE refund_id = 'rf_1' AND sequence = 2",
        "rf_1: its history does not verify: rf_1 event 2 is missing",
    ),
    "the last event was taken out": (
        (
            "DELETE FROM history WHERE refund_id = 'rf_1' AND sequence ="
            " (SELECT max(sequence) FROM history WHERE refund_id = 'rf_1')"
        ),
        "rf_1: its history ends with event",
    ),
    "the whole history is gone": (
        "DELETE FROM history WHERE refund_id = 'rf_1'",
        "rf_1: its history ends with event 0",
    ),
    "a refund is gone": (
        "DELETE FROM refunds WHERE refund_id = 'rf_1'",
        "rf_1: its entry in the ledger is gone",
    ),
    "an amount was changed": (
        "UPDATE refunds SET amount_minor = 9000 WHERE refund_id = 'rf_1'",
        "rf_1: the ledger's entry is not what was asked: ['amount_minor']",
    ),
    "a request was changed": (
        (
            "UPDATE refunds SET request = json_set(request, '$.refund_to', 'mine')"
            " WHERE refund_id = 'rf_1'"
        ),
        "rf_1: the ledger's request is ",
    ),
    "an outcome was changed": (
        "UPDATE refunds SET outcome = 'REJECTED' WHERE refund_id = 'rf_1'",
        "rf_1: the ledger's outcome is 'REJECTED', its history says 'PAID'",
    ),
    "a verdict was changed": (
        "UPDATE refunds SET verdict = 'APPROVE' WHERE refund_id = 'rf_2'",
        "rf_2: the ledger's verdict is 'APPROVE', its history says 'REVIEW'",
    ),
    "a charge's reserved amount was changed": (
        "UPDATE charges SET refunded_minor = 9000, reserved_minor = 1000 WHERE charge_id = 'ch_W1'",
        "charge ch_W1: 1000 is reserved, and the reservations come to 0",
    ),
    "a charge's refunded amount was changed": (
        "UPDATE charges SET refunded_minor = 9999 WHERE charge_id = 'ch_W1'",
        "charge ch_W1: 9999 is refunded, and the refunds come to 10000",
    ),
    "a reservation was released": (
        "UPDATE reservations SET state = 'released' WHERE refund_id = 'rf_1'",
        "rf_1: its money is released, and should be refunded",
    ),
    "a reservation's amount was changed": (
        "UPDATE reservations SET amount_minor = 1 WHERE refund_id = 'rf_1'",
        "rf_1: 1 is reserved for 10000",
    ),
    "an effect is gone": (
        "DELETE FROM effects WHERE refund_id = 'rf_1'",
        "rf_1: rf_1:issue_refund was intended, and the ledger has no such effect",
    ),
    "an effect was forgotten": (
        "UPDATE effects SET state = 'unknown' WHERE refund_id = 'rf_1'",
        "rf_1: rf_1:issue_refund is unknown in the ledger, its history says succeeded",
    ),
    "an effect's request was changed": (
        "UPDATE effects SET request = json_set(request, '$.amount', '1') WHERE refund_id = 'rf_1'",
        "rf_1: rf_1:issue_refund was intended with another request than the ledger has",
    ),
    "an effect was never intended": (
        (
            "INSERT INTO effects SELECT 'rf_1:sync_crm', refund_id, 'sync_crm', 'crm', request,"
            " request_digest, 'succeeded', response, detail, 1, fence, first_sent_at, updated_at,"
            " attempt FROM effects WHERE refund_id = 'rf_1'"
        ),
        "rf_1: rf_1:sync_crm is succeeded, and was never intended",
    ),
    "a second effect pays": (
        (
            "INSERT INTO effects SELECT 'rf_1:issue_refund:2', refund_id, step, system, request,"
            " request_digest, state, response, detail, 1, fence, first_sent_at, updated_at,"
            " attempt FROM effects WHERE refund_id = 'rf_1'"
        ),
        "rf_1: it is paid by more than one effect",
    ),
    "an approval is gone": (
        "DELETE FROM approvals WHERE refund_id = 'rf_2'",
        "rf_2: it was sent to be paid, and nobody's approval of it is in the ledger",
    ),
    "an approval was reopened": (
        "UPDATE approvals SET status = 'open' WHERE refund_id = 'rf_2'",
        "rf_2: it was sent to be paid, and nobody's approval of it is in the ledger",
    ),
    "what was approved was changed": (
        "UPDATE approvals SET facts = json_set(facts, '$.reason', 'x') WHERE refund_id = 'rf_2'",
        "rf_2: what was approved has another digest than what is in the ledger",
    ),
    "a decision is gone": (
        "DELETE FROM decisions",
        "rf_2: it was approved by 0 people, and needed more",
    ),
    "the gateway's answer was changed": (
        "UPDATE effects SET response = '{\"id\": \"re_other\"}' WHERE refund_id = 'rf_1'",
        "rf_1: the ledger has it paid as re_other, the gateway as re_",
    ),
}


@pytest.fixture(scope="module")
def sound_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """As `paid`, made once; its ledger is to be copied."""
    home = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch, SandboxProcess(home / "sandbox") as process:
        patch.setenv("REFUNDS_HOME", str(home))
        settings.cache_clear()
        world = World(process)
        world.load(1, 2)
        world.pay(1)
        world.pay(2, Verdict.REVIEW)
        # Its write-ahead log is folded into the file.
        dispose_engines()
        yield world


@pytest.fixture
def copied(sound_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose ledger may be damaged."""
    sandbox = sound_world.process
    monkeypatch.setenv("REFUNDS_GATEWAY_URL", f"{sandbox.url}/gateway")
    monkeypatch.setenv("REFUNDS_SHOP_URL", f"sqlite:///{sandbox.shop_database}")
    settings.cache_clear()
    settings().home_dir.mkdir(parents=True)
    shutil.copy(sandbox.home.parent / "ledger.db", settings().home_dir / "ledger.db")
    return sound_world


def test_the_world_that_is_damaged_below_was_sound(copied: World) -> None:
    assert run("verify").status == 0


@pytest.mark.parametrize("damage", _DAMAGES)
def test_damage_is_named(copied: World, damage: str) -> None:
    statement, sentence = _DAMAGES[damage]
    copied.tamper(statement)
    ran = run("verify")
    assert ran.status == 1
    assert sentence in ran.out
    assert not [line for line in ran.out.splitlines() if "rf_1" in line and "rf_2" in line]


def test_each_problem_is_one_json_object(paid: World) -> None:
    paid.tamper("UPDATE refunds SET outcome = 'REJECTED' WHERE refund_id = 'rf_1'")
    ran = run("verify", "--json")
    assert ran.status == 1
    *problems, counts = ran.records
    assert [list(problem) for problem in problems] == [["problem"]] * counts["problems"]


def test_a_payment_that_the_gateway_does_not_have_is_named(world: World) -> None:
    world.pay(1, reference="re_never")
    ran = run("verify")
    assert ran.status == 1
    assert "rf_1: the ledger has it paid, and the gateway has no such refund" in ran.out


def test_a_refund_paid_twice_at_the_gateway_is_named(world: World) -> None:
    world.load(4, paid_minor=30_000)
    world.pay(4)
    world.at_gateway(4, key="again")
    ran = run("verify")
    assert ran.status == 1
    assert "rf_4: the gateway paid it 2 times: re_" in ran.out


def test_another_amount_at_the_gateway_is_named(world: World) -> None:
    world.pay(1, reference=world.at_gateway(1, amount_minor=9_999))
    ran = run("verify")
    assert ran.status == 1
    assert "of 9999 USD (succeeded), the ledger 10000 USD" in ran.out


def test_a_payment_without_a_request_is_named(world: World) -> None:
    world.at_gateway(3)
    ran = run("verify")
    assert ran.status == 1
    assert "rf_3: the gateway has re_" in ran.out
    assert "and the ledger does not know this refund" in ran.out


def test_a_payment_of_a_refund_that_was_never_sent_is_named(world: World) -> None:
    case, fence = world.begin(1, Verdict.REJECT)
    world.conclude(case, fence, Outcome.REJECTED)
    world.at_gateway(1)
    ran = run("verify")
    assert ran.status == 1
    assert "and the ledger has never sent to be paid" in ran.out


def test_a_refund_that_the_gateway_failed_afterwards_is_named(paid: World) -> None:
    url = f"{paid.process.url}/gateway/v1/refunds?limit=1"
    newest = httpx.get(url, headers=AUTHORIZATION).json()["data"][0]
    settled = {"refund": newest["id"], "status": "failed"}
    httpx.put(f"{paid.process.url}/gateway/settle", json=settled).raise_for_status()
    ran = run("verify")
    assert ran.status == 1
    assert "rf_2: the ledger has it paid, and the gateway has no such refund" in ran.out


def test_a_refund_made_by_hand_at_the_gateway_is_named(world: World) -> None:
    world.load(4, paid_minor=30_000)
    world.pay(4)
    url = f"{world.process.url}/gateway/v1/refunds"
    form = {"charge": "ch_W4", "amount": "500"}
    httpx.post(url, data=form, headers=AUTHORIZATION).raise_for_status()
    ran = run("verify")
    assert ran.status == 1
    assert "charge ch_W4: the gateway has re_" in ran.out
    assert "which the ledger does not know" in ran.out


def test_payments_under_a_reject_are_named(world: World) -> None:
    world.pay(1, Verdict.REJECT)
    ran = run("verify")
    assert ran.status == 1
    assert "rf_1: it was sent to be paid under the verdict REJECT" in ran.out


def test_refunds_from_before_we_came_are_no_damage(world: World) -> None:
    world.load(4, paid_minor=30_000, refunded_minor=5_000)
    world.pay(4)
    assert run("verify").status == 0


def test_a_payment_whose_ending_is_unknown_is_no_damage(world: World) -> None:
    case, fence = world.begin(1)
    key = world.send(case, fence)
    assert run("verify").status == 0
    world.at_gateway(1)
    effects.record(books.ledger(), "rf_1", key, "unknown", detail="no answer", fence=fence)
    assert run("verify").status == 0


def test_a_refused_payment_is_no_damage(world: World) -> None:
    case, fence = world.begin(1)
    key = world.send(case, fence)
    effects.record(books.ledger(), "rf_1", key, "refused", detail="declined", fence=fence)
    world.conclude(case, fence, Outcome.FAILED)
    assert run("verify").status == 0


def test_a_payment_that_came_back_and_is_known_is_no_damage(paid: World) -> None:
    url = f"{paid.process.url}/gateway/v1/refunds?limit=1"
    newest = httpx.get(url, headers=AUTHORIZATION).json()["data"][0]
    settled = {"refund": newest["id"], "status": "failed"}
    httpx.put(f"{paid.process.url}/gateway/settle", json=settled).raise_for_status()
    effects.payment_came_back(books.ledger(), "rf_2", "the account is closed")
    assert run("verify").status == 0


def test_more_refunds_than_are_read_at_once_are_all_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refunds.verify.dossiers._REFUNDS_AT_ONCE", 1)
    for number in (1, 2, 3):
        world.pay(number)
    assert run("verify", "--json").records[-1]["refunds"] == 3
    world.tamper("UPDATE history SET data = 'no' WHERE refund_id = 'rf_2' AND sequence = 2")
    ran = run("verify")
    assert "rf_2: an entry cannot be read" in ran.out


@pytest.mark.postgresql
def test_a_ledger_on_postgresql_is_checked_in_the_same_way(
    world: World, postgresql_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services.fresh_database(postgresql_server) as url:
        monkeypatch.setenv("REFUNDS_LEDGER_URL", url)
        settings.cache_clear()
        migrate(url)
        world.pay(1)
        world.pay(2, Verdict.REVIEW)
        assert run("verify").status == 0
        with books.ledger().writing() as connection:
            connection.exec_driver_sql("ALTER TABLE history DISABLE TRIGGER ALL")
            connection.exec_driver_sql("DELETE FROM history WHERE sequence = 2")
        ran = run("verify")
        assert ran.status == 1
        assert "rf_1 event 2 is missing" in ran.out
        assert "✗ history's guard: missing: history_append_only" in run("doctor").out
        dispose_engines()


def test_without_a_gateway_it_says_what_to_start() -> None:
    ran = run("verify")
    assert ran.status == 1
    assert ran.err.startswith("refunds: gateway: not reachable")
    assert "`refunds up`" in ran.err
