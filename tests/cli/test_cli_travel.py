"""`refunds replay`, `reset`, `update`, `export` and `verify FILE` as scripts use them."""

import json
from pathlib import Path
from typing import Any

import pytest

from refunds.digests import digest
from refunds.models import State
from refunds.policy_file import DEFAULT_POLICY_FILE
from tasks import books
from tests.cli.cli_world import World, request, run, write_lines

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
APPROVED = GOLDEN / "approve.json"


def changed(tmp_path: Path, change: Any) -> str:
    """A history in which something else was written down, chain and all."""
    document = json.loads(APPROVED.read_text(encoding="utf-8"))
    change(document["events"])
    previous = ""
    for event in document["events"]:
        event["previous_digest"] = previous
        content = {name: part for name, part in event.items() if name != "digest"}
        previous = event["digest"] = digest(content)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def told_the_crm_otherwise(events: list[dict[str, Any]]) -> None:
    [step] = [e for e in events if e["event"] == "step.ended" and e["data"]["step"] == "sync_crm"]
    step["data"]["inputs"]["why"] = "Because."


def test_a_folder_of_histories_is_replayed_and_all_are_the_same() -> None:
    ran = run("replay", str(GOLDEN), "--json")
    assert ran.status == 0
    assert len(ran.records) == len(list(GOLDEN.glob("*.json")))
    assert all(record["same"] for record in ran.records)


def test_the_first_difference_names_step_inputs_and_line(tmp_path: Path) -> None:
    ran = run("replay", changed(tmp_path, told_the_crm_otherwise))
    assert ran.status == 1
    assert "sync_crm was given other inputs then" in ran.out
    assert "why: Because. | Paid as" in ran.out
    assert "flows/refund.py:" in ran.out
    assert "await crm.sync_crm(case, outcome, why)" in ran.out


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"format": "durable-refunds/history"}', "[" * 90_000]
)
def test_what_is_no_history_is_bad_input(tmp_path: Path, content: str) -> None:
    path = tmp_path / "no.json"
    path.write_text(content, encoding="utf-8")
    ran = run("replay", str(path))
    assert (ran.status, ran.out) == (2, "")
    assert "no.json" in ran.err


def test_an_edited_history_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "edited.json"
    path.write_text(APPROVED.read_text(encoding="utf-8").replace("PAID", "FAILED"), "utf-8")
    ran = run("replay", str(path))
    assert ran.status == 2
    assert "was changed after it was written" in ran.err


def test_another_policy_says_which_verdicts_would_be_others(tmp_path: Path) -> None:
    strict = tmp_path / "strict.toml"
    text = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
    before, section, after = text.partition("[approve_without_a_person]")
    limit = next(line for line in after.splitlines() if line.startswith("USD"))
    strict.write_text(before + section + after.replace(limit, "USD = 1", 1), encoding="utf-8")
    ran = run("replay", str(GOLDEN), "--with-policy", str(strict), "--json")
    assert ran.status == 0
    verdicts = {(r["verdict_then"], r["verdict_now"]) for r in ran.records}
    assert verdicts == {("APPROVE", "REVIEW"), ("REVIEW", "REVIEW"), ("REJECT", "REJECT")}
    same = run("replay", str(GOLDEN), "--with-policy", str(DEFAULT_POLICY_FILE), "--json")
    assert not any(record["differs"] for record in same.records)


def test_a_reset_shows_what_it_would_do_and_is_refused_behind_a_payment(world: World) -> None:
    world.pay(1)
    ran = run("reset", "rf_1", "--to", "load_order")
    assert ran.status == 2
    assert "never came to 'load_order'" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("reset", "--to", "load_order"),
        ("reset", "rf_1", "--state", "paying", "--to", "load_order"),
        ("reset", "rf_1", "--to", "load_order", "--apply"),
        ("resume",),
        ("resume", "rf_1", "--needs", "crm"),
        ("resume", "--needs", "crm", "--apply"),
        ("resume", "--needs", "crm", "--apply", "--as", "ops"),
        ("resume", "--state", "stuck"),
        ("update", "rf_1", "--as", "ops"),
        ("update", "rf_1", "--as", "ops", "--deadline", "soon"),
    ],
    ids=[
        *("which", "one or many", "by whom", "which of them", "one or more", "by nobody"),
        *("why", "no state", "nothing", "no time"),
    ],
)
def test_what_is_not_said_well_is_bad_input(world: World, arguments: tuple[str, ...]) -> None:
    world.begin(1)
    ran = run(*arguments)
    assert (ran.status, ran.out) == (2, "")


def test_a_note_is_kept_in_the_history(world: World) -> None:
    world.begin(1)
    assert run("update", "rf_1", "--as", "ops", "--note", "call first").status == 0
    [document] = run("history", "rf_1", "--json").records
    assert document["events"][-1]["data"]["changes"] == {"note": "call first"}


def test_a_bundle_is_written_and_verifies_offline(world: World, tmp_path: Path) -> None:
    world.pay(1)
    file = tmp_path / "rf_1.json"
    [told] = run("export", "rf_1", "--out", str(file), "--json").records
    assert run("verify", str(file), "--seal", told["seal"]).status == 0
    assert run("verify", str(file), "--seal", "0" * 64).status == 1
    file.write_bytes(file.read_bytes().replace(b'"PAID"', b'"paid"', 1))
    ran = run("verify", str(file))
    assert ran.status == 1
    assert "its seal is broken" in ran.out


def test_many_are_resumed_after_a_look_at_which_they_are(world: World, tmp_path: Path) -> None:
    run("submit", write_lines(tmp_path / "requests.jsonl", *(request(n) for n in (1, 2, 3))))
    for number, why in ((1, "the CRM refused"), (2, "the CRM refused"), (3, "the coupon is void")):
        with books.ledger().page(f"rf_{number}") as page:
            page.append("attention.needed", {"why": why})
            page.change(attention=why)
            page.enter(State.NEEDS_ATTENTION)
    chosen = ("resume", "--needs", "crm refused")
    shown = run(*chosen, "--json")
    assert [(r["refund_id"], r["applied"]) for r in shown.records] == [
        ("rf_1", False),
        ("rf_2", False),
    ]
    assert "Nothing was done; --apply does it." in run(*chosen).out
    assert "refund.resumed" not in run("history", "rf_1", "--json").out
    done = run(*chosen, "--apply", "--as", "ops", "--reason", "its field is back", "--json")
    assert done.status == 0
    assert [(r["refund_id"], r["applied"], r["goes_on"]) for r in done.records] == [
        ("rf_1", True, "later"),
        ("rf_2", True, "later"),
    ]
    for number, times in ((1, 1), (2, 1), (3, 0)):
        [document] = run("history", f"rf_{number}", "--json").records
        told = [e["data"] for e in document["events"] if e["event"] == "refund.resumed"]
        assert told == [{"person": "ops", "reason": "its field is back"}] * times
    assert run(*chosen, "--json").records == []
