"""Changing what a waiting refund's question says, without starting anything over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from refunds.errors import BadInput, Conflict, NothingToDecide
from refunds.ledger import approvals, effects, questions, schema
from refunds.ledger.book import Ledger, Page
from refunds.ledger.effects import PAYMENT_STEP, Intent
from refunds.ledger.pages import among
from refunds.ledger.questions import OPEN, Standing

# The card for those who are asked now, as an effect of the refund on this page.
Card = Callable[[Standing, Page], Intent]

UPDATED, EVIDENCE = "refund.updated", "evidence.added"

# As the policy file has it: no question stands for longer than a year.
_LONGEST = timedelta(days=366)

URGENT, NORMAL = 1, 2


@dataclass(frozen=True)
class Update:
    """What is to change; None and empty leave things as they are.

    `audience` is who is asked at the level that is asked now. `evidence` is a new fact: it
    changes what an approval binds to, so the question is put anew.
    """

    deadline: datetime | None = None
    priority: int | None = None
    audience: str | None = None
    note: str = ""
    evidence: str = ""

    def plain(self) -> dict[str, Any]:
        """What changes, as JSON types."""
        deadline = self.deadline.isoformat() if self.deadline else None
        named = {**vars(self), "deadline": deadline}
        return {name: value for name, value in named.items() if value not in (None, "")}


def update(
    ledger: Ledger,
    refund_id: str,
    change: Update,
    *,
    person: str,
    reason: str,
    card: Card | None = None,
) -> Standing | None:
    """Check the whole change, then make it; returns the question as it stands now.

    With a new audience the intent to send them a `card` is committed with the change.

    Raises UnknownRefund, BadInput for a value that cannot be, NothingToDecide when the change
    needs an open question and none is, Conflict when new evidence comes too late.
    """
    if not change.plain():
        raise BadInput("nothing to change: give a deadline, priority, audience, note or evidence")
    with ledger.page(refund_id) as page:
        if page.row["outcome"] is not None:
            raise BadInput(f"{refund_id} is over: {page.row['outcome']}")
        current = questions.read(page.connection, refund_id)
        if change.deadline or change.priority or change.audience:
            current = _open(page, current)
            columns = _columns(page, current, change)
            page.connection.execute(
                schema.approvals.update()
                .where(schema.approvals.c.approval_id == current.approval_id)
                .values(**columns)
            )
        if change.evidence:
            _add_evidence(page, current, change, person)
        page.append(UPDATED, {"person": person, "reason": reason, "changes": change.plain()})
        after = questions.read(page.connection, refund_id)
        if card is not None and change.audience is not None and after and after.levels:
            effects.intend_beside(page, card(after, page))
        return after


def evidence_of(ledger: Ledger, refund_id: str) -> tuple[str, ...]:
    """Every piece of evidence that was added to a refund, oldest first."""
    return evidence_of_many(ledger, [refund_id])[refund_id]


def evidence_of_many(ledger: Ledger, refund_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """As `evidence_of`, for each of these refunds."""
    row = schema.history.c
    found: dict[str, tuple[str, ...]] = dict.fromkeys(refund_ids, ())
    with ledger.reading() as connection:
        query = (
            sa.select(row.refund_id, row.data)
            .where(among(connection, row.refund_id, refund_ids), row.event == EVIDENCE)
            .order_by(row.refund_id, row.sequence)
        )
        for refund_id, data in connection.execute(query):
            found[refund_id] += (data["text"],)
    return found


def _open(page: Page, current: Standing | None) -> Standing:
    if current is None or current.status != OPEN or page.now >= current.deadline:
        raise NothingToDecide(f"nobody is being asked about {page.refund_id} now")
    return current


def _columns(page: Page, current: Standing, change: Update) -> dict[str, Any]:
    """The columns of the question that change. Raises BadInput."""
    columns: dict[str, Any] = {}
    if change.priority is not None:
        if change.priority not in (URGENT, NORMAL):
            raise BadInput(f"a priority is {URGENT} (urgent) or {NORMAL}, not {change.priority}")
        columns["priority"] = change.priority
    if change.audience is not None:
        levels = [
            level.model_copy(update={"audience": change.audience})
            if level.name == current.level
            else level
            for level in current.levels
        ]
        columns["levels"] = [level.plain() for level in levels]
        columns["audiences"] = "".join(f"|{level.audience}|" for level in levels)
    if change.deadline is not None:
        columns["deadline"] = _move_deadline(page, current, change.deadline)
    return columns


def _move_deadline(page: Page, current: Standing, deadline: datetime) -> datetime:
    """The last level's time ends with the deadline, and so does the wait for it."""
    if deadline.tzinfo is None:
        raise BadInput("a deadline needs its zone, such as 2026-12-01T12:00+00:00")
    if not page.now < deadline <= page.now + _LONGEST:
        raise BadInput(f"a deadline is after now ({page.now:%Y-%m-%d %H:%M} UTC), within a year")
    for level in current.levels[:-1]:
        if deadline <= level.until:
            raise BadInput(
                f"{level.name} is asked until {level.until:%Y-%m-%d %H:%M} UTC, and the deadline "
                "is that of the last level: it comes after"
            )
    if current.levels:
        name = f"approval-{current.round}-{current.levels[-1].name}"
        row = schema.waits.c
        page.connection.execute(
            schema.waits.update()
            .where(row.refund_id == page.refund_id, row.name == name, row.ended_at.is_(None))
            .values(due_at=deadline)
        )
    return deadline


def _add_evidence(page: Page, current: Standing | None, change: Update, person: str) -> None:
    effect = schema.effects.c
    query = sa.select(effect.key).where(
        effect.refund_id == page.refund_id, effect.step == PAYMENT_STEP
    )
    if page.connection.execute(query).first() is not None:
        raise Conflict(f"{page.refund_id} is paid or being paid: evidence comes too late")
    page.append(EVIDENCE, {"person": person, "text": change.evidence})
    if current is not None:
        approvals.withdraw(page, current, f"evidence was added by {person}")
