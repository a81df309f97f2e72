"""Who may approve and who may reject: each rule, one by one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refunds.approver_rules import ApproverRules
from refunds.authority import Claim, Person, Question, may_not_approve, may_not_reject

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
LIMIT = {"USD": 1_000}


def person(person_id: str = "mia", **fields: Any) -> Person:
    named = {"person_id": person_id, "name": person_id.title(), "limits": LIMIT}
    return Person.model_validate(named | fields)


def away(person_id: str = "mia", delegate_to: str = "noa", **fields: Any) -> Person:
    day = timedelta(days=1)
    leave = {"away_from": NOW - day, "away_until": NOW + day, "delegate_to": delegate_to}
    return person(person_id, **leave, **fields)


def question(**fields: Any) -> Question:
    asked: dict[str, Any] = {
        "amount_minor": 1_000,
        "currency": "USD",
        "requester": "sam",
        "customer": "ada",
        "people_needed": 1,
        "verified_needed": False,
        "audiences": frozenset({"refund-approvers", "finance-leads"}),
        "rules": ApproverRules(limit_minor=500),
    }
    return Question(**asked | fields)


def claim(who: Person | str = "kim", *, of: Person | str | None = None, **fields: Any) -> Claim:
    """A registered person's claim, or that of a name that nobody registered."""
    given: dict[str, Any] = {
        "name": who if isinstance(who, str) else who.person_id,
        "channel": "service",
        "verified": True,
        "person": None if isinstance(who, str) else who,
        "principal": of if isinstance(of, Person) else None,
        "on_behalf_of": of.person_id if isinstance(of, Person) else of,
    }
    return Claim(**given | fields)


def approves(given: Claim, *, anyone_registered: bool = True, **fields: Any) -> str | None:
    return may_not_approve(question(**fields), given, NOW, anyone_registered=anyone_registered)


def rejects(given: Claim, *, anyone_registered: bool = True, **fields: Any) -> str | None:
    return may_not_reject(question(**fields), given, NOW, anyone_registered=anyone_registered)


def test_a_registered_approver_approves_up_to_their_limit_and_no_further() -> None:
    assert approves(claim(person())) is None
    refused = approves(claim(person()), amount_minor=1_001)
    assert refused == "$10.01 is above the $10.00 that mia may approve"


def test_without_a_limit_of_their_own_the_policys_holds() -> None:
    assert approves(claim(person(limits={})), amount_minor=500) is None
    assert approves(claim(person(limits={"EUR": 9_999})), amount_minor=501) is not None
    assert approves(claim(person(limits={"USD": 0})), amount_minor=1) is not None


@pytest.mark.parametrize("role", ["approver", "refund-approvers", "finance-leads"])
def test_a_role_of_any_level_may_answer(role: str) -> None:
    assert approves(claim(person(roles=[role]))) is None


@pytest.mark.parametrize("roles", [[], ["auditor"], ["approvers"]])
def test_without_such_a_role_nobody_answers(roles: list[str]) -> None:
    found = person(roles=roles)
    assert "no role" in str(approves(claim(found)))
    assert "no role" in str(rejects(claim(found)))


def test_who_left_decides_nothing() -> None:
    assert "not an active approver" in str(approves(claim(person(is_active=False))))
    assert "not an active approver" in str(rejects(claim(person(is_active=False))))


@pytest.mark.parametrize(
    "requester", ["mia", "MIA", "Mia Wu", "mia@example.com", "\uff2d\uff29\uff21@EXAMPLE.com"]
)
def test_nobody_approves_their_own_request_under_any_of_their_names(requester: str) -> None:
    mia = person(name="Mia Wu", contact="mia@example.com")
    assert "asked for this refund" in str(approves(claim(mia), requester=requester))
    assert "asked for this refund" in str(approves(claim(mia), customer=requester))
    assert rejects(claim(mia), requester=requester) is None


def test_a_delegate_does_not_approve_what_either_of_both_asked_for() -> None:
    given = claim(person("noa"), of=away())
    assert approves(given) is None
    for requester in ("mia", "noa"):
        assert "asked for this refund" in str(approves(given, requester=requester))


def test_a_delegate_has_the_smaller_of_both_limits() -> None:
    small, large = {"USD": 700}, {"USD": 9_000}
    for his, hers in ((small, large), (large, small)):
        given = claim(person("noa", limits=his), of=away(limits=hers))
        assert approves(given, amount_minor=700) is None
        assert approves(given, amount_minor=701) is not None


def test_a_delegate_acts_in_the_role_of_whom_they_act_for() -> None:
    auditor = person("noa", roles=["auditor"])
    assert approves(claim(auditor)) is not None
    assert approves(claim(auditor, of=away())) is None
    assert approves(claim(person("noa"), of=away(roles=["auditor"]))) is not None


@pytest.mark.parametrize(
    ("principal", "why"),
    [
        (person(), "is not away now"),
        (away(delegate_to="eve"), "named eve, not noa"),
        (away(is_active=False), "nobody acts for them"),
        ("stranger", "nobody acts for them"),
        (
            person(away_from=NOW - timedelta(days=2), away_until=NOW, delegate_to="noa"),
            "is not away now",
        ),
    ],
    ids=["here", "another delegate", "left", "unknown", "back this moment"],
)
def test_nobody_acts_for_somebody_who_did_not_ask_them_to(
    principal: Person | str, why: str
) -> None:
    given = claim(person("noa"), of=principal)
    assert why in str(approves(given))
    assert why in str(rejects(given))


def test_where_nobody_is_registered_a_name_counts_as_its_door_knows_it() -> None:
    kim = claim("kim")
    assert approves(kim, anyone_registered=False, people_needed=2, verified_needed=True) is None
    typed = claim("kim", verified=False, channel="prefect-ui")
    assert approves(typed, anyone_registered=False) is None
    refused = approves(typed, anyone_registered=False, verified_needed=True)
    assert "prefect-ui only knows a name that was typed" in str(refused)


def test_once_anybody_is_registered_a_strange_name_counts_only_where_a_typed_one_does() -> None:
    assert approves(claim("kim")) is None
    for more in ({"verified_needed": True}, {"people_needed": 2}):
        assert "kim is not a registered approver" in str(approves(claim("kim"), **more))
    assert rejects(claim("kim"), verified_needed=True) is None


def test_where_the_policy_says_so_only_registered_names_count_from_the_first_day() -> None:
    strict = ApproverRules(registered_only=True)
    for anyone in (False, True):
        for asks in (approves, rejects):
            refused = asks(claim("kim"), anyone_registered=anyone, rules=strict)
            assert "not a registered approver" in str(refused)
    assert rejects(claim("sam"), rules=strict) is None


def test_a_registered_name_that_was_only_typed_is_not_enough_for_a_large_amount() -> None:
    typed = claim(person(), verified=False)
    assert approves(typed) is None
    assert "identity is checked" in str(approves(typed, verified_needed=True))


def test_who_proposed_an_amount_approves_it_only_where_the_policy_lets_them() -> None:
    for allowed in (True, False):
        rules = ApproverRules(limit_minor=5_000, proposer_may_approve=allowed)
        refused = approves(claim(person()), rules=rules, proposer="MIA")
        assert (refused is None) is allowed
        delegate = approves(claim(person("noa"), of=away()), rules=rules, proposer="mia")
        assert (delegate is None) is allowed
