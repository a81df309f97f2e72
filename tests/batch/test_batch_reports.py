"""A night leaves one report: right, unchanged afterwards, and sent once whatever happens."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any

import pytest

from refunds import overnight
from refunds.errors import BadInput
from refunds.ledger import batches, nights
from refunds.ledger.nights import Kept
from refunds.models import RefundRequest
from refunds.nights.report import NightReport, Sum
from tasks import http, reports
from tests.batch.batch_world import PrefectRuns, World


def carried(world: World, wanted: list[RefundRequest]) -> PrefectRuns:
    return world.carry(world.opened_night(wanted))


def mixed(world: World, name: str) -> list[RefundRequest]:
    """Three that are paid, one that the gateway refuses, one for a person, one rejected."""
    paid = world.requests(4, name)
    asked = world.requests(1, f"{name}_ask", goodwill_minor=9_000)
    rejected = world.requests(1, f"{name}_not", item_ids=["i9"])
    world.faults({"endpoint": "POST /gateway/v1/refunds", "kind": "decline", "times": 1})
    return [*paid, *asked, *rejected]


def last(world: World) -> Kept:
    found = nights.latest(world.ledger, batches.night_id(world.night))
    assert found is not None
    return found


def notices(world: World) -> list[dict[str, Any]]:
    """What operations were told about this ledger's night."""
    key = f"{batches.night_id(world.night)}:send_report:"
    return [act for act in world.acts() if act["key"].startswith(key)]


def sent_again(world: World) -> int:
    async def send() -> int:
        try:
            return await reports.send_due()
        finally:
            await http.close()

    return asyncio.run(send())


def test_the_report_has_every_refund_of_the_night_once(world: World) -> None:
    prefect_runs = carried(world, mixed(world, "all"))
    report = NightReport.model_validate(last(world).facts)
    assert report.asked.sums == (Sum(currency="USD", count=6, amount_minor=60_000),)
    assert {each.name: each.count for each in (*report.outcomes, *report.states)} == {
        "PAID": 3,
        "FAILED": 1,
        "REJECTED": 1,
        "awaiting_approval": 1,
    }
    assert {each.name: each.count for each in report.verdicts} == {
        "APPROVE": 4,
        "REVIEW": 1,
        "REJECT": 1,
    }
    [failure] = report.failures
    assert (failure.system, failure.state, failure.count) == ("gateway", "refused", 1)
    assert sum(report.pace) == 5
    assert [line.refund_id for line in report.for_people] == ["all_ask_00001"]
    assert {each.name for each in report.systems} >= {"gateway", "crm", "notices", "logistics"}
    kinds = [key.rpartition("-")[2] for key, _ in prefect_runs.artifacts]
    assert {"progress", "table", "report"} <= set(kinds)
    assert len(notices(world)) == 1
    assert last(world).notice_state == "succeeded"


def test_a_report_does_not_change_and_is_not_sent_again(world: World) -> None:
    wanted = mixed(world, "same")
    carried(world, wanted)
    first = last(world)
    prefect_runs = world.carry(batches.night_id(world.night))
    assert batches.open_night(world.ledger, world.night, 1).edition == 1
    assert last(world) == first
    assert sent_again(world) == 0
    assert len(notices(world)) == 1
    assert not [key for key, _ in prefect_runs.artifacts if key.endswith(("table", "report"))]


def test_what_comes_in_after_the_report_is_in_a_second_one(world: World) -> None:
    carried(world, world.requests(2, "first"))
    world.carry(world.opened_again(world.requests(1, "second")))
    assert (last(world).edition, last(world).facts["asked"]["count"]) == (2, 3)
    kept = nights.latest(world.ledger, batches.night_id(world.night), 1)
    assert kept is not None
    assert kept.facts["asked"]["count"] == 2


def test_a_notice_whose_answer_was_lost_is_asked_for_and_not_sent_again(world: World) -> None:
    night = world.opened_night()
    lost = {"endpoint": "POST /notices/v1/messages", "kind": "timeout_after", "seconds": 1}
    world.faults({**lost, "times": 1})
    world.carry(night)
    assert last(world).notice_state in ("unknown", "succeeded")
    world.faults()
    sent_again(world)
    assert last(world).notice_state == "succeeded"
    assert len(notices(world)) == 1


def test_a_notice_for_which_nobody_is_there_is_sent_by_the_sweep(world: World) -> None:
    world.faults({"endpoint": "POST /notices/v1/messages", "kind": "unauthorized", "times": None})
    world.carry(world.opened_night())
    assert last(world).is_due
    world.faults()
    assert sent_again(world) == 1
    assert last(world).notice_state == "succeeded"


def test_two_who_send_at_the_same_time_send_once(world: World) -> None:
    world.faults({"endpoint": "POST /notices/v1/messages", "kind": "unauthorized", "times": None})
    world.carry(world.opened_night())
    [due] = nights.to_send(world.ledger)
    assert nights.claim_notice(world.ledger, due) is not None
    assert nights.claim_notice(world.ledger, due) is None
    assert nights.to_send(world.ledger) == []


def test_the_sheet_runs_nothing_in_a_spreadsheet(world: World) -> None:
    wanted = world.requests(2, "csv", customer_id='=HYPERLINK("http://x")', requested_by="eve")
    carried(world, wanted)
    rows = list(csv.DictReader(io.StringIO(nights.sheet_of(world.ledger, last(world)).decode())))
    assert [row["refund"] for row in rows] == ["csv_00001", "csv_00002"]
    assert {row["customer"] for row in rows} == {'\'=HYPERLINK("http://x")'}
    assert {(row["amount"], row["currency"]) for row in rows} == {("100.00", "USD")}


def test_a_night_that_nobody_had_is_named(world: World) -> None:
    assert world.states() == {}
    with pytest.raises(BadInput, match="no night yet"):
        overnight.kept(None)
    with pytest.raises(BadInput, match="no night '2001-01-01'"):
        overnight.kept("2001-01-01")
    world.opened_night()
    with pytest.raises(BadInput, match="not over yet"):
        overnight.kept(None)
