"""Programs steer through the service: a reset, an update, a bundle to take home."""

import json
from typing import Any

from refunds.ledger import approvals
from refunds.scopes import Scope
from refunds.verify import bundles
from tests.replay import paths
from tests.replay.program import Program
from tests.replay.rehearsal import Rehearsal
from tests.replay.unknown_payments import unknown


def test_a_program_sees_what_a_reset_would_do_and_then_does_it(
    world: Rehearsal, program: Program
) -> None:
    request = world.request()
    world.prefect.dies_before = "create_return_label"
    assert world.run(request) == "killed"
    where = f"/refunds/{request.refund_id}/reset"
    shown = program.get(f"{where}?to=load_order").json()
    assert (shown["applied"], shown["refusal"], shown["done_over"][0]) == (
        False,
        None,
        "load_order",
    )
    assert [e for e in world.document(request).events if e.event == "refund.reset"] == []
    assert program.post(where, to="load_order").status_code == 422
    done = program.post(where, to="load_order", reason="the shop corrected it")
    assert (done.status_code, done.json()["applied"], done.json()["run_id"]) == (200, True, None)
    [told] = [e.data for e in world.document(request).events if e.event == "refund.reset"]
    assert (told["person"], told["reason"]) == ("key ops-bot", "the shop corrected it")
    for key in told["forgotten"]:
        # In a stack Prefect's results are the ledger's own, and gone by now.
        world.prefect.results.pop(key, None)
    assert world.run(request) == "PAID"


def test_a_reset_behind_a_payment_is_a_conflict(world: Rehearsal, program: Program) -> None:
    request = world.request()
    world.prefect.dies_before = "sync_crm"
    assert world.run(request) == "killed"
    where = f"/refunds/{request.refund_id}/reset"
    assert "it is paid" in program.get(f"{where}?to=load_order").json()["refusal"]
    answer = program.post(where, to="load_order", reason="typo")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:durable-refunds:cannot-reset")


def test_a_program_settles_as_the_person_its_key_belongs_to(
    world: Rehearsal, program: Program
) -> None:
    request = unknown(world)
    where = f"/refunds/{request.refund_id}/settlement"
    said: dict[str, Any] = {"paid_as": None, "reason": "asked them", "evidence": "their letter"}
    assert program.post(where, **said).json()["type"] == "urn:durable-refunds:scope-needed"
    annas = program.with_key(Scope.DECIDE, person_id="anna")
    shown = annas.post(where, **said).json()
    assert (shown["refusal"], shown["kept"], shown["said_by"]) == (None, False, ["anna"])
    assert world.payment(request).state == "unknown"
    assert annas.post(where, **said, apply=True).json()["applied"]
    assert world.payment(request).state == "blocked"
    again = annas.post(where, **said, apply=True)
    assert (again.status_code, again.json()["type"]) == (
        409,
        "urn:durable-refunds:cannot-settle",
    )


def test_a_program_changes_an_open_question(world: Rehearsal, program: Program) -> None:
    request = paths.asked(world)
    where = f"/refunds/{request.refund_id}/updates"
    assert program.post(where).status_code == 422
    changed = program.post(where, priority=1, audience="night-shift", note="call first").json()
    assert changed["changes"] == {"priority": 1, "audience": "night-shift", "note": "call first"}
    assert (changed["question"], changed["card_sent"]) == ("open", True)
    standing = approvals.standing(world.ledger, request.refund_id)
    assert standing is not None
    assert (standing.priority, standing.levels[0].audience) == (1, "night-shift")


def test_the_bundle_that_is_taken_home_is_sealed(world: Rehearsal, program: Program) -> None:
    request = paths.approve(world)
    answer = program.get(f"/refunds/{request.refund_id}/export")
    assert answer.headers["Refunds-Seal"] == bundles.seal_of(answer.content)
    taken, again = (
        json.loads(answer.content),
        json.loads(bundles.made(world.ledger, request.refund_id)),
    )
    for bundle in (taken, again):
        # When it was taken, and the seal over that.
        del bundle["exported_at"], bundle["seal"]
    assert taken == again
