"""The journal: what a step was given and what it gave, once, without what must not be kept."""

from datetime import UTC, datetime
from typing import Any

from refunds import redaction
from refunds.digests import digest
from refunds.errors import PaymentUnknown
from refunds.ledger import history, journal
from refunds.ledger.journal import Call
from refunds.policy_file import DEFAULT_POLICY_FILE, parse
from tests.ledger.ledger_desk import Desk

NOW = datetime(2026, 11, 25, tzinfo=UTC)
LONG = {"name": "a value that is longer than a reference to it", "parts": list(range(60))}


def called(step: str, **inputs: Any) -> Call:
    plain = {name: journal.plain(value) for name, value in inputs.items()}
    return Call(step, f"rf:{step}", plain, NOW, "task-run")


def test_a_value_that_the_history_holds_is_referred_to_by_its_digest(desk: Desk) -> None:
    runner = desk.run()
    with desk.ledger.page(runner.refund_id, runner.fence) as page:
        known = journal.known_values(page)
        known = journal.ended(page, called("load"), LONG, known)
        journal.ended(page, called("use", case=LONG, request=runner.case.request), True, known)
    used = history.read(desk.ledger, runner.refund_id)[-1]["data"]
    assert used["inputs"]["case"] == {"$same_as": digest(LONG)}
    assert used["inputs"]["request"] == {"$same_as": digest(runner.case.request.plain())}
    assert used["output"] is True


def test_every_reference_leads_to_a_value_also_in_a_later_run(desk: Desk) -> None:
    runner = desk.run()
    for _ in range(2):
        with desk.ledger.page(runner.refund_id, runner.fence) as page:
            journal.ended(page, called("load", a=LONG), LONG, journal.known_values(page))
    events = history.read(desk.ledger, runner.refund_id)
    held = journal.values_of((event["event"], event["data"]) for event in events)
    assert events[-1]["data"]["inputs"]["a"] == {"$same_as": digest(LONG)}
    assert held[digest(LONG)] == LONG


def test_what_is_not_committed_yet_is_not_taken_for_known(desk: Desk) -> None:
    runner = desk.run()
    before: set[str] = set()
    with desk.ledger.page(runner.refund_id, runner.fence) as page:
        after = journal.ended(page, called("load"), LONG, before)
    assert (before, after) == (set(), {digest(LONG)})


def test_a_failure_keeps_what_its_error_is_built_of(desk: Desk) -> None:
    runner = desk.run()
    error = PaymentUnknown("gateway", "no answer")
    with desk.ledger.page(runner.refund_id, runner.fence) as page:
        journal.failed(page, called("pay"), error, set())
    kept = history.read(desk.ledger, runner.refund_id)[-1]["data"]["error"]
    assert kept == {
        "kind": "PaymentUnknown",
        "fields": ["gateway", "no answer"],
        "message": "gateway: no answer",
    }


def test_a_policy_is_kept_by_its_version() -> None:
    policy = parse(DEFAULT_POLICY_FILE.read_text(encoding="utf-8"))
    kept = journal.plain(policy)
    assert kept["$policy"] == policy.full_version
    assert kept["digest"].startswith(policy.full_version.partition("+")[2])


def test_card_numbers_and_secrets_are_not_kept() -> None:
    said = {
        "message": "my card is 4242 4242 4242 4242, order 1234 5678 9012 3456",
        "headers": {"Authorization": "Bearer sk_test"},
        "note": ["5555555555554444"],
    }
    assert redaction.redacted(said) == {
        "message": "my card is [card …4242], order 1234 5678 9012 3456",
        "headers": {"Authorization": "[not kept]"},
        "note": ["[card …4444]"],
    }
