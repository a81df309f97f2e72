"""What would another policy have said? The flow is replayed with it, up to where it parts."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from prefect import Task

from refunds import money
from refunds.history_document import HistoryDocument
from refunds.models import Assessment
from refunds.policy_file import Policy
from refunds.replay import script
from refunds.replay.player import Command, Diverged, Interrupted, Place, Player, TheEnd
from refunds.replay.script import Line
from refunds.replay.stage import Sealed, Stage

_ASSESSES = "record_assessment"


@dataclass(frozen=True)
class Judged:
    """One refund under the other policy; `then` and `now` are verdicts, `why` the reasons now."""

    refund_id: str
    amount: str
    then: str | None
    outcome: str | None
    now: str | None
    why: str
    reasons_then: tuple[str, ...] = ()

    @property
    def is_other(self) -> bool:
        """Whether the verdict would be another."""
        return self.then != self.now

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "refund_id": self.refund_id,
            "amount": self.amount,
            "verdict_then": self.then,
            "outcome_then": self.outcome,
            "verdict_now": self.now,
            "reasons_then": list(self.reasons_then),
            "reasons_now": self.why,
            "differs": self.is_other,
        }


class _Parted(BaseException):
    """The verdict is another; what would follow never happened."""


@dataclass
class _PolicyPlayer(Player):
    """Gives the flow another policy and goes on for as long as the verdict stays what it was."""

    other: Policy | None = None
    assessments: list[tuple[Assessment, Assessment]] = field(default_factory=list)

    def policy(self, version: str) -> Policy:
        """The other policy, whichever it was then."""
        return self.other or super().policy(version)

    def _compare(
        self, task: Task[..., Any], line: Line, command: Command, places: tuple[Place, ...]
    ) -> None:
        # Its inputs differ with the policy; its commands may not.
        del task, places
        if line.step != _ASSESSES:
            return
        then = Assessment.model_validate(line.inputs["assessment"])
        now = Assessment.model_validate(command.inputs["assessment"])
        self.assessments.append((then, now))
        if then.verdict is not now.verdict:
            raise _Parted


def judged(document: HistoryDocument, policy: Policy, stage: Stage) -> Judged:
    """The last assessment that both policies came to. Raises BadInput when there is no journal."""
    lines = script.of(document)
    player = _PolicyPlayer(lines, stage, other=policy)
    if lines.acts:
        asyncio.run(_play(player, stage))
    then, now = player.assessments[-1] if player.assessments else (None, None)
    request = lines.request
    return Judged(
        refund_id=lines.refund_id,
        amount=money.show(request.amount_minor, request.currency),
        then=str(then.verdict) if then else None,
        outcome=lines.outcome,
        now=str(now.verdict) if now else None,
        why=" ".join(reason.text for reason in now.reasons) if now else "",
        reasons_then=tuple(reason.text for reason in then.reasons) if then else (),
    )


async def _play(player: _PolicyPlayer, stage: Stage) -> None:
    while True:
        try:
            with stage.played_by(player):
                await stage.flow(player.script.request)
        except Interrupted:
            continue
        except (_Parted, TheEnd, Diverged, Sealed):
            return
        except Exception:
            if player.raised is None or not player.next_act():
                raise
        else:
            return
