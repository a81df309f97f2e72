"""What waits in the ledger has to be able to go on under this version; else set-up refuses it.

A refund may wait for weeks, and the version that resumes it is not the one that began it. It can
be carried when this version still reads what it asked and what was assessed of it, and still has
every step that it has an effect of: a renamed step would be done a second time, and one that is
gone could not be undone.
"""

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from prefect import Task
from pydantic import BaseModel, ValidationError

import tasks
from refunds.ledger import Ledger, schema
from refunds.models import AfterSale, Assessment, Order, RefundRequest, RiskFeatures, Rival

# Enough to see what is wrong with all of them.
_NAMED = 20


def broken(ledger: Ledger) -> list[str]:
    """A sentence for each unfinished refund that this version would break, in key order."""
    steps, refund = steps_of_this_version(), schema.refunds.c
    waiting = sa.select(schema.refunds).where(refund.outcome.is_(None)).order_by(refund.refund_id)
    with ledger.reading() as connection:
        rows = list(connection.execute(waiting).mappings())
        assessed = _grouped(
            connection,
            sa.select(schema.history.c.refund_id, schema.history.c.data)
            .join(schema.refunds, refund.refund_id == schema.history.c.refund_id)
            .where(refund.outcome.is_(None), schema.history.c.event == "refund.assessed"),
        )
        done = _grouped(
            connection,
            sa.select(schema.effects.c.refund_id, schema.effects.c.step)
            .join(schema.refunds, refund.refund_id == schema.effects.c.refund_id)
            .where(refund.outcome.is_(None)),
        )
    sentences = []
    for row in rows:
        name = row["refund_id"]
        reasons = [
            *_unread(RefundRequest, row["request"], "its request"),
            *(why for data in assessed[name] for why in _unread_assessment(data)),
            *(f"its step {step} is not in this version" for step in set(done[name]) - steps),
        ]
        if reasons:
            sentences.append(f"{name} ({row['state']}): {'; '.join(sorted(set(reasons)))}")
    return sentences


def told(sentences: list[str]) -> str:
    """The refusal, with the refunds it is about and what to do."""
    more = len(sentences) - _NAMED
    head = (
        f"this version cannot carry on {len(sentences)} refunds that are under way. Go back to the "
        "version before and let them end, or keep the names and fields that they have:"
    )
    return "\n".join(
        [
            head,
            *(f"- {sentence}" for sentence in sentences[:_NAMED]),
            *([f"- and {more} more"] if more > 0 else []),
        ]
    )


def steps_of_this_version() -> set[str]:
    """The name of every task: an effect's step is the name of the task that does it."""
    found = set()
    for module in pkgutil.iter_modules(tasks.__path__, "tasks."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Task):
                found.add(value.name)
    return found


def _unread_assessment(data: dict[str, Any]) -> Iterator[str]:
    yield from _unread(Assessment, data["assessment"], "its assessment")
    yield from _unread(RiskFeatures, data["risk"], "its risk features")
    if data["order"] is not None:
        yield from _unread(Order, data["order"], "its order")
    for record in data["after_sales"]:
        yield from _unread(AfterSale, record, "its after-sale records")
    for rival in data["rivals"]:
        yield from _unread(Rival, rival, "its rivals")


def _unread(model: type[BaseModel], stored: Any, what: str) -> Iterator[str]:
    try:
        model.model_validate(stored)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        yield f"{what} cannot be read ({place}: {wrong['msg']})"


def _grouped(connection: sa.Connection, query: sa.Select[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = defaultdict(list)
    for refund_id, value in connection.execute(query):
        grouped[refund_id].append(value)
    return grouped
