"""Each command does what the design's table says, and refuses what it cannot take."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from refunds.ledger import waits
from refunds.models import Verdict
from refunds.settings import settings
from sandbox.testing import customer_record, order_record
from tasks import books
from tests.cli.cli_world import World, request, run, write_lines
from tests.tasks.model_server import ModelServer, Said


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Three requests."""
    return write_lines(tmp_path / "requests.jsonl", *(request(number) for number in (1, 2, 3)))


# --- submit, assess ---


def test_submit_prints_one_object_for_each_request(world: World, file: str) -> None:
    ran = run("submit", file, "--json")
    assert ran.status == 0
    assert ran.records == [
        {"refund_id": f"rf_{number}", "run_id": None, "state": "received"} for number in (1, 2, 3)
    ]
    assert "3 of 3 are safe in the ledger without a run" in ran.err


def test_submitting_again_changes_nothing(world: World, file: str) -> None:
    first = run("submit", file, "--json")
    history = run("history", "rf_1", "--json").out
    assert run("submit", file, "--json").out == first.out
    assert run("history", "rf_1", "--json").out == history


def test_submit_reads_standard_input(world: World) -> None:
    ran = run("submit", "-", "--json", given=json.dumps(request()))
    assert [record["refund_id"] for record in ran.records] == ["rf_1"]


def test_the_flag_for_json_may_stand_before_the_command(world: World, file: str) -> None:
    assert len(run("--json", "submit", file).records) == 3


def test_what_is_left_to_the_night_is_not_missed_now(world: World, file: str) -> None:
    ran = run("submit", file, "--nightly", "--json")
    assert (ran.status, len(ran.records), ran.err) == (0, 3, "")


def test_assess_gives_verdicts_with_reasons_and_stores_nothing(world: World, file: str) -> None:
    ran = run("assess", file, "--json")
    assert ran.status == 0
    assert [record["verdict"] for record in ran.records] == ["APPROVE"] * 3
    assert all(record["reasons"] for record in ran.records)
    assert run("list", "--json").out == ""


def test_assess_asks_the_model_only_when_told_to(
    world: World, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer().running() as server:
        server.behave = lambda _: Said.answer(recommendation="review")
        monkeypatch.setenv("REFUNDS_MODEL_URL", server.url)
        monkeypatch.setenv("REFUNDS_MODEL_NAME", "reader-1")
        settings.cache_clear()
        run("assess", file, "--json")
        assert server.asked == []
        ran = run("assess", file, "--with-model", "--json")
    assert [record["verdict"] for record in ran.records] == ["REVIEW"] * 3
    assert "The model says review, 95 % sure" in ran.records[0]["reasons"][0]
    assert len(server.asked) == 3
    assert run("list", "--json").out == ""


def test_assess_with_a_model_that_is_none_says_where_to_name_one(world: World, file: str) -> None:
    ran = run("assess", file, "--with-model")
    assert (ran.status, ran.out) == (2, "")
    assert "REFUNDS_MODEL_URL" in ran.err


def test_requests_that_together_exceed_their_charge_are_not_all_approved(
    world: World, tmp_path: Path
) -> None:
    twice = write_lines(tmp_path / "twice.jsonl", request(1), request(1, refund_id="rf_1b"))
    verdicts = [record["verdict"] for record in run("assess", twice, "--json").records]
    assert verdicts != ["APPROVE", "APPROVE"]


_BAD_LINES = {
    "malformed": (b"{", "line 2: not valid JSON"),
    "unknown field": (json.dumps(request(2, colour="red")).encode(), "line 2: unknown: 'colour'"),
    "missing field": (b'{"refund_id": "rf_2"}', "line 2: missing: kind, order_id"),
    "amount as text": (json.dumps(request(2, amount_minor="1")).encode(), "line 2: amount_minor"),
    "amount of nothing": (json.dumps(request(2, amount_minor=0)).encode(), "line 2: amount_minor"),
    "less than nothing": (json.dumps(request(2, amount_minor=-1)).encode(), "line 2: amount"),
    "huge amount": (json.dumps(request(2, amount_minor=10**20)).encode(), "line 2: amount_minor"),
    "fraction": (json.dumps(request(2, amount_minor=1.5)).encode(), "line 2: amount_minor"),
    "currency": (json.dumps(request(2, currency="ZZZ")).encode(), "line 2: currency"),
    "control character": (
        json.dumps(request(2, message="\x1b[2J")).encode(),
        "line 2: message is wrong: control character U+001B",
    ),
    "long message": (json.dumps(request(2, message="x" * 1_000_000)).encode(), "line 2: "),
    "not UTF-8": (b'{"refund_id": "\xff"}', "line 2: byte 16 is not UTF-8"),
    "same id": (json.dumps(request(1, reason="other")).encode(), "is also on line 1"),
}


@pytest.mark.parametrize("command", ["submit", "assess"])
@pytest.mark.parametrize("fault", _BAD_LINES)
def test_one_bad_line_is_named_and_nothing_is_taken(
    tmp_path: Path, command: str, fault: str
) -> None:
    line, sentence = _BAD_LINES[fault]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(json.dumps(request(1)).encode() + b"\n" + line + b"\n")
    ran = run(command, str(path), "--json")
    assert (ran.status, ran.out) == (2, "")
    assert sentence in ran.err
    assert "nothing was taken" in ran.err
    assert run("list", "--json").out == ""


def test_an_unknown_order_is_bad_input_and_nothing_is_taken(world: World, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", request(1), request(99))
    ran = run("submit", lines)
    assert ran.status == 2
    assert ran.err == "refunds: rf_99: the shop has no order #W99\n"
    assert run("list", "--json").out == ""


def test_the_same_id_with_other_content_is_bad_input(
    world: World, file: str, tmp_path: Path
) -> None:
    run("submit", file)
    other = write_lines(tmp_path / "other.jsonl", request(1, amount_minor=9_000))
    ran = run("submit", other)
    assert ran.status == 2
    assert "rf_1 was already submitted with another amount_minor" in ran.err


@pytest.mark.parametrize("name", ["absent.jsonl", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_bad_input(name: str) -> None:
    ran = run("submit", name)
    assert ran.status == 2
    assert "cannot be read" in ran.err


def test_without_a_shop_it_says_what_to_start(file: str) -> None:
    ran = run("submit", file)
    assert ran.status == 1
    assert ran.err.startswith("refunds: shop: its database cannot be read")
    assert "`refunds up`" in ran.err


# --- load ---


def test_load_takes_customers_and_orders(world: World, tmp_path: Path) -> None:
    write_lines(tmp_path / "shop" / "customers.jsonl", customer_record())
    write_lines(tmp_path / "shop" / "orders.jsonl", order_record("#W8"), order_record("#W9"))
    for _ in range(2):
        ran = run("load", str(tmp_path / "shop"), "--json")
        assert (ran.status, ran.records) == (0, [{"customers": 1, "orders": 2}])
    lines = write_lines(tmp_path / "lines.jsonl", request(9))
    assert run("submit", lines).status == 0


def test_a_bad_line_of_the_shop_data_is_named_and_nothing_is_loaded(
    world: World, tmp_path: Path
) -> None:
    write_lines(tmp_path / "shop" / "customers.jsonl", customer_record())
    bad = order_record("#W9", status="lost")
    write_lines(tmp_path / "shop" / "orders.jsonl", order_record("#W8"), bad)
    ran = run("load", str(tmp_path / "shop"))
    assert ran.status == 2
    assert "orders.jsonl: nothing was taken" in ran.err
    assert "line 2: status" in ran.err
    assert run("assess", write_lines(tmp_path / "a.jsonl", request(8))).status == 2


def test_what_the_shop_refuses_is_named_by_its_id(world: World, tmp_path: Path) -> None:
    write_lines(tmp_path / "shop" / "customers.jsonl", customer_record())
    stranger = order_record("#W9", customer_id="nobody_1")
    write_lines(tmp_path / "shop" / "orders.jsonl", stranger)
    ran = run("load", str(tmp_path / "shop"))
    assert ran.status == 2
    assert "the shop refuses 1 orders" in ran.err
    assert "  #W9: " in ran.err


def test_loading_without_a_sandbox_says_what_to_start(tmp_path: Path) -> None:
    write_lines(tmp_path / "shop" / "customers.jsonl", customer_record())
    write_lines(tmp_path / "shop" / "orders.jsonl", order_record())
    ran = run("load", str(tmp_path / "shop"))
    assert ran.status == 1
    assert "start it with `refunds up`" in ran.err


# --- list, show, history ---


def test_list_shows_what_is_where(world: World, file: str) -> None:
    run("submit", file)
    assert [r["refund_id"] for r in run("list", "--json").records] == ["rf_1", "rf_2", "rf_3"]
    assert len(run("list", "--state", "received", "--json").records) == 3
    assert run("list", "--state", "paying", "--json").records == []
    table = run("list").out
    assert "rf_2" in table
    assert "$100.00" in table


def test_an_unknown_state_is_bad_input_that_names_the_states() -> None:
    ran = run("list", "--state", "lost")
    assert ran.status == 2
    assert "the states are received, assessing" in ran.err


def test_show_has_everything(world: World) -> None:
    world.pay(1, Verdict.REVIEW)
    [status] = run("show", "rf_1", "--json").records
    assert (status["state"], status["outcome"]) == ("completed", "PAID")
    assert status["approval"]["decisions"][0]["person"] == "bob"
    assert status["effects"][0]["key"] == "rf_1:issue_refund"
    assert status["run_ids"] == ["run-1"]
    page = run("show", "rf_1").out
    assert "bob: APPROVED (cli)" in page
    assert "rf_1:issue_refund" in page


def test_what_a_customer_wrote_is_never_taken_for_markup(world: World, tmp_path: Path) -> None:
    hostile = request(1, requested_by="[bold]me[/bold]", message="[/x] :smile:")
    run("submit", write_lines(tmp_path / "lines.jsonl", hostile))
    assert ":smile:" in run("history", "rf_1", "--json").out
    assert run("history", "rf_1").status == 0


def test_history_is_every_event_in_order(world: World) -> None:
    world.pay(1)
    [document] = run("history", "rf_1", "--json").records
    events = document["events"]
    assert [event["sequence"] for event in events] == [*range(1, len(events) + 1)]
    assert events[0]["event"] == "refund.submitted"
    assert "PAID: It is." in run("history", "rf_1").out


@pytest.mark.parametrize("command", ["show", "history", "resume"])
@pytest.mark.parametrize("refund_id", ["rf_none", "", "a b", "x" * 1_000, "\udcff", "rf\n1"])
def test_an_unknown_id_is_bad_input(command: str, refund_id: str) -> None:
    ran = run(command, "--", refund_id)
    assert (ran.status, ran.out) == (2, "")
    assert "no refund has the id" in ran.err


# --- decide, resume, nightly ---


def test_a_person_decides_once(world: World) -> None:
    world.ask(*world.begin(1, Verdict.REVIEW))
    ran = run("decide", "rf_1", "approve", "--as", "bob", "--reason", "fine", "--json")
    assert ran.status == 0
    [decision] = ran.records[0]["approval"]["decisions"]
    assert (decision["person"], decision["channel"], decision["reason"]) == ("bob", "cli", "fine")
    again = run("decide", "rf_1", "approve", "--as", "bob", "--json")
    assert (again.status, again.records[0]["approval"]) == (0, ran.records[0]["approval"])
    other = run("decide", "rf_1", "reject", "--as", "eve")
    assert (other.status, other.err) == (1, "refunds: rf_1 was already APPROVED\n")


def test_nobody_approves_their_own_request(world: World) -> None:
    world.ask(*world.begin(1, Verdict.REVIEW))
    ran = run("decide", "rf_1", "approve", "--as", "ADA_1")
    assert ran.status == 1
    assert "cannot approve it" in ran.err


def test_a_decision_on_other_facts_is_refused(world: World) -> None:
    world.ask(*world.begin(1, Verdict.REVIEW))
    ran = run("decide", "rf_1", "approve", "--as", "bob", "--digest", "0" * 64)
    assert ran.status == 1
    assert "what you saw is not what is asked now" in ran.err


def test_a_decision_that_nobody_asked_for_is_refused(world: World, file: str) -> None:
    run("submit", file)
    ran = run("decide", "rf_1", "approve", "--as", "bob")
    assert (ran.status, ran.err) == (1, "refunds: nobody is being asked about rf_1 now\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("rf_1", "approve"),
        ("rf_1", "perhaps", "--as", "bob"),
        ("rf_1", "approve", "--as", ""),
        ("rf_1", "approve", "--as", "b\x1bob"),
        ("rf_1", "approve", "--as", "b" * 200),
        ("rf_1", "approve", "--as", "bob", "--reason", "\0"),
        ("rf_1", "approve", "--as", "bob", "--reason", "x" * 3_000),
    ],
)
def test_a_decision_that_cannot_be_taken_is_bad_input(arguments: tuple[str, ...]) -> None:
    ran = run("decide", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err


def test_what_is_over_cannot_be_resumed(world: World) -> None:
    world.pay(1)
    ran = run("resume", "rf_1", "--as", "bob")
    assert (ran.status, ran.err) == (2, "refunds: rf_1 is over: PAID\n")


def test_what_is_said_while_prefect_is_away_is_kept_and_said_to_go_on_later(
    world: World, file: str
) -> None:
    run("submit", file)
    ran = run("resume", "rf_1", "--as", "bob")
    assert ran.status == 0
    assert "this is kept. Prefect is away; the refund goes on by itself" in ran.err
    case, fence = world.begin(2)
    world.ask(case, fence)
    run_id, wait = str(uuid.uuid4()), "approval-1-team"
    waits.open_wait(
        books.ledger(), case.refund_id, wait, reason="person", run_id=run_id, fence=fence
    )
    decided = run("decide", "rf_2", "approve", "--as", "bob", "--json")
    assert (decided.status, decided.records[0]["goes_on"]) == (0, "later")
    assert "the decision is kept. Prefect is away" in decided.err


def test_what_is_not_stuck_is_not_given_up_and_the_reason_is_told(world: World, file: str) -> None:
    run("submit", file)
    ran = run("abandon", "rf_1", "--as", "bob", "--reason", "lost")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("refunds: rf_1 cannot be given up: it is not stuck but received")


def test_what_is_over_is_not_given_up(world: World) -> None:
    world.pay(1)
    ran = run("abandon", "rf_1", "--as", "bob", "--reason", "lost")
    assert (ran.status, ran.err) == (2, "refunds: rf_1 is over: PAID\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("rf_1",),
        ("rf_1", "--as", "bob"),
        ("rf_1", "--reason", "lost"),
        ("rf_1", "--as", "", "--reason", "lost"),
        ("rf_1", "--as", "bob", "--reason", " "),
        ("rf_1", "--as", "bob", "--reason", "x" * 3_000),
        ("rf_none", "--as", "bob", "--reason", "lost"),
    ],
)
def test_giving_up_without_a_name_or_a_reason_is_bad_input(
    world: World, arguments: tuple[str, ...]
) -> None:
    ran = run("abandon", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err


def test_the_night_without_prefect_says_what_to_start() -> None:
    ran = run("nightly", "--json")
    assert (ran.status, ran.out) == (1, "")
    assert "start Prefect with `refunds up`" in ran.err


def test_a_night_that_is_no_date_is_bad_input() -> None:
    ran = run("nightly", "--date", "tonight")
    assert ran.status == 2
    assert "is not a date such as" in ran.err


# --- The program itself ---


def test_a_wrong_setting_is_bad_input_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REFUNDS_PORT", "eighty")
    settings.cache_clear()
    ran = run("list")
    assert ran.status == 2
    assert "REFUNDS_PORT" in ran.err


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "postgresql+psycopg://127.0.0.1:1/x"])
def test_a_ledger_that_cannot_be_opened_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("REFUNDS_LEDGER_URL", url)
    settings.cache_clear()
    ran = run("list")
    assert ran.status in (1, 2)
    assert ran.err.startswith("refunds: ")
    assert ran.err.count("\n") == 1


def test_an_unknown_command_is_bad_input() -> None:
    assert run("refund").status == 2


def test_help_needs_neither_prefect_nor_a_database() -> None:
    program = (
        "import sys; from refunds.cli.program import program\n"
        "assert not {'prefect', 'sqlalchemy', 'httpx'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_profile_of_the_caller_redirects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "caller"
    (home / ".prefect").mkdir(parents=True)
    (home / ".prefect" / "profiles.toml").write_text(
        'active = "cloud"\n[profiles.cloud]\nPREFECT_API_URL = "http://elsewhere.invalid/api"\n'
    )
    for name in ("PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PREFECT_PROFILE", "cloud")
    program = (
        "from refunds.cli import environment; environment.prepare()\n"
        "from prefect.settings import PREFECT_API_URL; print(PREFECT_API_URL.value())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{settings().prefect_url}/api\n"


def test_main_ends_with_the_status_and_one_sentence() -> None:
    program = "from refunds.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "show", "rf_none", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "refunds: no refund has the id 'rf_none'; `refunds list` shows all of them\n"
    )
