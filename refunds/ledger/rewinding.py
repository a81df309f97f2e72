"""Putting a refund back to an earlier step: what it would do, what stands against it, doing it.

Nothing that was sent is ever sent again: effects keep their keys. The history keeps everything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from refunds.errors import BadInput, CannotReset
from refunds.ledger import approvals, charges, effects, journal, questions, schema, waits
from refunds.ledger.book import Ledger, Page
from refunds.ledger.effects import PAYMENT_STEP
from refunds.ledger.questions import Standing
from refunds.models import Decision, State

# What each state of a payment says against going back behind it.
_PAYMENT = {
    "intended": "its payment may have been sent under the key {key}; `refunds resume` asks first",
    "unknown": "its payment may have been made; the sweep asks the gateway, or somebody says so "
    "(`refunds settle`); then look again",
    "blocked": "the gateway will not pay before somebody helps; then `refunds resume` tries anew",
    "pending": "its payment is pending at the gateway; nothing may be paid beside it",
    "succeeded": "it is paid; paying again or deciding otherwise would contradict the gateway",
    "refused": "the gateway refused it for good; another try is another refund request",
}

# What a person has to be asked about anew when anything up to it is done over.
_ASKS = ("request_approval", "send_card", "record_approval")
_RESERVES = "reserve_money"
# Begun after the money was set aside, and undone only with the refund as a whole.
_PROMISES = ("hold_shipment", "create_return_label", "issue_coupon")
_TELLING = ("sync_crm", "notify_customer", "notify_service")
_UNDOING = ("void_coupon", "release_shipment", "cancel_return_label")
_AFTER_PAYMENT = frozenset(("await_settlement", *_UNDOING, *_TELLING, "write_audit"))
# Called by a run for itself; there is no going back to them.
_HOUSEKEEPING = ("open_refund", "note_outage", "note_attention", "find_parcel", "find_coupon")


@dataclass(frozen=True)
class Plan:
    """What a reset to a step would do.

    `done_over` are the steps that run again, oldest first; `forgotten` the keys of their results
    that Prefect must not find; `kept` the effects that stand and are not sent again.
    """

    refund_id: str
    to: str
    done_over: tuple[str, ...]
    forgotten: tuple[str, ...]
    kept: tuple[str, ...]
    asks_again: bool
    frees_money: bool
    refusal: str | None

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        lists = {name: list(getattr(self, name)) for name in ("done_over", "forgotten", "kept")}
        return {**vars(self), **lists}


def plan(ledger: Ledger, refund_id: str, to: str, at_gateway: str | None = None) -> Plan:
    """What a reset would do; nothing is changed.

    `at_gateway` is what the gateway has of this refund, in words, or None. Raises UnknownRefund,
    and BadInput when the refund never came to that step.
    """
    with ledger.page(refund_id) as page:
        return _plan(page, to, at_gateway)


def apply(
    ledger: Ledger,
    refund_id: str,
    to: str,
    *,
    person: str,
    reason: str,
    at_gateway: str | None = None,
) -> Plan:
    """Do it: fence the old runner off, drop the results, free the money, ask anew.

    As with a resume, what another system refused may be tried again; a payment never is.

    The refund then waits for a run to be launched. Raises as `plan`, and CannotReset.
    """
    with ledger.page(refund_id) as page:
        found = _plan(page, to, at_gateway)
        if found.refusal is not None:
            raise CannotReset(f"{refund_id} cannot be reset to {to}: {found.refusal}")
        page.append("refund.reset", {"person": person, "reason": reason, **found.plain()})
        page.connection.execute(
            schema.results.delete().where(schema.results.c.key.in_(found.forgotten))
        )
        if found.frees_money:
            charges.book_released(page, charges.reservation_of(page))
        effects.reopen(page)
        current = questions.read(page.connection, refund_id)
        if found.asks_again and current is not None:
            approvals.withdraw(page, current, f"reset to {to} by {person}")
        if to not in _AFTER_PAYMENT:
            page.enter(State.ASSESSING)
        page.change(
            attention=None, fence=page.row["fence"] + 1, lease_holder=None, lease_expires_at=None
        )
        waits.end(page, ("approval", "attention", "outage"), f"reset to {to}")
        waits.mark_woken(page)
        return found


def _plan(page: Page, to: str, at_gateway: str | None) -> Plan:
    calls = _calls(page)
    steps = [step for step, _ in calls]
    if to not in steps:
        known = ", ".join(dict.fromkeys(steps)) or "none yet"
        raise BadInput(f"{page.refund_id} never came to {to!r}; its steps are: {known}")
    last = len(steps) - 1 - steps[::-1].index(to)
    # Of a step that several runs ended under one key, everything since the first of them.
    key = calls[last][1]
    over = calls[last if key is None else calls.index((to, key)) :]
    names = tuple(dict.fromkeys(step for step, _ in over))
    asked = questions.read(page.connection, page.refund_id)
    is_behind_a_question = asked is not None and any(step in names for step in _ASKS)
    return Plan(
        refund_id=page.refund_id,
        to=to,
        done_over=names,
        # A new round has new keys, and is reached through the results of the old one.
        forgotten=()
        if is_behind_a_question
        else tuple(dict.fromkeys(k for _, k in over if k is not None)),
        kept=tuple(_effects(page)),
        asks_again=is_behind_a_question,
        frees_money=to not in _AFTER_PAYMENT
        and (_RESERVES in names or is_behind_a_question)
        and charges.state_of(page) == "reserved",
        refusal=next(
            _against(page, to, names, asked if is_behind_a_question else None, at_gateway), None
        ),
    )


def _against(
    page: Page,
    to: str,
    done_over: tuple[str, ...],
    question: Standing | None,
    at_gateway: str | None,
) -> Iterator[str]:
    """What stands against it, gravest first; `question` is the one that would be put again."""
    states = _effects(page)
    if page.row["outcome"] is not None:
        yield f"it is over ({page.row['outcome']}), and everybody was told"
    if page.row["given_up"] is not None:
        yield "it was given up, and what was done for it is being undone"
    if to not in _AFTER_PAYMENT:
        yield from _paid(states, at_gateway)
    if question is not None and question.status in (Decision.REJECTED, Decision.EXPIRED):
        yield f"its question is {question.status}, and that stands"
    told = _of(states, _TELLING)
    if told and to not in (*_TELLING, "write_audit"):
        yield f"how it ends is being told already ({', '.join(told)})"
    promised = [key for key in _of(states, _PROMISES) if states[key] != "refused"]
    if promised and (_RESERVES in done_over or question is not None):
        yield (
            f"{', '.join(promised)} would stand if it were decided otherwise; "
            "`refunds abandon` undoes what was done"
        )


def _paid(states: dict[str, str], at_gateway: str | None) -> Iterator[str]:
    """What the ledger or the gateway knows of a payment."""
    payments = [(key, states[key]) for key in _of(states, (PAYMENT_STEP,))]
    # A payment that was refused for good says less than a later one that was not.
    for key, state in sorted(payments, key=lambda payment: payment[1] == "refused"):
        yield _PAYMENT[state].format(key=key)
    if at_gateway is not None:
        yield f"the gateway has {at_gateway} for it; paying again would contradict its books"


def _of(states: dict[str, str], steps: tuple[str, ...]) -> list[str]:
    """The keys of the effects of these steps."""
    return [key for key in states if key.split(":")[1] in steps]


def _calls(page: Page) -> list[tuple[str, str | None]]:
    """Each step that ended or failed, with its key, in the order of the history."""
    row = schema.history.c
    found = page.connection.execute(
        sa.select(row.data)
        .where(
            row.refund_id == page.refund_id,
            row.event.in_((journal.ENDED, journal.FAILED)),
        )
        .order_by(row.sequence)
    ).scalars()
    calls = [(data["step"], data["key"]) for data in found]
    return [call for call in calls if call[0] not in _HOUSEKEEPING]


def _effects(page: Page) -> dict[str, str]:
    row = schema.effects.c
    query = sa.select(row.key, row.state).where(row.refund_id == page.refund_id).order_by(row.key)
    return dict(page.connection.execute(query).tuples().all())
