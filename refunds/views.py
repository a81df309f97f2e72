"""What the front doors show of the ledger, as plain JSON types."""

from typing import Any

from refunds.ledger import Ledger, approvals, batches, effects, nights, requests, waits
from refunds.ledger.batches import Batch
from refunds.ledger.nights import Kept

_DECISION = ("person", "for_person", "decision", "reason", "channel", "verified")


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """One line of a list: id, state, outcome, verdict, amount in minor units."""
    names = ("refund_id", "state", "outcome", "verdict", "order_id", "customer_id")
    return {
        **{name: row[name] for name in names},
        "amount_minor": row["amount_minor"],
        "currency": row["currency"],
        "run_id": row["run_id"],
        "submitted_at": row["submitted_at"].isoformat(),
        "attention": row["attention"],
    }


def status(ledger: Ledger, refund_id: str) -> dict[str, Any]:
    """Everything known of a refund. Raises UnknownRefund."""
    row = requests.read(ledger, refund_id)
    standing = approvals.standing(ledger, refund_id)
    completed_at = row["completed_at"]
    return {
        **summary(row),
        "reasons": [reason["text"] for reason in row["reasons"] or []],
        "request": row["request"],
        "approval": None if standing is None else _approval(standing),
        "effects": [_effect(effect) for effect in effects.of_refund(ledger, refund_id)],
        "waits": [_wait(wait) for wait in waits.open_waits(ledger, refund_id)],
        "run_ids": requests.run_ids(ledger, refund_id),
        # The batch that carries it with others; None where a run of its own does.
        "carried_by": (row["burst_id"] or row["batch_id"]) if row["lane"] == "batch" else None,
        "completed_at": completed_at.isoformat() if completed_at else None,
    }


def night(ledger: Ledger, batch: Batch) -> dict[str, Any]:
    """A night in short: when it was, how far it has come, and its last report's edition."""
    found, kept = nights.progress(ledger, batch), nights.latest(ledger, batch.batch_id)
    return {
        "night": batch.night.isoformat() if batch.night else None,
        "batch_id": batch.batch_id,
        "started_at": batch.opened_at.isoformat(),
        "finished_at": batch.finished_at.isoformat() if batch.finished_at else None,
        "refunds": found.all,
        "left": found.left,
        "percent": round(found.percent, 1),
        "states": dict(found.states),
        "shards": len(batches.shards(ledger, batch.batch_id)),
        "report": kept.edition if kept else None,
        "sent": kept.notice_state if kept else None,
    }


def report(kept: Kept) -> dict[str, Any]:
    """A night's report as it was written, and what became of its notice."""
    return {
        **kept.facts,
        "written_at": kept.written_at.isoformat(),
        "notice": {"state": kept.notice_state, "detail": kept.notice_detail},
    }


def _approval(standing: approvals.Standing) -> dict[str, Any]:
    return {
        "approval_id": standing.approval_id,
        "status": standing.status,
        "digest": standing.digest,
        "needed": standing.people_needed,
        "verified_needed": standing.verified_needed,
        "round": standing.round,
        "level": standing.level,
        "levels": [level.plain() for level in standing.levels],
        "escalate_at": standing.escalate_at.isoformat(),
        "deadline": standing.deadline.isoformat(),
        "decisions": [
            {
                **{k: d[k] for k in _DECISION},
                "at": d["decided_at"].isoformat(),
            }
            for d in standing.decisions
        ],
    }


def _effect(effect: dict[str, Any]) -> dict[str, Any]:
    names = ("key", "step", "system", "state", "request", "response", "detail", "sends")
    return {
        **{name: effect[name] for name in names},
        "first_sent_at": effect["first_sent_at"].isoformat(),
        "updated_at": effect["updated_at"].isoformat(),
    }


def _wait(wait: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": wait["name"],
        "for": wait["reason"],
        "since": wait["opened_at"].isoformat(),
        "until": wait["due_at"].isoformat() if wait["due_at"] else None,
    }
