"""The model's opinion. Off by default: then the rules alone decide.

A model that gives no opinion is no failure of the refund: the reason is kept in place of one,
and what it would have been believed on goes to a person.
"""

import asyncio
import weakref
from collections.abc import Mapping

from prefect import task

from refunds import answer, policy, prompt
from refunds.digests import digest
from refunds.errors import BadInput, NeedsAttention, SystemUnavailable
from refunds.ledger import effects
from refunds.models import Advice, Case, NoOpinion, Opinion, RiskFeatures, Usage, Verdict
from refunds.policy_file import ModelRule, Policy
from refunds.settings import settings
from tasks import books, rounds, secrets, steps
from tasks.effect import Action, perform

_MILLION = 1_000_000

_gates: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
    weakref.WeakKeyDictionary()
)


@task(
    name="ask_opinion",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # No answer is an answer, so that nothing is retried here. The policy ends the question after
    # at most 40 s; the rest is for the ledger.
    timeout_seconds=60,
)
@steps.journaled
async def ask_opinion(case: Case, risk: RiskFeatures) -> Advice:
    """The opinion on a case; None when nobody was asked, NoOpinion when nobody answered."""
    known = rounds.assessment_of(case)
    return await opinion_of(case, risk) if known is None else known.opinion


async def opinion_of(case: Case, risk: RiskFeatures) -> Advice:
    """As `ask_opinion`: asked once a round, and in the ledger before anybody uses it.

    The caller holds the refund's fence. A crash before the answer asks again; one after it does
    not. Of many at once, REFUNDS_MODEL_AT_ONCE are under way.
    """
    known = effects.read(books.ledger(), effects.key_of(case.refund_id, _STEP, case.round))
    if known is not None and known.state == "succeeded":
        return advice_of(known)
    rules = _policy()
    if not is_wanted(case, risk, rules):
        return None
    return advice_of(await perform(question(case, risk, rules)))


def opinions_given(rounds: Mapping[str, int]) -> dict[str, Opinion | NoOpinion]:
    """What was answered already, by refund id, for each refund's round."""
    keys = {
        effects.key_of(refund_id, _STEP, number): refund_id for refund_id, number in rounds.items()
    }
    known = effects.among_keys(books.ledger(), keys)
    return {keys[effect.key]: advice_of(effect) for effect in known if effect.state == "succeeded"}


async def fresh_opinion(case: Case, risk: RiskFeatures, rules: Policy) -> Advice:
    """As `opinion_of` for a case that is only assessed: it is asked each time, and not kept."""
    return await _asked(case, risk, rules) if is_wanted(case, risk, rules) else None


def is_configured() -> bool:
    """Whether there is a model to ask."""
    return bool(settings().model_url)


_STEP = "ask_opinion"


def _policy() -> Policy:
    try:
        return books.policy()
    except BadInput as error:
        raise NeedsAttention(str(error)) from error


def is_wanted(case: Case, risk: RiskFeatures, rules: Policy) -> bool:
    """Whether a model is asked: what the rules reject needs no opinion, and reaches no model."""
    verdict = policy.assess(case, risk, rules).verdict
    return (
        is_configured()
        and verdict is not Verdict.REJECT
        and policy.is_for_the_model(verdict, rules)
    )


def question(case: Case, risk: RiskFeatures, rules: Policy) -> Action:
    """The question as an effect. Its request is the round: what was shown may differ once more.

    A crash between question and answer may be followed by another model, prompt or customer
    history; the opinion says which it was asked with.
    """

    async def send(_key: str) -> dict[str, object]:
        return (await _asked(case, risk, rules)).plain()

    async def ask(_key: str) -> None:
        """A model does not remember what it was asked."""

    request = {"round": case.round}
    return Action(case.refund_id, _STEP, "model", request, send, ask, attempt=case.round)


def advice_of(effect: effects.Effect) -> Opinion | NoOpinion:
    """What came of a question, as the ledger has it."""
    response = effect.response or {}
    kind = NoOpinion if "missing" in response else Opinion
    return kind.model_validate(response)


async def _asked(case: Case, risk: RiskFeatures, rules: Policy) -> Opinion | NoOpinion:
    # Half a second of every start, which a shop without a model does not pay.
    from tasks import chat  # noqa: PLC0415 - for the reason above

    rule = rules.model
    if rule is None:
        raise NeedsAttention("the policy has no [model] section, so that nothing may be asked")
    shown = prompt.question(case, risk, policy.assess(case, risk, rules))
    asked = {
        "model": settings().asked_model,
        "prompt_version": prompt.VERSION,
        "asked_digest": digest(shown),
    }
    try:
        key = await secrets.secret("model_key")
        async with _gate():
            reply = await chat.chat(
                prompt.INSTRUCTIONS,
                shown,
                key=key,
                answer_within_seconds=rule.answer_within_seconds,
            )
    except chat.NoReply as error:
        return NoOpinion(missing=error.why, usage=_usage(error.tokens, rule), **asked)
    except (NeedsAttention, SystemUnavailable) as error:
        return NoOpinion(missing=str(error), **asked)
    usage = _usage(reply.tokens, rule)
    try:
        found = answer.read(secrets.without_secrets(reply.text))
    except answer.NotAnAnswer as error:
        return NoOpinion(missing=str(error), usage=usage, **asked)
    request = case.request
    noticed = (*prompt.noticed(request.message), *prompt.noticed(request.reason))
    signals = dict.fromkeys((*noticed, *found.signals))
    return Opinion(
        recommendation=found.recommendation,
        confidence_percent=found.confidence_percent,
        reasons=found.reasons,
        signals=tuple(signals),
        usage=usage,
        **asked,
    )


def _usage(tokens: tuple[int, int] | None, rule: ModelRule) -> Usage | None:
    """The tokens at the policy's prices; a part of a millionth counts as a whole one."""
    if tokens is None:
        return None
    price = tokens[0] * rule.input_price_micro + tokens[1] * rule.output_price_micro
    return Usage(
        input_count=tokens[0],
        output_count=tokens[1],
        cost_micro=-(-price // _MILLION),
        currency=rule.price_currency,
    )


def _gate() -> asyncio.Semaphore:
    loop = asyncio.get_running_loop()
    return _gates.setdefault(loop, asyncio.Semaphore(settings().model_at_once))
