"""Who looked and who decided is on record: from where, on what digest, under which policy."""

from datetime import timedelta

import pytest

from refunds.errors import ApproverRefused, UnknownRefund
from refunds.ledger import audit, history
from refunds.origin import Origin
from tests.ledger.ledger_desk import Desk

PHONE = Origin.of("service", "192.0.2.7", "Phone/1")
FACTS = {"facts": {"policy_version": "7+abc"}}


def test_who_opened_a_page_is_recorded_once_for_each_digest_and_place(desk: Desk) -> None:
    runner = desk.asked()
    looks = [("mia", PHONE, "d1"), ("mia", PHONE, "d1"), ("mia", PHONE, "d2"), ("noa", PHONE, "d1")]
    news = [audit.saw(desk.ledger, runner.refund_id, *look) for look in looks]
    assert news == [True, False, True, True]
    assert desk.events(runner.refund_id).count(audit.SEEN) == 3
    seen = history.read(desk.ledger, runner.refund_id)[-1]
    assert seen["data"] == {"person": "noa", "origin": PHONE.plain(), "digest": "d1"}


def test_a_look_at_what_does_not_exist_is_an_error(desk: Desk) -> None:
    with pytest.raises(UnknownRefund):
        audit.saw(desk.ledger, "rf_nobody", "mia", PHONE, None)


def test_a_decision_says_from_where_on_what_and_under_which_policy(desk: Desk) -> None:
    runner = desk.asked(**FACTS)
    place = {"channel": "service", "ip": "192.0.2.7", "user_agent": "Phone/1"}
    desk.decide(runner, "approve", digest="as-asked", **place)
    (told,) = [
        event["data"]
        for event in history.read(desk.ledger, runner.refund_id)
        if event["event"] == "decision.recorded"
    ]
    assert {name: told[name] for name in place} == place
    assert (told["digest"], told["seen"], told["policy_version"]) == (
        "as-asked",
        "as-asked",
        "7+abc",
    )


def test_a_refused_attempt_says_who_tried_from_where_and_why(desk: Desk) -> None:
    runner = desk.asked(**FACTS)
    with pytest.raises(ApproverRefused):
        desk.decide(runner, "approve", "sam", digest="as-asked", ip="192.0.2.7")
    told = history.read(desk.ledger, runner.refund_id)[-1]["data"]
    assert "asked for this refund" in told["why"]
    assert (told["person"], told["origin"]["ip"]) == ("sam", "192.0.2.7")
    assert (told["digest"], told["asked"], told["policy_version"]) == (
        "as-asked",
        "as-asked",
        "7+abc",
    )


def test_what_a_client_says_of_itself_is_kept_short_and_clean() -> None:
    origin = Origin.of("service", "1" * 99, "evil\r\n\x1b[31m" + "x" * 999)
    assert (len(origin.ip), len(origin.user_agent)) == (64, 256)
    assert origin.user_agent.isprintable()


def test_an_export_is_whole_in_order_and_from_a_time_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners = [desk.asked() for _ in range(3)]
    monkeypatch.setattr(audit, "_EVENTS_AT_ONCE", 2)
    ids = {runner.refund_id for runner in runners}
    exported = [event for event in audit.export(desk.ledger) if event["refund_id"] in ids]
    read = [event for one in sorted(ids) for event in history.read(desk.ledger, one)]
    assert exported == read
    desk.clock.advance(60)
    desk.decide(runners[0], "approve")
    later = list(audit.export(desk.ledger, desk.clock() - timedelta(seconds=1)))
    assert {event["refund_id"] for event in later} == {runners[0].refund_id}
    assert "decision.recorded" in {event["event"] for event in later}
