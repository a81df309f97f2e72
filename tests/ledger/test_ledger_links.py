"""A signed link is good for its person, its question, its time, and one decision."""

import stat
from datetime import timedelta

import pytest

from refunds import links
from refunds.errors import Conflict, DigestStale, LinkRefused
from refunds.ledger import spent_links
from refunds.links import Link
from refunds.settings import settings
from tests.ledger.ledger_desk import Desk, Runner, at_once


def link_for(
    desk: Desk, runner: Runner, person: str = "mia", asked_digest: str = "as-asked"
) -> Link:
    """A link as a card carries it, read back."""
    until = desk.clock() + timedelta(hours=24)
    token = links.sign(runner.refund_id, person, asked_digest, until)
    return links.read(token, desk.clock())


def test_a_link_leads_its_person_to_one_decision(desk: Desk) -> None:
    runner = desk.asked(people_needed=2)
    link = link_for(desk, runner)
    spent_links.check(desk.ledger, link, runner.refund_id, "MIA")
    assert desk.decide(runner, "approve", link=link).status == "open"
    with pytest.raises(LinkRefused, match="used already"):
        spent_links.check(desk.ledger, link, runner.refund_id, "mia")


def test_a_double_click_is_one_decision(desk: Desk) -> None:
    runner = desk.asked(people_needed=2)
    link = link_for(desk, runner)
    votes = at_once(*[lambda: desk.decide(runner, "approve", link=link)] * 2)
    assert [vote.status for vote in votes] == ["open", "open"]
    assert desk.events(runner.refund_id).count("decision.recorded") == 1


def test_a_link_of_somebody_else_or_of_another_refund_leads_nowhere(desk: Desk) -> None:
    runner, other = desk.asked(), desk.asked()
    for link, why in (
        (link_for(desk, runner, "noa"), "somebody else"),
        (link_for(desk, other), "another refund"),
    ):
        with pytest.raises(LinkRefused, match=why):
            spent_links.check(desk.ledger, link, runner.refund_id, "mia")
        with pytest.raises(LinkRefused, match=why):
            desk.decide(runner, "approve", "mia", link=link)
    assert desk.standing(runner).status == "open"
    assert desk.events(runner.refund_id).count("decision.refused") == 2


def test_a_link_to_a_question_that_was_put_anew_is_stale(desk: Desk) -> None:
    runner = desk.asked()
    with pytest.raises(DigestStale):
        desk.decide(runner, "approve", link=link_for(desk, runner, asked_digest="as-it-was"))


def test_a_link_expires_with_its_question(desk: Desk) -> None:
    token = links.sign("rf_1", "mia", "d", desk.clock() + timedelta(hours=1))
    desk.clock.advance(3_599)
    assert links.read(token, desk.clock()).person == "mia"
    desk.clock.advance(1)
    with pytest.raises(LinkRefused, match="expired"):
        links.read(token, desk.clock())


def test_a_link_that_was_changed_in_any_character_is_refused(desk: Desk) -> None:
    token = links.sign("rf_1", "mia", "d", desk.clock() + timedelta(hours=1))
    # The last character of a base64 part may hold bits that mean nothing.
    for position in range(len(token) - 1):
        changed = "B" if token[position] == "A" else "A"
        forged = token[:position] + changed + token[position + 1 :]
        with pytest.raises(LinkRefused):
            links.read(forged, desk.clock())
    for nonsense in ("", ".", "a.b", "é" * 9, token + ".x", "x" * 10_000_000):
        with pytest.raises(LinkRefused):
            links.read(nonsense, desk.clock())


def test_a_link_signed_with_another_secret_or_for_another_use_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = links.sign("rf_1", "mia", "d", desk.clock() + timedelta(hours=1))
    monkeypatch.setattr(links, "_SALT", "session")
    with pytest.raises(LinkRefused):
        links.read(token, desk.clock())


def test_a_secret_is_replaced_without_breaking_the_links_on_their_way(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(secret: str) -> None:
        monkeypatch.setenv("REFUNDS_LINK_SECRET", secret)
        settings.cache_clear()

    use("old")
    token = links.sign("rf_1", "mia", "d", desk.clock() + timedelta(hours=1))
    use("new, old")
    assert links.read(token, desk.clock()).person == "mia"
    newer = links.sign("rf_1", "mia", "d", desk.clock() + timedelta(hours=1))
    use("new")
    assert links.read(newer, desk.clock()).person == "mia"
    with pytest.raises(LinkRefused):
        links.read(token, desk.clock())


def test_the_same_facts_make_the_same_link_and_nobody_else_reads_the_secret(desk: Desk) -> None:
    until = desk.clock() + timedelta(hours=1)
    assert links.sign("rf_1", "mia", "d", until) == links.sign("rf_1", "mia", "d", until)
    key = settings().home_dir / "link.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert list(key.parent.iterdir()) == [key]


def test_a_link_does_not_help_who_may_not_decide(desk: Desk) -> None:
    runner = desk.asked()
    with pytest.raises(Conflict, match="asked for this refund"):
        desk.decide(runner, "approve", "sam", link=link_for(desk, runner, "sam"))
