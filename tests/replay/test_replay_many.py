"""Many refunds are steered at once: narrowed, looked at, and only then done, each for itself."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from refunds.api import AsyncRefunds
from refunds.authority import Person
from refunds.ledger import abandonment, history
from refunds.models import RefundRequest
from refunds.recovering import Status
from refunds.scopes import Scope
from tests.replay import paths
from tests.replay.program import Program
from tests.replay.rehearsal import Rehearsal
from tests.service.service_world import Browser

Register = Callable[[str, tuple[str, ...]], Person]
WHY = "its field is back"


@pytest.fixture
def two(world: Rehearsal) -> Iterator[list[RefundRequest]]:
    """Two that are stuck; none is left to the next test."""
    found = [paths.stuck(world), paths.stuck(world)]
    yield found
    for request in found:
        if world.row(request)["outcome"] is None:
            asyncio.run(AsyncRefunds().resume(request.refund_id, person="lea"))
            assert world.run(request) == "PAID"


def told(world: Rehearsal, request: RefundRequest, event: str) -> list[dict[str, Any]]:
    return [e.data for e in world.document(request).events if e.event == event]


def ids(answer: Any) -> list[str]:
    return [one["refund_id"] for one in answer.json()["refunds"]]


def test_a_program_sees_which_are_stuck_for_a_reason_and_then_resumes_them(
    world: Rehearsal, program: Program, two: list[RefundRequest]
) -> None:
    expected = sorted(request.refund_id for request in two)
    assert ids(program.post("/refunds/resume", needs="crm")) == []
    shown = program.post("/refunds/resume", needs="COUPONS")
    assert (shown.status_code, ids(shown)) == (200, expected)
    assert {(one["applied"], one["goes_on"]) for one in shown.json()["refunds"]} == {(False, None)}
    assert told(world, two[0], "refund.resumed") == []
    done = program.post("/refunds/resume", needs="coupons", apply=True, reason=WHY)
    assert {(one["applied"], one["goes_on"]) for one in done.json()["refunds"]} == {(True, "later")}
    for request in two:
        assert told(world, request, "refund.resumed") == [{"person": "key ops-bot", "reason": WHY}]
        assert world.run(request) == "PAID"


def test_many_are_worked_through_in_pages(program: Program, two: list[RefundRequest]) -> None:
    first = program.post("/refunds/resume", limit=1)
    following = program.post("/refunds/resume", limit=1, cursor=first.json()["next_cursor"])
    assert ids(first) + ids(following) == sorted(request.refund_id for request in two)
    last = program.post("/refunds/resume", limit=1, cursor=following.json()["next_cursor"])
    assert last.json() == {"refunds": [], "next_cursor": None}


class WhileAColleagueWorks(AsyncRefunds):
    """After the first is resumed, somebody gives up the other one."""

    def __init__(self, world: Rehearsal, other: RefundRequest) -> None:
        self.world, self.other = world, other

    async def resume(self, refund_id: str, *, person: str = "", reason: str = "") -> Status:
        found = await super().resume(refund_id, person=person, reason=reason)
        abandonment.abandon(self.world.ledger, self.other.refund_id, "lea", "not worth it")
        await asyncio.to_thread(self.world.run, self.other)
        return found


def test_one_that_is_over_by_its_turn_is_told_and_keeps_no_other_from_its_answer(
    world: Rehearsal, two: list[RefundRequest]
) -> None:
    first, other = sorted(two, key=lambda request: request.refund_id)
    refunds = WhileAColleagueWorks(world, other)
    done = asyncio.run(refunds.resume_all(person="ops", reason=WHY, apply=True))
    assert [(one["refund_id"], one["applied"], one["refusal"]) for one in done] == [
        (first.refund_id, True, None),
        (other.refund_id, False, f"{other.refund_id} is over: FAILED"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"apply": True},
        {"apply": True, "reason": " "},
        {"state": "lost"},
        {"limit": 0},
        {"everything": True},
    ],
    ids=str,
)
def test_what_is_not_said_well_resumes_nothing(
    world: Rehearsal, program: Program, two: list[RefundRequest], body: dict[str, Any]
) -> None:
    assert program.post("/refunds/resume", **body).status_code == 422
    assert told(world, two[0], "refund.resumed") == []


def test_a_reset_of_many_is_refused_for_those_that_are_paid_alone(
    world: Rehearsal, program: Program
) -> None:
    open_one, paid = paths.asked(world), world.request(paths.FOR_A_PERSON)
    assert world.run(paid) == "suspended"
    world.decide(paid, "approve")
    world.prefect.dies_before = "sync_crm"
    assert world.run(paid) == "killed"
    body = {"to": "load_order", "state": "awaiting_approval"}
    assert open_one.refund_id in ids(program.post("/refunds/reset", **body))
    assert told(world, open_one, "refund.reset") == []
    done = program.post("/refunds/reset", **body, apply=True, reason="the shop corrected it")
    [plan] = [one for one in done.json()["refunds"] if one["refund_id"] == open_one.refund_id]
    assert (plan["applied"], plan["asks_again"], plan["refusal"]) == (True, True, None)
    behind = {**body, "state": world.row(paid)["state"]}
    plans = program.post("/refunds/reset", **behind).json()["refunds"]
    [refused] = [plan for plan in plans if plan["refund_id"] == paid.refund_id]
    assert (refused["applied"], "it is paid" in refused["refusal"]) == (False, True)


def test_a_key_steers_in_the_role_of_its_person(
    world: Rehearsal, program: Program, two: list[RefundRequest], registered: Register
) -> None:
    registered("mia", ("auditor",))
    registered("noa", ("approver",))
    by_mia, by_noa = (
        program.with_key(Scope.STEER, Scope.DECIDE, person_id=name) for name in ("mia", "noa")
    )
    where = f"/refunds/{two[0].refund_id}"
    for path, body in (
        ("/refunds/resume", {"apply": True, "reason": WHY}),
        ("/refunds/reset", {"to": "issue_coupon", "state": "needs_attention"}),
        (f"{where}/reset", {"to": "issue_coupon", "reason": WHY}),
        (f"{where}/updates", {"note": "call first"}),
    ):
        before = history.read(world.ledger, two[0].refund_id)
        refused = by_mia.post(path, **body)
        assert (refused.status_code, refused.json()["type"]) == (
            403,
            "urn:durable-refunds:role-needed",
        )
        assert history.read(world.ledger, two[0].refund_id) == before
        assert by_noa.post(path, **body).status_code == 200


def test_a_key_that_may_only_submit_steers_nothing(
    program: Program, two: list[RefundRequest]
) -> None:
    tool = program.with_key(Scope.READ, Scope.WRITE)
    assert tool.post("/refunds/resume").status_code == 403
    assert tool.post("/refunds/reset", to="load_order", state="paying").status_code == 403


# --- The page ---


def test_the_page_is_narrowed_and_what_is_ticked_is_resumed(
    world: Rehearsal, browser: Browser, two: list[RefundRequest]
) -> None:
    browser.get("/stuck?needs=crm")
    assert "Nothing is stuck for such a reason." in browser.text
    browser.get("/stuck?needs=Coupons")
    assert "2 refunds that cannot go on" in browser.text
    chosen = [request.refund_id for request in two]
    assert browser.post("/stuck", chosen=chosen, reason=" ").status_code == 422
    browser.get("/stuck")
    browser.post("/stuck", chosen=[*chosen, "rf_none"], reason=WHY)
    assert "2 of 3 resumed" in browser.text
    assert "no refund has the id" in browser.text
    for request in two:
        assert told(world, request, "refund.resumed") == [{"person": "ops", "reason": WHY}]
        assert world.run(request) == "PAID"


def test_the_page_resumes_nothing_for_who_has_no_role_that_decides_or_no_form_of_ours(
    world: Rehearsal, browser: Browser, two: list[RefundRequest], registered: Register
) -> None:
    given: dict[str, Any] = {"chosen": [two[0].refund_id], "reason": WHY}
    assert browser.post("/stuck", token="forged", **given).status_code == 403
    browser.get("/stuck")
    registered("ops", ("auditor",))
    assert browser.post("/stuck", **given).status_code == 403
    assert told(world, two[0], "refund.resumed") == []
