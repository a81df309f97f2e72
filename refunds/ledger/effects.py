"""Effects: the intent is committed before the first send, the result after it.

An effect is `intended` while nobody knows, `unknown` after a call whose ending is unknown,
`pending` while the other system works on it, `blocked` when nothing was done and only a new
attempt can end otherwise, and finally `succeeded` or `refused`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from refunds.digests import digest
from refunds.errors import KeyReused, LedgerRefusal
from refunds.ledger import charges, schema, waits
from refunds.ledger.book import Ledger, Page
from refunds.ledger.pages import among
from refunds.models import State

FINAL = ("succeeded", "refused")

# The one step that moves money; its endings also move the reservation.
PAYMENT_STEP = "issue_refund"

# The waits that are over once the gateway has had its last word.
ENDED_BY_PAYMENT = ("settlement", "attention")


@dataclass(frozen=True)
class Effect:
    """One step of one refund as the ledger knows it."""

    key: str
    state: str
    request: dict[str, Any]
    response: dict[str, Any] | None
    detail: str | None
    sends: int
    first_sent_at: Any
    # Counts business attempts: 2 after the first was answered, and certainly did nothing.
    attempt: int = 1

    @property
    def wire_key(self) -> str:
        """What the other system tells sends apart by: its old answer stays with the old key."""
        return self.key if self.attempt == 1 else f"{self.key}:{self.attempt}"

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to be sent."""
        return self.state in FINAL


@dataclass(frozen=True)
class Ending:
    """How a send ended: a state, and what the other system said."""

    key: str
    state: str
    response: dict[str, Any] | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Intent:
    """What a runner with this fence is about to send."""

    key: str
    step: str
    system: str
    request: dict[str, Any]
    fence: int

    @property
    def pays(self) -> bool:
        """Whether money moves: then it has to be reserved first."""
        return self.step == PAYMENT_STEP


def key_of(refund_id: str, step: str, attempt: str | int | None = None) -> str:
    """`{refund_id}:{step}`, or `{refund_id}:{step}:{n}` where a business attempt is a new one."""
    return f"{refund_id}:{step}" if attempt is None else f"{refund_id}:{step}:{attempt}"


def intend(
    ledger: Ledger,
    refund_id: str,
    key: str,
    *,
    step: str,
    system: str,
    request: dict[str, Any],
    fence: int,
) -> Effect:
    """Commit what is about to be sent; returns the effect as it stood before.

    A `sends` of 0 means that this is the first time and the send may follow; otherwise it may
    have been sent before, and `send_again` comes first. Raises KeyReused when the key stands for
    another request, LedgerRefusal for a payment of other money than is reserved, StaleRunner when
    the lease is gone.
    """
    intent = Intent(key, step, system, request, fence)
    with ledger.page(refund_id, fence) as page:
        known = _row(page.connection, key)
        money = charges.reservation_of(page) if known is None and intent.pays else None
        return intend_on(page, intent, known, money)


def intend_on(
    page: Page,
    intent: Intent,
    known: dict[str, Any] | None,
    money: charges.Reservation | None,
) -> Effect:
    """As `intend`, on a page: `known` is the key's row, `money` the refund's reservation."""
    request_digest = digest(intent.request)
    if known is None:
        if intent.pays:
            charges.check_reserved(intent.key, intent.request, money)
        page.insert(
            schema.effects,
            key=intent.key,
            refund_id=page.refund_id,
            step=intent.step,
            system=intent.system,
            request=intent.request,
            request_digest=request_digest,
            state="intended",
            sends=1,
            fence=intent.fence,
            first_sent_at=page.now,
            updated_at=page.now,
        )
        page.append(
            "effect.intended",
            {"key": intent.key, "system": intent.system, "request": intent.request},
        )
        return Effect(intent.key, "intended", intent.request, None, None, 0, page.now)
    if known["request_digest"] != request_digest:
        raise KeyReused(
            f"{intent.key} was intended with another request; this is a bug, not a retry"
        )
    return effect_of(known)


def intend_beside(page: Page, intent: Intent) -> Effect:
    """As `intend`, in somebody else's transaction: it may be sent while nobody runs the refund."""
    return intend_on(page, intent, _row(page.connection, intent.key), None)


def send_again(ledger: Ledger, refund_id: str, key: str, fence: int) -> Effect:
    """Commit that the same request is about to be sent once more; returns the effect as it is then.

    It goes under the same key, or after a block as the first send of a new attempt, which only a
    person may ask for. Raises LedgerRefusal when nobody did, or when there is nothing to send.
    """
    with ledger.page(refund_id, fence) as page:
        known = _row(page.connection, key)
        if known is None or known["state"] in FINAL:
            raise LedgerRefusal(f"{key} is not waiting to be sent")
        change: dict[str, Any] = {"sends": known["sends"] + 1}
        if known["state"] == "blocked":
            _check_resumed(page, known)
            anew = {"attempt": known["attempt"] + 1, "first_sent_at": page.now}
            change |= {"state": "intended", **anew}
        _update(page, key, fence=fence, **change)
        page.append("effect.sent_again", {"key": key, "sends": known["sends"] + 1})
        return effect_of({**known, **change})


def read(ledger: Ledger, key: str) -> Effect | None:
    """The effect with this key, if it was ever intended."""
    with ledger.reading() as connection:
        row = _row(connection, key)
    return effect_of(row) if row else None


def of_refund(ledger: Ledger, refund_id: str) -> list[dict[str, Any]]:
    """All effects of a refund, oldest first."""
    query = (
        sa.select(schema.effects)
        .where(schema.effects.c.refund_id == refund_id)
        .order_by(schema.effects.c.first_sent_at, schema.effects.c.key)
    )
    with ledger.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def unsettled(ledger: Ledger, step: str = PAYMENT_STEP) -> list[dict[str, Any]]:
    """Effects of a step whose ending is not known yet, in key order."""
    query = (
        sa.select(schema.effects)
        .where(schema.effects.c.step == step, schema.effects.c.state.not_in(FINAL))
        .order_by(schema.effects.c.key)
    )
    with ledger.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def among_keys(ledger: Ledger, keys: Collection[str]) -> list[Effect]:
    """The effects under these keys, those that there are."""
    with ledger.reading() as connection:
        query = sa.select(schema.effects).where(among(connection, schema.effects.c.key, keys))
        return [effect_of(dict(row)) for row in connection.execute(query).mappings()]


def sent_to_be_paid(ledger: Ledger, refund_ids: Collection[str]) -> set[str]:
    """Those of these refunds whose payment was sent, whatever came of it."""
    row = schema.effects.c
    with ledger.reading() as connection:
        query = sa.select(row.refund_id).where(
            among(connection, row.refund_id, refund_ids), row.step == PAYMENT_STEP
        )
        return set(connection.execute(query).scalars())


def record(
    ledger: Ledger,
    refund_id: str,
    key: str,
    state: str,
    *,
    response: dict[str, Any] | None = None,
    detail: str | None = None,
    fence: int | None = None,
) -> Effect:
    """Commit how a send ended; a final ending never changes again.

    The same final ending again changes nothing; another one raises LedgerRefusal. Without a
    fence the caller is not the runner (a webhook, the sweep) and may only bring what the other
    system said: whether a send is under way only the runner knows.
    """
    if fence is None and state in ("intended", "unknown", "blocked"):
        raise LedgerRefusal(f"{key}: only the runner may say that it is {state}")
    ending = Ending(key, state, response, detail)
    with ledger.page(refund_id, fence) as page:
        known = _row(page.connection, key)
        effect, is_news = record_on(page, ending, known)
        if is_news and known is not None and known["step"] == PAYMENT_STEP:
            book_payment(page, state, charges.reservation_of(page))
            if state in FINAL:
                waits.end(page, ENDED_BY_PAYMENT, f"payment {state}")
        return effect


def record_on(page: Page, ending: Ending, known: dict[str, Any] | None) -> tuple[Effect, bool]:
    """As `record`, on a page and without the booking of money; says whether it is news."""
    key, state = ending.key, ending.state
    if known is None:
        raise LedgerRefusal(f"{key} was never intended, so it cannot have ended")
    if known["state"] in FINAL:
        if state in FINAL and known["state"] != state:
            raise LedgerRefusal(f"{key} is {known['state']} and cannot become {state}")
        return effect_of(known), False
    if known["state"] == state and known["response"] == ending.response:
        return effect_of(known), False
    _update(page, key, state=state, response=ending.response, detail=ending.detail)
    page.append(
        f"effect.{state}", {"key": key, "response": ending.response, "detail": ending.detail}
    )
    changed = {"state": state, "response": ending.response, "detail": ending.detail}
    return effect_of({**known, **changed}), True


def reopen_refused(ledger: Ledger, refund_id: str) -> int:
    """As `reopen`, in a transaction of its own."""
    with ledger.page(refund_id) as page:
        return reopen(page)


def reopen(page: Page) -> int:
    """Let refused steps other than the payment be tried again; returns how many.

    A person asked for it after mending what the other system refused. It is a new attempt: under
    the old key the other system may repeat its old answer.
    """
    row = schema.effects.c
    reopened = page.connection.execute(
        schema.effects.update()
        .where(row.refund_id == page.refund_id, row.state == "refused", row.step != PAYMENT_STEP)
        .values(state="intended", attempt=row.attempt + 1, updated_at=page.now)
    ).rowcount
    if reopened:
        page.append("effects.reopened", {"count": reopened})
    return int(reopened)


def refuse_blocked(page: Page) -> None:
    """A payment that the gateway would not make is now never to be made."""
    row, detail = schema.effects.c, "given up by a person"
    blocked = page.connection.execute(
        sa.select(row.key).where(
            row.refund_id == page.refund_id, row.step == PAYMENT_STEP, row.state == "blocked"
        )
    ).scalar()
    if blocked is not None:
        _update(page, blocked, state="refused", detail=detail)
        page.append("effect.refused", {"key": blocked, "response": None, "detail": detail})


def payment_came_back(ledger: Ledger, refund_id: str, detail: str) -> None:
    """The gateway reports a paid refund as failed: book it and hand it to a person."""
    with ledger.page(refund_id) as page:
        if not charges.book_returned(page):
            return
        page.append("payment.came_back", {"detail": detail})
        page.change(attention=f"the paid refund came back: {detail}")
        page.enter(State.NEEDS_ATTENTION)


def book_payment(page: Page, state: str, reservation: charges.Reservation | None) -> None:
    """The money follows the payment's state."""
    if state == "succeeded":
        charges.book_refunded(page, reservation)
    elif state == "refused":
        charges.book_released(page, reservation)
    elif state == "pending":
        page.enter(State.SETTLING)


def _check_resumed(page: Page, known: dict[str, Any]) -> None:
    """A run begins for many reasons, also by somebody's hand in Prefect: it is nobody's word."""
    row = schema.history.c
    last = page.connection.execute(
        sa.select(row.event)
        .where(row.refund_id == page.refund_id, row.event.in_(("effect.blocked", "refund.resumed")))
        .order_by(row.sequence.desc())
        .limit(1)
    ).scalar()
    if last != "refund.resumed":
        raise LedgerRefusal(
            f"{known['key']} was blocked ({known['detail']}): `refunds resume` pays it anew, "
            "`refunds abandon` gives it up"
        )


def _row(connection: sa.Connection, key: str) -> dict[str, Any] | None:
    row = (
        connection.execute(sa.select(schema.effects).where(schema.effects.c.key == key))
        .mappings()
        .first()
    )
    return dict(row) if row else None


def _update(page: Page, key: str, **columns: Any) -> None:
    page.update(schema.effects, {"key": key}, **columns, updated_at=page.now)


def effect_of(row: dict[str, Any]) -> Effect:
    """The effect a row stands for."""
    return Effect(
        row["key"],
        row["state"],
        row["request"],
        row["response"],
        row["detail"],
        row["sends"],
        row["first_sent_at"],
        row["attempt"],
    )
