"""A chunk of a batch: the refunds that go through the steps together, each on its own road."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from refunds.ledger.assessed import Assessed
from refunds.ledger.batches import Batch
from refunds.ledger.effects import Effect
from refunds.models import (
    Advice,
    Answer,
    ApprovalRequest,
    Assessment,
    Case,
    Outcome,
    Payment,
    Receipt,
    RefundRequest,
    RiskFeatures,
)
from refunds.policy_file import Policy
from tasks.batch.journaling import Journal


class Turn(StrEnum):
    """What comes next for a refund of the chunk."""

    ASSESS = "assess"
    ASK = "ask a person"
    HEAR = "hear what was said"
    RESERVE = "reserve"
    PAY = "pay"
    TAKE_BACK = "take back"
    CONCLUDE = "conclude"
    # Over, waiting, or somebody else's by now.
    LEFT = "left"


class Road:
    """One refund on its way through the chunk."""

    case: Case
    risk: RiskFeatures
    rules: Policy
    assessment: Assessment
    answer: Answer
    payment: Payment

    def __init__(self, row: dict[str, Any]) -> None:
        """A refund whose lease was taken, by its row in the ledger."""
        self.request = RefundRequest.model_validate(row["request"])
        self.refund_id = self.request.refund_id
        self.fence: int = row["fence"]
        self.journal = Journal(self.request)
        # The run that it gets of its own, if it needs one.
        self.next_run_number: int = row["run_number"] + 1
        self.own_run_id: str | None = None
        self.round = 1
        self.turn = Turn.ASSESS
        # An earlier run has assessed it; whether what it found still stands is in its history.
        self.was_assessed: bool = row["verdict"] is not None
        # It is not the first run's: steps may have ended before.
        self.was_run: bool = row["fence"] > 1
        # This round's verdict is in the ledger.
        self.is_recorded = False
        self.opinion: Advice = None
        self.approval: ApprovalRequest | None = None
        # The round whose question was put before, and is waited for or answered.
        self.round_asked: Assessed | None = None
        self.parcel: Receipt | None = None
        self.coupon: Receipt | None = None
        self.outcome: Outcome | None = None
        # The effect of the last call, as the ledger has it.
        self.last_effect: Effect | None = None
        self.why = ""
        self.left_because = ""

    def conclude(self, outcome: Outcome, why: str) -> None:
        """Nothing is left but to tell everybody."""
        self.outcome, self.why, self.turn = outcome, why, Turn.CONCLUDE

    def look_again(self) -> None:
        """The facts have changed: the refund is assessed anew."""
        self.round += 1
        self.turn, self.is_recorded = Turn.ASSESS, False
        self.approval = self.round_asked = None

    def leave(self, because: str) -> None:
        """This refund goes no further in this chunk."""
        self.left_because, self.turn = because, Turn.LEFT


class Chunk:
    """The refunds of one chunk, in key order. Tasks get it whole and change it in place."""

    def __init__(self, batch: Batch, run_id: str, refund_ids: list[str]) -> None:
        """Refunds of a batch that this run carries."""
        self.batch = batch
        self.run_id = run_id
        self.refund_ids = refund_ids
        self.roads: dict[str, Road] = {}

    @property
    def last_key(self) -> str:
        """Where the batch stands when this chunk is through."""
        return self.refund_ids[-1]

    def at(self, *turns: Turn) -> list[Road]:
        """The refunds whose turn it is, in key order."""
        return [road for road in self.roads.values() if road.turn in turns]

    def fences(self, refund_ids: Iterable[str]) -> dict[str, int]:
        """The fences that this run holds for these refunds."""
        return {refund_id: self.roads[refund_id].fence for refund_id in refund_ids}

    def drop_stale(self, refund_ids: Iterable[str]) -> None:
        """These have another runner by now."""
        for refund_id in refund_ids:
            self.roads[refund_id].leave("another runner has it")

    def __repr__(self) -> str:
        """Short: Prefect shows it as a task's input."""
        return f"Chunk({self.batch.batch_id}, {len(self.refund_ids)} refunds to {self.last_key})"
