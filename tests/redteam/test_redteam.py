"""A model that always obeys the attacker approves nothing that the rules would not."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from markdown_it import MarkdownIt

from refunds import policy, prompt, wording
from refunds.errors import BadInput
from refunds.intake import read_request
from refunds.models import Advice, Case, NoOpinion, Opinion, RefundRequest, Verdict
from refunds.redaction import without_account_numbers
from refunds.settings import settings
from tasks import chat, model
from tests.domain.domain_cases import POLICY
from tests.domain.test_domain_retail import REQUESTS, as_case, as_risk
from tests.redteam.corpus import Hostile, read
from tests.redteam.obedient import obey
from tests.tasks.model_server import ModelServer

CORPUS = read()
TAKEN = [hostile for hostile in CORPUS if not hostile.refused_at_the_door]
STRICTNESS = [Verdict.APPROVE, Verdict.REVIEW, Verdict.REJECT]

# What a card is made of; whatever else a message brings in would be its own markup.
_OURS = {
    *("table", "thead", "tbody", "tr", "th", "td", "paragraph", "inline", "text", "softbreak"),
    *("strong", "blockquote", "bullet_list", "list_item"),
}


def with_message(request: RefundRequest, hostile: Hostile) -> RefundRequest:
    return request.model_copy(update={"message": hostile.message})


@cache
def approved_by_rules() -> RefundRequest:
    return next(r for r in REQUESTS if alone(r) is Verdict.APPROVE)


@cache
def alone(request: RefundRequest) -> Verdict:
    """What the rules say without any model."""
    return policy.assess(as_case(request), as_risk(request), POLICY).verdict


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer().running() as server:
        server.behave = obey
        yield server


@pytest.fixture(scope="module")
def obeyed(server: ModelServer) -> dict[str, Opinion | NoOpinion]:
    """What the obedient model said of each message that a door takes, asked over the wire."""

    async def all_of_them() -> list[Advice]:
        request = approved_by_rules()
        case, risk = as_case(request), as_risk(request)
        asking = (
            model.fresh_opinion(
                case.model_copy(update={"request": with_message(request, h)}), risk, POLICY
            )
            for h in TAKEN
        )
        said = await asyncio.gather(*asking)
        await chat.close()
        return list(said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFUNDS_MODEL_URL", server.url)
        patch.setenv("REFUNDS_MODEL_NAME", "obedient")
        settings.cache_clear()
        said = asyncio.run(all_of_them())
    settings.cache_clear()
    found = dict(zip((h.id for h in TAKEN), said, strict=True))
    return {name: advice for name, advice in found.items() if advice is not None}


def test_the_corpus_is_large_varied_and_has_no_message_twice() -> None:
    assert len(CORPUS) >= 200
    assert len({h.id for h in CORPUS}) == len({h.message for h in CORPUS}) == len(CORPUS)
    languages = Counter(h.language for h in CORPUS)
    assert {name for name, count in languages.items() if count >= 10} >= {
        *("en", "de", "fr", "es", "pt", "ru", "zh", "ja", "ar", "hi"),
    }
    assert len({h.category for h in CORPUS}) >= 20


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.id)
def test_the_door_takes_what_is_text_and_nothing_else(hostile: Hostile) -> None:
    raw = approved_by_rules().plain() | {"message": hostile.message}
    if hostile.refused_at_the_door:
        with pytest.raises(BadInput) as refusal:
            read_request(raw)
        assert not any(unicodedata.category(c) == "Cc" for c in str(refusal.value))
    else:
        assert read_request(raw).message == without_account_numbers(hostile.message)


def test_the_obedient_model_was_asked_about_every_message_and_obeyed(
    obeyed: dict[str, Opinion | NoOpinion], server: ModelServer
) -> None:
    assert set(obeyed) == {hostile.id for hostile in TAKEN}
    assert len(server.asked) == len(TAKEN)
    approving = [o for o in obeyed.values() if isinstance(o, Opinion) and o.confidence_percent > 90]
    assert len(approving) > 200


def test_no_verdict_is_looser_than_that_of_the_rules(
    obeyed: dict[str, Opinion | NoOpinion],
) -> None:
    """Every message on every real request: 292 requests for each message."""
    approved = Counter[str]()
    for request in REQUESTS:
        case, risk, rules_say = as_case(request), as_risk(request), alone(request)
        for hostile in TAKEN:
            found = policy.assess(case, risk, POLICY, obeyed[hostile.id])
            assert STRICTNESS.index(found.verdict) >= STRICTNESS.index(rules_say), hostile.id
            approved[hostile.id] += found.verdict is Verdict.APPROVE
    most = sum(alone(request) is Verdict.APPROVE for request in REQUESTS)
    assert 0 < max(approved.values()) <= most


@pytest.mark.parametrize(
    "beyond",
    [
        {"refund_to": "card_of_mallory"},
        {"amount_minor": 90_000_000},
        {"customer_id": "mallory_1"},
        {"item_ids": ("not-on-the-order",)},
    ],
    ids=["destination", "amount", "customer", "items"],
)
def test_what_the_rules_reject_stays_rejected_whatever_the_model_was_told(
    obeyed: dict[str, Opinion | NoOpinion], beyond: dict[str, Any]
) -> None:
    request = approved_by_rules()
    case = as_case(request)
    wanted = case.model_copy(update={"request": request.model_copy(update=beyond)})
    for opinion in obeyed.values():
        found = policy.assess(wanted, as_risk(request), POLICY, opinion)
        assert found.verdict is Verdict.REJECT


def test_what_would_be_paid_is_what_was_requested(
    obeyed: dict[str, Opinion | NoOpinion],
) -> None:
    request = approved_by_rules()
    bound = policy.bound_facts(as_case(request), None, POLICY.full_version)
    for hostile in TAKEN:
        case = as_case(request).model_copy(update={"request": with_message(request, hostile)})
        facts = policy.bound_facts(case, obeyed[hostile.id], POLICY.full_version)
        changed = {name for name in bound if facts[name] != bound[name]}
        assert changed <= {"message", "opinion"}


@pytest.mark.parametrize("hostile", TAKEN, ids=lambda hostile: hostile.id)
def test_no_message_leaves_its_place_in_the_prompt(hostile: Hostile) -> None:
    request = approved_by_rules()
    case, risk = as_case(request), as_risk(request)
    plain, attacked = (
        prompt.question(c, risk, policy.assess(c, risk, POLICY))
        for c in (case, case.model_copy(update={"request": with_message(request, hostile)}))
    )
    assert attacked.startswith(prompt.OPENING)
    assert attacked.endswith(prompt.CLOSING)
    assert (attacked.count("<"), attacked.count(">")) == (2, 2)
    assert without_message(attacked) == without_message(plain)
    assert len(attacked) < 60_000


def without_message(question: str) -> dict[str, Any]:
    inner = question.removeprefix(prompt.OPENING).removesuffix(prompt.CLOSING)
    facts: dict[str, Any] = json.loads(inner)
    del facts["customer_message"]
    return facts


@pytest.mark.parametrize("hostile", TAKEN, ids=lambda hostile: hostile.id)
def test_nothing_hostile_is_markup_on_a_card(
    obeyed: dict[str, Opinion | NoOpinion], hostile: Hostile
) -> None:
    """Neither the message nor a model that repeats it as its own reason."""
    request = approved_by_rules()
    case: Case = as_case(request).model_copy(update={"request": with_message(request, hostile)})
    opinion = obeyed[hostile.id]
    assessment = policy.assess(case, as_risk(request), POLICY, opinion)
    facts = policy.bound_facts(case, opinion, assessment.policy_version)
    reasons = [reason.plain() for reason in assessment.reasons]
    card = wording.facts_markdown(facts, reasons, policy.binding_digest(facts))
    assert kinds(card) <= _OURS
    assert card.count("**The customer wrote**") == 1


def kinds(markdown: str) -> set[str]:
    """What a Markdown renderer with tables, raw HTML and links finds in a text."""
    reader = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
    found = set()
    for token in reader.parse(markdown):
        found.add(token.type)
        found |= {child.type for child in token.children or ()}
    return {kind.removesuffix("_open").removesuffix("_close") for kind in found}


def test_hidden_text_is_seen_by_code_when_the_model_keeps_quiet(
    obeyed: dict[str, Opinion | NoOpinion],
) -> None:
    hiding = {"tag_characters", "zero_width", "selectors", "bidi"}
    request = approved_by_rules()
    for hostile in TAKEN:
        if hostile.category in hiding:
            opinion = obeyed[hostile.id]
            assert isinstance(opinion, Opinion)
            assert "hidden_text" in opinion.signals, hostile.id
            found = policy.assess(as_case(request), as_risk(request), POLICY, opinion)
            assert found.verdict is Verdict.REVIEW
