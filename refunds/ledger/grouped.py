"""The ledger's rules for many refunds at once: each function is one transaction.

What is written of one refund is what the functions for one write: they share the code for a page.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from refunds.errors import ChargeExhausted, RefundError
from refunds.flow_version import FLOW_VERSION
from refunds.ledger import charges, effects, leases, schema, waits
from refunds.ledger.book import Ledger, Page
from refunds.ledger.effects import Effect, Ending, Intent
from refunds.ledger.pages import Pages, among, open_pages
from refunds.models import Case, State

Rows = dict[str, dict[str, Any]]


T = TypeVar("T")


@dataclass(frozen=True)
class Grouped(Generic[T]):
    """What came of it for each refund (or key), which refunds are another runner's, what failed."""

    done: dict[str, T] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()
    failed: dict[str, RefundError] = field(default_factory=dict)


def take(
    ledger: Ledger, refund_ids: Sequence[str], run_id: str, taken: Callable[[Page], None]
) -> None:
    """Take the leases of a batch's refunds for its run; `taken` is called on each one's page.

    Left out is what is over, has left the batch, or is held by a process that may live. What was
    submitted under another version of the flow leaves it: the sweep gives it a run of its own,
    since only the single chain knows the course of every version.
    """
    holder = leases.holder_of_this_process(run_id)
    with open_pages(ledger, dict.fromkeys(refund_ids)) as pages:
        linked = _linked(pages, run_id)
        passed = _ended_waits(pages)
        versions = _flow_versions(pages)
        for refund_id, page in pages.mine.items():
            if (
                page.row["outcome"] is not None
                or page.row["lane"] != "batch"
                or page.row["given_up"]
            ):
                continue
            if leases.held_by_another(page, holder):
                continue
            if versions[refund_id] != FLOW_VERSION:
                page.change(lane="now", run_id=None)
                continue
            if refund_id not in linked:
                page.insert(schema.runs, refund_id=refund_id, run_id=run_id, first_seen_at=page.now)
            page.change(run_id=run_id)
            leases.hand_over(page, run_id, holder)
            if refund_id in passed:
                waits.pass_ended(page)
            leases.begin_to_assess(page)
            taken(page)


def each(ledger: Ledger, fences: Mapping[str, int], write: Callable[[Page], None]) -> Grouped[None]:
    """Let `write` write on each refund's page."""
    with open_pages(ledger, fences) as pages:
        for page in pages.mine.values():
            write(page)
        return Grouped(dict.fromkeys(pages.mine), frozenset(pages.stale), {})


def reserve(
    ledger: Ledger,
    cases: Mapping[str, Case],
    fences: Mapping[str, int],
    reserved: Callable[[Page], None],
) -> Grouped[None]:
    """As `charges.reserve`, in key order; who comes too late has failed with ChargeExhausted.

    `reserved` is called on the pages of the others.
    """
    done: dict[str, None] = {}
    failed: dict[str, RefundError] = {}
    with open_pages(ledger, fences) as pages:
        mine = {refund_id: cases[refund_id] for refund_id in pages.mine}
        left = _lock_charges(pages, mine.values())
        before = _reservations(pages)
        claimed = _claimed_items(pages, {case.request.order_id for case in mine.values()})
        for refund_id, case in mine.items():
            state = before[refund_id]["state"] if refund_id in before else None
            if state not in ("reserved", "refunded"):
                try:
                    _reserve_on(pages.mine[refund_id], case, left, claimed, state)
                except ChargeExhausted as error:
                    failed[refund_id] = error
                    continue
            reserved(pages.mine[refund_id])
            done[refund_id] = None
        return Grouped(done, frozenset(pages.stale), failed)


def intend(
    ledger: Ledger,
    intents: Mapping[str, Intent],
    known_before: Callable[[Page, Effect], None],
    entering: State | None = None,
) -> Grouped[Effect]:
    """As `effects.intend`, for one intent a refund, by refund id; `entering` comes before it.

    `known_before` is called on the page of an effect that has ended already.
    """
    done: dict[str, Effect] = {}
    failed: dict[str, RefundError] = {}
    fences = {refund_id: intent.fence for refund_id, intent in intents.items()}
    with open_pages(ledger, fences) as pages:
        known = _effects(pages, [intents[refund_id].key for refund_id in pages.mine])
        pays = any(intents[refund_id].pays for refund_id in pages.mine)
        money = _reservations(pages) if pays else {}
        for refund_id, page in pages.mine.items():
            intent = intents[refund_id]
            if entering is not None:
                page.enter(entering)
            try:
                effect = effects.intend_on(
                    page, intent, known.get(intent.key), money.get(refund_id)
                )
            except RefundError as error:
                failed[refund_id] = error
                continue
            done[refund_id] = effect
            if effect.is_final or effect.state == "pending":
                known_before(page, effect)
        return Grouped(done, frozenset(pages.stale), failed)


@dataclass(frozen=True)
class Entry:
    """What is to be written of one refund's call: how it ended, and what else to note of it."""

    ending: Ending | None
    note: Callable[[Page, Effect | None], None]


def record(
    ledger: Ledger, entries: Mapping[str, Entry], fences: Mapping[str, int]
) -> Grouped[Effect | None]:
    """As `effects.record`, for one call a refund, by refund id."""
    done: dict[str, Effect | None] = {}
    failed: dict[str, RefundError] = {}
    with open_pages(ledger, fences) as pages:
        endings = {name: entries[name].ending for name in pages.mine}
        known = _effects(pages, [ending.key for ending in endings.values() if ending])
        pays = any(row["step"] == effects.PAYMENT_STEP for row in known.values())
        money = _reservations(pages) if pays else {}
        waiting = _open_waits(pages) if pays else set()
        for refund_id, page in pages.mine.items():
            ending, effect = endings[refund_id], None
            try:
                if ending is not None:
                    effect, is_news = effects.record_on(page, ending, known.get(ending.key))
                    if is_news and known[ending.key]["step"] == effects.PAYMENT_STEP:
                        effects.book_payment(page, ending.state, money.get(refund_id))
                        if effect.is_final and refund_id in waiting:
                            waits.end(page, effects.ENDED_BY_PAYMENT, f"payment {ending.state}")
            except RefundError as error:
                failed[refund_id] = error
                continue
            entries[refund_id].note(page, effect)
            done[refund_id] = effect
        return Grouped(done, frozenset(pages.stale), failed)


def _reserve_on(
    page: Page,
    case: Case,
    left: dict[str, int],
    claimed: dict[str, list[list[str]]],
    state: str | None,
) -> None:
    charge, request = case.charge, case.request
    if charge is None:
        raise ChargeExhausted(f"nothing was paid for order {request.order_id}")
    if charge.currency != request.currency or left[charge.charge_id] < request.amount_minor:
        raise charges.too_little(charge.charge_id, request.amount_minor, request.currency)
    charges.check_items_free(case, claimed[request.order_id])
    left[charge.charge_id] -= request.amount_minor
    claimed[request.order_id].append(list(request.item_ids))
    page.move_money(charge.charge_id, reserved_minor=request.amount_minor, refunded_minor=0)
    charges.note_reserved(page, case, charge.charge_id, was_released=state is not None)


def _lock_charges(pages: Pages, cases: Any) -> dict[str, int]:
    """What is left on each charge of these orders, locked in one order for everybody."""
    row = schema.charges.c
    ids = {charge.charge_id for case in cases if case.order for charge in case.order.charges}
    query = (
        sa.select(row.charge_id, row.captured_minor, row.reserved_minor, row.refunded_minor)
        .where(among(pages.connection, row.charge_id, ids))
        .order_by(row.charge_id)
        .with_for_update()
    )
    return {
        charge_id: captured - reserved - refunded
        for charge_id, captured, reserved, refunded in pages.connection.execute(query)
    }


def _claimed_items(pages: Pages, order_ids: set[str]) -> dict[str, list[list[str]]]:
    claimed: dict[str, list[list[str]]] = defaultdict(list)
    query = (
        sa.select(schema.refunds.c.order_id, schema.reservations.c.item_ids)
        .join(schema.refunds, schema.refunds.c.refund_id == schema.reservations.c.refund_id)
        .where(among(pages.connection, schema.refunds.c.order_id, order_ids))
        .where(schema.reservations.c.state.in_(("reserved", "refunded")))
    )
    for order_id, item_ids in pages.connection.execute(query):
        claimed[order_id].append(item_ids)
    return claimed


def _reservations(pages: Pages) -> Rows:
    row = schema.reservations.c
    query = sa.select(schema.reservations).where(among(pages.connection, row.refund_id, pages.mine))
    return {found["refund_id"]: dict(found) for found in pages.connection.execute(query).mappings()}


def _effects(pages: Pages, keys: list[str]) -> Rows:
    query = sa.select(schema.effects).where(among(pages.connection, schema.effects.c.key, keys))
    return {found["key"]: dict(found) for found in pages.connection.execute(query).mappings()}


def _linked(pages: Pages, run_id: str) -> set[str]:
    row = schema.runs.c
    query = sa.select(row.refund_id).where(
        among(pages.connection, row.refund_id, pages.mine), row.run_id == run_id
    )
    return set(pages.connection.execute(query).scalars())


def _flow_versions(pages: Pages) -> dict[str, int]:
    row = schema.history.c
    query = sa.select(row.refund_id, row.data).where(
        among(pages.connection, row.refund_id, pages.mine), row.sequence == 1
    )
    return {
        refund_id: data.get("flow_version", 1)
        for refund_id, data in pages.connection.execute(query)
    }


def _ended_waits(pages: Pages) -> set[str]:
    row = schema.waits.c
    query = sa.select(row.refund_id).where(
        among(pages.connection, row.refund_id, pages.mine),
        row.ended_at.is_not(None),
        row.passed_at.is_(None),
    )
    return set(pages.connection.execute(query).scalars())


def _open_waits(pages: Pages) -> set[str]:
    row = schema.waits.c
    query = sa.select(row.refund_id).where(
        among(pages.connection, row.refund_id, pages.mine), row.ended_at.is_(None)
    )
    return set(pages.connection.execute(query).scalars())
