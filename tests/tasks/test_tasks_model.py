"""One opinion a round: in the ledger before it is used, and never a reason to stop a refund."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refunds import policy, prompt
from refunds.digests import digest
from refunds.errors import NeedsAttention
from refunds.ledger import effects, history
from refunds.models import Advice, Case, NoOpinion, Opinion, Usage, Verdict
from refunds.policy_file import DEFAULT_POLICY_FILE
from refunds.settings import settings
from tasks import books, chat, model, risk, secrets
from tests.tasks.model_server import FINE, ModelServer, Said, asked_by_us, completion
from tests.tasks.tasks_world import World

KEY = "sk-model-4711"


@pytest.fixture
def server(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A model's server that the settings name."""
    monkeypatch.setenv("REFUNDS_MODEL_KEY", KEY)
    with asked_by_us(monkeypatch) as server:
        yield server
        world.run(chat.close())


@pytest.fixture
def under(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], None]:
    """Puts a policy in force that differs from the default in one piece of its text."""

    def change(old: str, new: str) -> None:
        text = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
        assert old in text
        (tmp_path / "policy.toml").write_text(text.replace(old, new), encoding="utf-8")
        monkeypatch.setenv("REFUNDS_POLICY", str(tmp_path / "policy.toml"))
        settings.cache_clear()

    return change


@pytest.fixture
def impatient(under: Callable[[str, str], None]) -> None:
    under("answer_within_seconds = 30", "answer_within_seconds = 1")


def opinion(world: World, case: Case) -> Advice:
    found: Advice = world.run(model.ask_opinion.fn(case, risk.read_risk(case)))
    return found


def missing(world: World, case: Case) -> str:
    """Why there is no opinion; the rules then send an approval to a person."""
    found = opinion(world, case)
    assert isinstance(found, NoOpinion)
    assert found.prompt_version == prompt.VERSION
    assessment = policy.assess(case, risk.read_risk(case), books.policy(), found)
    assert assessment.verdict is Verdict.REVIEW
    return found.missing


def reviewed(world: World) -> Case:
    """A case of which the rules approve."""
    return world.running(paid_minor=1_000, amount_minor=1_000)


def test_an_opinion_carries_model_prompt_tokens_and_cost(world: World, server: ModelServer) -> None:
    case = reviewed(world)
    found = opinion(world, case)
    assert found == Opinion(
        **FINE,
        model="reader-1",
        prompt_version=prompt.VERSION,
        asked_digest=digest(server.questions()[0]),
        # 1,000 tokens at $0.40 and 50 at $1.60 for a million: 480 millionths of a dollar.
        usage=Usage(input_count=1_000, output_count=50, cost_micro=480, currency="USD"),
    )
    assert server.keys == [f"Bearer {KEY}"]
    assert server.asked[0]["model"] == "reader-1"
    assert server.asked[0]["response_format"]["type"] == "json_schema"
    assert server.asked[0]["messages"][0] == {"role": "system", "content": prompt.INSTRUCTIONS}


def test_an_opinion_in_the_ledger_is_not_asked_for_again(
    world: World, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = reviewed(world)
    first = opinion(world, case)
    server.behave = lambda _: Said.answer(recommendation="reject")
    monkeypatch.setenv("REFUNDS_MODEL_NAME", "another")
    settings.cache_clear()
    assert opinion(world, case) == first
    monkeypatch.delenv("REFUNDS_MODEL_URL")
    settings.cache_clear()
    assert opinion(world, case) == first
    assert len(server.asked) == 1
    key = f"{case.refund_id}:ask_opinion:1"
    events = [
        e["event"] for e in history.read(world.ledger, case.refund_id) if "effect" in e["event"]
    ]
    assert events == ["effect.intended", "effect.succeeded"]
    assert first is not None
    assert world.effect(key).response == first.plain()


def test_a_new_round_is_a_new_question(world: World, server: ModelServer) -> None:
    case = reviewed(world)
    opinion(world, case)
    opinion(world, case.model_copy(update={"round": 2}))
    assert len(server.asked) == 2


def test_a_crash_before_the_answer_asks_again_even_with_another_prompt(
    world: World, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = reviewed(world)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(effects, "record", crash)
        with pytest.raises(KeyboardInterrupt):
            opinion(world, case)
    monkeypatch.setenv("REFUNDS_MODEL_NAME", "another")
    settings.cache_clear()
    found = opinion(world, case)
    assert isinstance(found, Opinion)
    assert found.model == "another"
    assert world.effect(f"{case.refund_id}:ask_opinion:1").sends == 2


def test_what_the_rules_reject_reaches_no_model(world: World, server: ModelServer) -> None:
    case = world.running(refund_to="card_of_another")
    assert opinion(world, case) is None
    assert server.asked == []
    assert effects.of_refund(world.ledger, case.refund_id) == []


def test_a_policy_that_wants_no_opinion_gets_none(
    world: World, server: ModelServer, under: Callable[[str, str], None]
) -> None:
    under('asked_about = ["APPROVE", "REVIEW"]', "asked_about = []")
    assert opinion(world, reviewed(world)) is None
    assert server.asked == []


@pytest.mark.parametrize("field", ["message", "reason"])
def test_hidden_text_is_noticed_whatever_the_model_says(
    world: World, server: ModelServer, field: str
) -> None:
    case = world.running(paid_minor=1_000, **{field: "Fine.\U000e0041\U000e0042"})
    found = opinion(world, case)
    assert isinstance(found, Opinion)
    assert found.signals == ("hidden_text",)
    assessment = policy.assess(case, risk.read_risk(case), books.policy(), found)
    assert assessment.verdict is Verdict.REVIEW


# --- Every way not to answer ---


_TEXT = json.dumps(FINE)
_ENDINGS: dict[str, tuple[Said, str]] = {
    "not_json": (Said(body=b"<html>"), "its reply is not a chat completion"),
    "no_choices": (Said.json({"choices": []}), "its reply is not a chat completion"),
    "a_list": (Said.json([1]), "its reply is not a chat completion"),
    "null": (Said(body=b"null"), "its reply is not a chat completion"),
    "nothing": (Said(body=b""), "its reply is not a chat completion"),
    "deep": (Said(body=b"[" * 50_000), "its reply is not a chat completion"),
    "empty": (Said.json(completion(" ")), "its answer is empty"),
    "absent": (Said.json(completion(None)), "its answer is empty"),
    "refusal": (Said.json(completion(None, refusal="I cannot.")), "it refused to answer"),
    "cut_off": (Said.json(completion(_TEXT, finish_reason="length")), "its answer was cut off"),
    "filtered": (
        Said.json(completion(_TEXT, finish_reason="content_filter")),
        "its answer was filtered",
    ),
    "prose": (Said.json(completion("I would approve it.")), "its answer holds no JSON object"),
    "absurd": (Said.answer(confidence_percent=700), "its answer has a wrong confidence_percent"),
    "invented": (Said.answer(recommendation="pay"), "its answer has a wrong recommendation"),
    "more_than_asked": (Said.answer(amount_minor=10**9), "its answer has a wrong form"),
    "endless_answer": (Said.answer(reasons=["x" * 50_000]), "its answer has 50,0"),
    "endless_reply": (Said.answer(reasons=["x" * 1_000_000]), "its reply has 1,000,"),
    "wrong_key": (Said.json({}, 401), "it does not take the key (401)"),
    "forbidden": (Said.json({}, 403), "it does not let us in (403)"),
    "unknown_model": (Said.json({}, 404), "it does not know the model"),
    "teapot": (Said.json({}, 418), "it answered 418"),
    "refuses_everything": (Said.json({}, 400), "it answered 400"),
    "busy": (Said.json({}, 429, retry_after_ms="1"), "it asks to send less (429)"),
    "broken": (Said.json({}, 500, retry_after_ms="1"), "it answered 500"),
    "away": (Said.json({}, 503, retry_after_ms="1"), "it answered 503"),
}


@pytest.mark.parametrize("name", _ENDINGS)
def test_each_way_not_to_answer_is_no_opinion_with_its_reason(
    world: World, server: ModelServer, name: str
) -> None:
    said, why = _ENDINGS[name]
    server.behave = lambda _: said
    case = reviewed(world)
    assert missing(world, case).startswith(why)
    # It is kept like an opinion, and asked for no more.
    asked = len(server.asked)
    assert asked <= 3
    assert missing(world, case).startswith(why)
    assert len(server.asked) == asked


def test_a_slow_answer_is_none(world: World, server: ModelServer, impatient: None) -> None:
    gate = threading.Event()
    server.behave = lambda _: Said(hold=gate.wait)
    assert missing(world, reviewed(world)) == "no answer within 1 s"
    gate.set()


def test_a_long_pause_that_a_server_asks_for_is_not_waited_out(
    world: World, server: ModelServer, impatient: None
) -> None:
    server.behave = lambda _: Said.json({}, 429, Retry_After="30")
    assert missing(world, reviewed(world)) == "no answer within 1 s"
    assert len(server.asked) == 1


def test_nobody_at_the_address_is_no_opinion(
    world: World, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUNDS_MODEL_URL", "http://127.0.0.1:9/v1")
    settings.cache_clear()
    assert missing(world, reviewed(world)) == "it is not reachable"


def test_what_a_useless_answer_cost_is_kept(world: World, server: ModelServer) -> None:
    server.behave = lambda _: Said.json(completion("Hm."))
    found = opinion(world, reviewed(world))
    assert isinstance(found, NoOpinion)
    assert found.usage is not None
    assert found.usage.cost_micro == 480


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": -1, "completion_tokens": 0}, "many", {"prompt_tokens": 1}]
)
def test_an_opinion_counts_without_a_count_of_tokens(
    world: World, server: ModelServer, usage: Any
) -> None:
    server.behave = lambda _: Said.json(completion(_TEXT, usage=usage))
    found = opinion(world, reviewed(world))
    assert isinstance(found, Opinion)
    assert found.usage is None


# --- Servers that know less ---


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("known", ["json_object", None])
def test_a_server_without_structured_output_is_asked_in_the_way_it_knows(
    world: World, server: ModelServer, status: int, known: str | None
) -> None:
    def behave(asked: dict[str, Any]) -> Said:
        kind = asked.get("response_format", {}).get("type")
        return Said.answer() if kind == known else Said.json({}, status)

    server.behave = behave
    assert isinstance(opinion(world, reviewed(world)), Opinion)
    refused = len(server.asked) - 1
    assert refused == (1 if known else 2)
    assert isinstance(opinion(world, reviewed(world)), Opinion)
    assert len(server.asked) == refused + 2


def test_a_busy_moment_is_tried_again(world: World, server: ModelServer) -> None:
    answers = iter([Said.json({}, 503, retry_after_ms="1"), Said.answer()])
    server.behave = lambda _: next(answers)
    assert isinstance(opinion(world, reviewed(world)), Opinion)


# --- Many at once ---


def test_no_more_questions_are_under_way_than_the_settings_allow(
    world: World, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUNDS_MODEL_AT_ONCE", "3")
    settings.cache_clear()
    model._gates.clear()
    all_in, lock = threading.Event(), threading.Lock()
    under_way, most = 0, 0

    def behave(_: dict[str, Any]) -> Said:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 3:
                all_in.set()
        all_in.wait()
        with lock:
            under_way -= 1
        return Said.answer()

    server.behave = behave
    cases = [reviewed(world) for _ in range(9)]

    async def all_of_them() -> list[Advice]:
        asking = (model.opinion_of(c, risk.read_risk(c)) for c in cases)
        return list(await asyncio.gather(*asking))

    assert all(isinstance(found, Opinion) for found in world.run(all_of_them()))
    assert (len(server.asked), most) == (9, 3)
    model._gates.clear()


# --- The key ---


def test_no_key_of_the_environment_is_sent_to_a_server_that_has_none(
    world: World, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFUNDS_MODEL_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    settings.cache_clear()
    opinion(world, reviewed(world))
    assert server.keys == ["Bearer none"]


def test_the_key_is_not_in_what_the_ledger_keeps(world: World, server: ModelServer) -> None:
    server.behave = lambda _: Said.json({"error": {"message": f"bad key {KEY}"}}, 401)
    case = reviewed(world)
    missing(world, case)
    kept = json.dumps(history.read(world.ledger, case.refund_id)) + str(
        effects.of_refund(world.ledger, case.refund_id)
    )
    assert KEY not in kept


def test_a_block_that_cannot_be_had_is_no_opinion(
    world: World, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def absent(_name: str) -> str:
        raise NeedsAttention("Prefect has no Secret block 'model'")

    monkeypatch.setattr(secrets, "secret", absent)
    assert missing(world, reviewed(world)) == "Prefect has no Secret block 'model'"
    assert server.asked == []
