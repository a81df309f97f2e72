"""Approval cards go out; answers given in the Prefect UI come in. The ledger decides."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from prefect import task
from prefect.blocks.abstract import NotificationBlock
from prefect.cache_policies import NO_CACHE

from refunds import links, wording
from refunds.authority import APPROVER, Person, folded, limit_of
from refunds.digests import digest
from refunds.errors import Conflict
from refunds.ledger import approvals, effects, people
from refunds.ledger.approvals import Vote
from refunds.ledger.effects import Effect
from refunds.models import Answer, ApprovalRequest, Case, Decision, Level, Receipt
from refunds.redaction import without_account_numbers
from refunds.settings import settings
from tasks import books, decisions, notifier, runs, steps
from tasks.effect import Action, perform
from tasks.json_systems import creation, receipt
from tasks.records import begin_wait


@task(
    name="send_card",
    cache_key_fn=steps.by_round_and_level,
    persist_result=True,
    # A card that is not sure to have gone out is looked for before it is sent again.
    **steps.QUICK_RETRIES,
    timeout_seconds=90,
)
@steps.journaled
async def send_card(case: Case, approval: ApprovalRequest, level: Level) -> Receipt:  # noqa: ARG001 - the case and its round are the key
    """Tell the approvers of one level what they are asked, with a link to the place to answer."""
    return await send(approval, level)


async def send(approval: ApprovalRequest, level: Level) -> Receipt:
    """Send the card of a level; the caller holds the refund's fence.

    Approvers with a contact get a card of their own, whose link is signed for them.
    """
    sent = await _send_to_all(approval, level)
    for person in recipients(people.listed(books.ledger()), approval, level):
        await perform(personal_card(approval, level, person))
    return receipt(sent)


async def _send_to_all(approval: ApprovalRequest, level: Level) -> Effect:
    """One card for everybody: through the level's messenger, and where that fails to the inbox."""
    if level.block:
        known = effects.read(books.ledger(), notification(approval, level, None).key)
        block = None if known and known.is_final else await notifier.load(level.block)
        told = await perform(notification(approval, level, block))
        if notifier.is_sent(told):
            return told
    return await perform(card(approval, level))


@task(
    name="record_approval",
    # The ledger is asked anew every time.
    cache_policy=NO_CACHE,
    persist_result=False,
    timeout_seconds=60,
)
@steps.journaled
async def record_approval(case: Case, approval: ApprovalRequest, level: Level) -> Answer:
    """What the ledger says of the question, after answers from the Prefect UI were handed to it.

    When nobody has decided and this level's time is not over, the wait is begun.
    """
    ledger, refund_id = books.ledger(), case.refund_id
    refusals = tuple([text async for text in _hand_in_answers(case)])
    approvals.expire(ledger, refund_id)
    settled = _settled(case)
    if settled is not None:
        return settled
    until = _until(case, level)
    if ledger.clock() >= until:
        return Answer(decision=None)
    if level != approval.levels[0]:
        approvals.escalate(ledger, refund_id, case.round, level.name, books.fence(refund_id))
    await runs.label(wording.run_name(case), ("approval", level.name))
    waiting = Answer(decision=None, refusals=refusals, timeline=timeline_page(refund_id))
    standstill = begin_wait(
        refund_id,
        f"approval-{case.round}-{level}",
        "person",
        until,
        output=lambda standstill: waiting.model_copy(update={"begun": standstill.begun}),
    )
    if standstill.begun:
        return waiting.model_copy(update={"begun": standstill.begun})
    return _settled(case) or Answer(decision=None)


def _until(case: Case, level: Level) -> datetime:
    """When this level's time is over, by the ledger's word: a deadline may have been moved."""
    asked = approvals.asked(books.ledger(), case.refund_id, case.round)
    now = {} if asked is None else {found.name: found.until for found in asked.levels}
    return now.get(level.name, level.until)


def _settled(case: Case) -> Answer | None:
    standing = approvals.standing(books.ledger(), case.refund_id, case.round)
    if standing is None or standing.status == approvals.OPEN:
        return None
    if standing.status == approvals.SUPERSEDED:
        return Answer(decision=None, is_stale=True)
    return Answer(decision=Decision(standing.status))


async def _hand_in_answers(case: Case) -> Any:
    """Give every answer from the Prefect UI to the ledger; yields why one was refused.

    Prefect does not know who pressed the button: the name is self-declared and unverified.
    One that was refused stays refused: it is not taken later, when nobody is looking.
    """
    refused = approvals.refused_answers(books.ledger(), case.refund_id)
    for name, answer in await runs.answers(f"approval-{case.round}-"):
        choice, person = answer.get("decision"), str(answer.get("approver", ""))
        if choice not in ("approve", "reject") or not person.strip():
            continue
        if name in refused:
            yield refused[name]
            continue
        vote = Vote(
            choice=choice,
            person=person.strip()[:128],
            channel="prefect-ui",
            verified=False,
            reason=without_account_numbers(str(answer.get("reason", "")))[:2_000],
            answer=name,
        )
        try:
            await decisions.take(case.refund_id, vote)
        except Conflict as refusal:
            yield str(refusal)


def recipients(everybody: list[Person], approval: ApprovalRequest, level: Level) -> list[Person]:
    """Who gets a card of their own at a level: those who may answer and have a contact."""
    is_first = level == approval.levels[0]
    facts = approval.facts
    asked = {folded(facts["requested_by"]), folded(facts["customer_id"])}
    return [
        person
        for person in everybody
        if person.is_active
        and person.contact
        and (level.audience in person.roles or (is_first and APPROVER in person.roles))
        and facts["amount_minor"] <= limit_of(person, facts["currency"], approval.rules)
        and not asked & person.aliases
    ]


def card(approval: ApprovalRequest, level: Level, attempt: str = "") -> Action:
    """The card for the approvers of one level: a function of the question as it was put."""
    return creation(
        approval.refund_id,
        "send_card",
        "notices",
        "messages",
        {"refund_id": approval.refund_id, "audience": "approver", "to": level.audience},
        words=wording.card(approval, level),
        address={"link": review_page(approval.refund_id)},
        id_field="message_id",
        attempt=f"{approval.round}:{level}{attempt}",
    )


def personal_card(approval: ApprovalRequest, level: Level, person: Person) -> Action:
    """A card for one person, with a link that is theirs alone."""
    token = links.sign(approval.refund_id, person.person_id, approval.digest, approval.deadline)
    return creation(
        approval.refund_id,
        "send_card",
        "notices",
        "messages",
        {"refund_id": approval.refund_id, "audience": "approver", "to": person.person_id},
        words=wording.card(approval, level),
        address={
            "to": person.contact,
            "link": f"{review_page(approval.refund_id)}?{urlencode({'link': token})}",
        },
        id_field="message_id",
        # A digest, because a person's id may be long and hold any character.
        attempt=f"{approval.round}:{level}:{digest(person.person_id)[:12]}",
    )


def notification(
    approval: ApprovalRequest, level: Level, block: NotificationBlock | None
) -> Action:
    """The card for the approvers of one level, through their messenger."""
    return notifier.notification(
        approval.refund_id,
        "send_card",
        block,
        body={"refund_id": approval.refund_id, "block": level.block, "to": level.audience},
        words=wording.card(approval, level),
        link=review_page(approval.refund_id),
        attempt=f"{approval.round}:{level}:block",
    )


def review_page(refund_id: str) -> str:
    """Where a person answers: found by the refund, whichever run carries it on."""
    return f"{settings().service_url}/refunds/{refund_id}/review"


def timeline_page(refund_id: str) -> str:
    """Where all that happened to a refund is shown."""
    return f"{settings().service_url}/inbox/{refund_id}/timeline"
