"""Approval cards go out; answers given in the Prefect UI come in. The ledger decides."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from refunds import wording
from refunds.errors import Conflict
from refunds.ledger import approvals
from refunds.ledger.approvals import Vote
from refunds.models import Answer, ApprovalRequest, Assessment, Case, Decision, Level, Receipt
from refunds.settings import settings
from tasks import books, runs, steps
from tasks.effect import Action, perform
from tasks.json_systems import creation, receipt
from tasks.records import begin_wait


@task(
    name="send_card",
    cache_key_fn=steps.by_round_and_level,
    persist_result=True,
    # A card that is not sure to have gone out is looked for before it is sent again.
    retries=4,
    retry_delay_seconds=[1, 2, 5, 10],
    retry_condition_fn=steps.may_retry,
    timeout_seconds=90,
)
async def send_card(
    case: Case, assessment: Assessment, approval: ApprovalRequest, level: Level
) -> Receipt:
    """Tell the approvers of one level what they are asked, with a link to the place to answer."""
    return receipt(await perform(card(case, assessment, approval, level, str(flow_run.id))))


@task(
    name="record_approval",
    # The ledger is asked anew every time.
    cache_policy=NO_CACHE,
    persist_result=False,
    timeout_seconds=60,
)
async def record_approval(case: Case, approval: ApprovalRequest, level: Level) -> Answer:
    """What the ledger says of the question, after answers from the Prefect UI were handed to it.

    When nobody has decided and this level's time is not over, the wait is begun.
    """
    ledger, refund_id = books.ledger(), case.refund_id
    refusals = tuple([text async for text in _hand_in_answers(case)])
    approvals.expire(ledger, refund_id)
    due_at = approval.escalate_at if level is Level.TEAM else approval.deadline
    settled = _settled(case)
    if settled is not None:
        return settled
    if ledger.clock() >= due_at:
        return Answer(decision=None)
    await runs.label(wording.run_name(case), ("approval", level))
    standstill = begin_wait(refund_id, f"approval-{case.round}-{level}", "person", due_at)
    if standstill.begun:
        return Answer(decision=None, begun=standstill.begun, refusals=refusals)
    return _settled(case) or Answer(decision=None)


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
    """
    for answer in await runs.answers(f"approval-{case.round}-"):
        choice, person = answer.get("decision"), str(answer.get("approver", ""))
        if choice not in ("approve", "reject") or not person.strip():
            continue
        vote = Vote(
            choice=choice,
            person=person.strip()[:128],
            channel="prefect-ui",
            verified=False,
            reason=str(answer.get("reason", ""))[:2_000],
        )
        try:
            approvals.decide(books.ledger(), case.refund_id, vote)
        except Conflict as refusal:
            yield str(refusal)


def card(
    case: Case, assessment: Assessment, approval: ApprovalRequest, level: Level, run_id: str
) -> Action:
    """The card for the approvers of one level, with a link to the run that waits for them."""
    rule = books.policy().approval
    to = rule.approvers if level is Level.TEAM else rule.escalate_to
    reasons = [reason.plain() for reason in assessment.reasons]
    return creation(
        case.refund_id,
        "send_card",
        "notices",
        "messages",
        {
            "refund_id": case.refund_id,
            "audience": "approver",
            "to": to,
            "subject": wording.card_subject(case, level),
            "body": wording.facts_markdown(approval.facts, reasons, approval.digest)
            + f"\n\nAnswer by {approval.deadline:%Y-%m-%d %H:%M} UTC.",
            "link": f"{settings().prefect_url}/v2/runs/flow-run/{run_id}",
        },
        id_field="message_id",
        attempt=f"{case.round}:{level}",
    )
