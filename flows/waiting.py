"""Waiting: for a person, for a callback, or for a clock. The ledger is asked first.

A deployed run is suspended and holds nothing; a run without a deployment (a laptop, a notebook)
is paused in its process. Either way a wait never returns: what comes after it starts again at the
top of the flow, from the ledger. What Prefect hands back on Resume is never trusted: a forced
state would look like an approval by nobody.
"""

from contextlib import suppress
from typing import Literal, NoReturn

from prefect.context import FlowRunContext
from prefect.flow_runs import apause_flow_run, asuspend_flow_run
from prefect.input import RunInput
from pydantic import Field, ValidationError

from refunds import wording
from refunds.errors import RefundError, StepRetryable
from refunds.models import (
    Answer,
    ApprovalRequest,
    Case,
    Level,
    Payment,
    RefundRequest,
    Standstill,
)
from tasks import cards, payments, records

# A run that waits in its process has no other backstop; ten years is "until somebody comes".
_FOREVER_SECONDS = 10 * 365 * 24 * 3600

# How often a run that waits in its process looks whether it was woken, in seconds.
_LOOK_SECONDS = 1


class Woken(RefundError):
    """The wait is over; start again at the top of the flow."""


class ApprovalForm(RunInput):
    """What an approver fills in. Nothing has a default that could approve by accident.

    Prefect's UI leaves out what is empty and keeps silent when a required field is missing; so
    only what must be known is required, and says so.
    """

    decision: Literal["approve", "reject"] = Field(
        description="Approve or reject this refund? (required)"
    )
    approver: str = Field(min_length=1, max_length=128, description="Your name (required)")
    reason: str = Field("", max_length=2000, description="Why? It is kept in the history")


async def for_decision(case: Case, approval: ApprovalRequest, level: Level) -> Answer:
    """A person's decision, or none when this level's time is over."""
    answer = await cards.record_approval(case, approval, level)
    if not answer.begun:
        return answer
    form = approval_form(approval, answer.refusals, answer.timeline)
    return await hold(f"approval-{case.round}-{level}-{answer.begun}", form)


def approval_form(
    approval: ApprovalRequest, refusals: tuple[str, ...] = (), timeline: str = ""
) -> type[RunInput]:
    """The form that Prefect shows, under every fact that is bound."""
    text = wording.form_text(approval, refusals, timeline)
    return ApprovalForm.with_initial_data(description=text)


async def for_settlement(case: Case) -> Payment:
    """How a pending payment ended, by the gateway's word in the ledger."""
    found = await payments.await_settlement(case)
    if isinstance(found, Payment):
        return found
    return await _stand_still(found)


async def for_recovery(request: RefundRequest, outage: StepRetryable) -> NoReturn:
    """Let time pass until a system that is away may be back."""
    await _stand_still(await records.note_outage(request, outage.system, str(outage)))


async def for_attention(request: RefundRequest, why: str) -> NoReturn:
    """Nothing safe is left to do: wait until a person resumes the refund."""
    await _stand_still(await records.note_attention(request, why))


async def _stand_still(standstill: Standstill) -> NoReturn:
    if not standstill.begun:
        raise Woken(standstill.name)
    await hold(f"{standstill.name}-{standstill.begun}", None)


async def hold(key: str, form: type[RunInput] | None) -> NoReturn:
    """Hold the run under a key that was never used before; ends in Woken or in a new process."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run and context.flow_run.deployment_id:
        await asuspend_flow_run(wait_for_input=form, key=key)
    else:
        with suppress(ValidationError):  # woken without an answer in the form: the ledger has it
            await apause_flow_run(
                wait_for_input=form, key=key, timeout=_FOREVER_SECONDS, poll_interval=_LOOK_SECONDS
            )
    raise Woken(key)
