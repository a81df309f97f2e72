"""The ledger's own steps: who runs a refund, what the rules said, what was asked, how it ended."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from refunds import asking, wording
from refunds.differences import Change, changes_between, told
from refunds.errors import BadInput, ChargeExhausted, NeedsAttention
from refunds.ledger import (
    Page,
    approvals,
    assessed,
    charges,
    effects,
    history,
    leases,
    requests,
    waits,
)
from refunds.ledger.effects import PAYMENT_STEP, key_of
from refunds.models import (
    ApprovalRequest,
    Assessment,
    Case,
    Decision,
    Outcome,
    RefundRequest,
    RiskFeatures,
    Seat,
    Standstill,
    State,
    Verdict,
)
from refunds.policy import binding_digest, bound_facts
from refunds.policy_file import Policy
from refunds.settings import settings
from tasks import books, disputes, orders, outages, rounds, steps

# A refund whose facts change this often between looking and paying is a puzzle for a person.
MOST_ROUNDS = 20

# What Prefect does not take in an artifact's key.
_NOT_IN_A_KEY = re.compile("[^a-z0-9]+")

# Enough wrong requests in one message to see what is wrong with all of them.
_NAMED = 20


@task(
    name="open_refund",
    # Asked anew by every run and never remembered: the lease is the answer.
    cache_policy=NO_CACHE,
    persist_result=False,
    # Taking the lease again is harmless; a new request waits for a shop that is away.
    **steps.QUICK_RETRIES,
    timeout_seconds=30,
)
@steps.journaled
async def open_refund(request: RefundRequest) -> Seat:
    """Take the refund's lease for this run, entering the request if nobody has yet.

    Only a new request is held against the shop: one that is known goes on while the shop is away.
    Raises ContentConflict when the id stands for another request, BadInput for an unknown order.
    """
    if not requests.is_known(books.ledger(), request.refund_id):
        check_against_shop([request])
    requests.submit(books.ledger(), [request])
    lease = leases.take(books.ledger(), request.refund_id, str(flow_run.id))
    if lease.fence is not None:
        books.hold(request.refund_id, lease.fence)
    return Seat(
        is_mine=lease.fence is not None,
        outcome=lease.outcome,
        held_by=lease.held_by,
        given_up=lease.given_up,
        flow_version=lease.flow_version,
    )


def check_against_shop(wanted: list[RefundRequest]) -> None:
    """Raise BadInput naming each request whose order or currency the shop does not know."""
    currencies = orders.known_orders(sorted({request.order_id for request in wanted}))
    wrong = [
        f"{request.refund_id}: the shop has no order {request.order_id}"
        if request.order_id not in currencies
        else f"{request.refund_id}: order {request.order_id} is in "
        f"{currencies[request.order_id]}, the request in {request.currency}"
        for request in wanted
        if currencies.get(request.order_id) != request.currency
    ]
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise BadInput("; ".join(wrong[:_NAMED]) + more)


@task(
    name="load_policy",
    cache_key_fn=steps.by_round,
    persist_result=True,
    timeout_seconds=30,
)
@steps.journaled
async def load_policy(case: Case) -> Policy:
    """The policy in force when this round began. Raises NeedsAttention when it is not readable."""
    try:
        return rounds.policy_of(case) or books.policy()
    except BadInput as error:
        raise NeedsAttention(str(error)) from error


@task(
    name="record_assessment",
    cache_key_fn=steps.by_round,
    persist_result=True,
    timeout_seconds=30,
)
@steps.journaled
async def record_assessment(case: Case, assessment: Assessment, risk: RiskFeatures) -> None:
    """Write the verdict and its reasons to the ledger, and the facts to the run's page.

    A round is assessed once; a second look at the same round changes nothing.
    """
    refund_id = case.refund_id
    if rounds.assessment_of(case) is not None:
        return
    with books.ledger().page(refund_id, books.fence(refund_id)) as page:
        write_assessment(page, case, assessment, risk)
        steps.close(page, None)
    reasons = [reason.plain() for reason in assessment.reasons]
    facts = bound_facts(case, assessment.opinion, assessment.policy_version)
    timeline = f"[Its timeline]({settings().service_url}/inbox/{refund_id}/timeline)"
    await acreate_markdown_artifact(
        # A key of its own: under one for all, Prefect's page would show everybody's newest facts.
        key=f"refund-facts-{_NOT_IN_A_KEY.sub('-', refund_id.lower())}",
        markdown=f"# {assessment.verdict}: {wording.escaped(refund_id)}\n\n"
        + wording.facts_markdown(facts, reasons, binding_digest(facts)),
        description=f"{wording.escaped(refund_id)}: {assessment.verdict}. {timeline}",
    )


def write_assessment(page: Page, case: Case, assessment: Assessment, risk: RiskFeatures) -> None:
    """The verdict, its reasons, and every fact that it was reached by."""
    page.append(
        "refund.assessed",
        {
            **assessed.told(case),
            "assessment": assessment.plain(),
            "risk": risk.plain(),
        },
    )
    reasons = [reason.plain() for reason in assessment.reasons]
    page.change(verdict=str(assessment.verdict), reasons=reasons)
    if assessment.verdict is Verdict.APPROVE:
        page.enter(State.APPROVED)


@task(
    name="request_approval",
    cache_key_fn=steps.by_round,
    persist_result=True,
    timeout_seconds=30,
)
@steps.journaled
async def request_approval(case: Case, assessment: Assessment, policy: Policy) -> ApprovalRequest:
    """Commit the question to be put to a person, bound to the digest of its facts.

    A question that was put already stays as it was: cards and decisions rest on it.
    """
    ledger = books.ledger()
    asked = approvals.asked(ledger, case.refund_id, case.round)
    approval = asked or asking.question(case, assessment, policy, ledger.clock())
    fence = books.fence(case.refund_id)
    approvals.open_approval(ledger, approval, case.request.requester, fence)
    return approval


@task(
    name="reserve_money",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # The shop is read once more here, and reading is harmless.
    **steps.QUICK_RETRIES,
    timeout_seconds=30,
)
@steps.journaled
async def reserve_money(case: Case, assessment: Assessment) -> bool:
    """Look at the world once more, then set the money aside.

    False when what was approved is not what would be paid now, the charge is disputed, or too
    little is left: then the approval counts no more and the refund is assessed again.
    """
    ledger, refund_id = books.ledger(), case.refund_id
    if case.round > MOST_ROUNDS:
        raise NeedsAttention(f"{refund_id} changed {MOST_ROUNDS} times while it was decided")
    is_sent = effects.read(ledger, key_of(refund_id, PAYMENT_STEP)) is not None
    if is_sent or charges.holds_money(ledger, refund_id):
        return True
    if assessment.verdict is Verdict.REVIEW and not _is_approved(case):
        raise NeedsAttention(f"{refund_id}: nobody's approval of round {case.round} is on record")
    is_disputed = case.charge is not None and await disputes.look(case.charge.charge_id)
    change = what_changed(case, assessment)
    if change is None and is_disputed:
        change = "its charge is disputed, and nothing is paid while the bank has not decided"
    if change is None:
        try:
            charges.reserve(ledger, case, books.fence(refund_id))
        except ChargeExhausted as error:
            change = str(error)
        else:
            return True
    history.append(
        ledger, refund_id, "payment.reconsidered", {"why": change}, books.fence(refund_id)
    )
    approval_id = key_of(refund_id, "approval", case.round)
    approvals.supersede(ledger, refund_id, approval_id, change)
    return False


def _is_approved(case: Case) -> bool:
    """The ledger's word, whatever led here."""
    standing = approvals.standing(books.ledger(), case.refund_id, case.round)
    return standing is not None and standing.status == Decision.APPROVED


def what_changed(case: Case, assessment: Assessment) -> str | None:
    """What is different now from what was approved, or None. Raises SystemUnavailable."""
    asked = approvals.asked(books.ledger(), case.refund_id, case.round)
    then = bound_facts(case, assessment.opinion, assessment.policy_version)
    if asked is not None:
        then = asked.facts
    changes = changes_since(then, case.request, case.round)
    return because_of(changes) if changes else None


def changes_since(
    then: dict[str, Any], request: RefundRequest, round_number: int
) -> tuple[Change, ...]:
    """Which bound facts differ now from `then`, field by field. Raises SystemUnavailable."""
    fresh = orders.read_whole_case(request, round_number)
    return changes_between(then, bound_facts(fresh, None, books.policy().full_version))


def because_of(changes: tuple[Change, ...]) -> str:
    """The changes as the reason for which a question is put again."""
    return f"changed since it was assessed: {told(changes)}"


@task(
    name="write_audit",
    # The end of a refund is written once; written again it changes nothing.
    cache_key_fn=steps.by_refund,
    persist_result=True,
    timeout_seconds=30,
)
@steps.journaled
async def write_audit(case: Case, outcome: Outcome, why: str) -> Outcome:
    """Close the refund's books: outcome, reason, and the lease given back."""
    ledger, refund_id = books.ledger(), case.refund_id
    with ledger.page(refund_id, books.fence(refund_id)) as page:
        close_books(page, outcome, why)
        steps.close(page, outcome)
        page.change(lease_holder=None, lease_expires_at=None)
    books.let_go(refund_id)
    return outcome


def close_books(page: Page, outcome: Outcome, why: str) -> None:
    """The end of a refund on its page."""
    if page.row["outcome"] is None:
        page.append("refund.concluded", {"outcome": str(outcome), "why": why})
        page.enter(State.COMPLETED)
        page.change(outcome=str(outcome), completed_at=page.now, attention=None)


def enter_syncing(refund_id: str) -> None:
    """The money is settled one way or the other; now everybody is told."""
    with books.ledger().page(refund_id, books.fence(refund_id)) as page:
        page.enter(State.SYNCING)


@task(
    name="note_outage",
    cache_policy=NO_CACHE,
    persist_result=False,
    timeout_seconds=30,
)
@steps.journaled
async def note_outage(request: RefundRequest, system: str, detail: str) -> Standstill:
    """Decide when to try again; when patience is over, hand the refund to a person."""
    following = outages.next_try(books.ledger(), request.refund_id, system, detail)
    if isinstance(following, str):
        return hand_to_a_person(request.refund_id, following)
    name, due_at = following
    return begin_wait(request.refund_id, name, "timer", due_at)


@task(
    name="note_attention",
    cache_policy=NO_CACHE,
    persist_result=False,
    timeout_seconds=30,
)
@steps.journaled
async def note_attention(request: RefundRequest, why: str) -> Standstill:
    """Hand the refund to a person: it waits until somebody resumes it."""
    return hand_to_a_person(request.refund_id, why)


def hand_to_a_person(refund_id: str, why: str) -> Standstill:
    """Mark the refund and begin to wait for `refunds resume`."""
    ledger = books.ledger()
    with ledger.page(refund_id, books.fence(refund_id)) as page:
        page.append("attention.needed", {"why": why})
        page.change(attention=why)
        page.enter(State.NEEDS_ATTENTION)
    before = waits.count_named(ledger, refund_id, "attention-")
    return begin_wait(refund_id, f"attention-{before + 1}", "person", None)


def begin_wait(
    refund_id: str,
    name: str,
    reason: waits.WaitReason,
    due_at: datetime | None,
    *,
    output: Callable[[Standstill], Any] = lambda standstill: standstill,
) -> Standstill:
    """Open a wait; with it the lease is given back and the running step ends with its `output`."""
    begun = waits.open_wait(
        books.ledger(),
        refund_id,
        name,
        reason=reason,
        run_id=str(flow_run.id),
        fence=books.fence(refund_id),
        due_at=due_at,
        closing=lambda page, begun: steps.close(page, output(Standstill(name=name, begun=begun))),
    )
    if begun:
        books.let_go(refund_id)
    return Standstill(name=name, begun=begun)
