"""One replay from the first event to the last, and what came of it."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from refunds.history_document import HistoryDocument
from refunds.replay import causes, script
from refunds.replay.player import (
    Command,
    Difference,
    Diverged,
    Interrupted,
    Place,
    Player,
    TheEnd,
)
from refunds.replay.script import Line, Script
from refunds.replay.stage import Sealed, Stage


@dataclass(frozen=True)
class Performance:
    """How a replay went.

    `outcome` is what the flow came to, None while the refund is under way. `failures` are the
    steps that failed then; they failed now as well and are no difference. `places` has, for the
    sequence number of each step's event, where the flow stood, innermost first.
    """

    refund_id: str
    outcome: str | None
    commands: list[Command]
    failures: list[Line]
    difference: Difference | None
    cause: str
    code_then: str
    code_now: str
    places: dict[int, tuple[Place, ...]] = field(default_factory=dict)

    @property
    def all_commands(self) -> list[Command | None]:
        """What the flow asked for, with what was not taken at the end."""
        return [*self.commands, self.difference.issued if self.difference else None]

    @property
    def is_same(self) -> bool:
        """Same commands, same outcome."""
        return self.difference is None


def replay(document: HistoryDocument, stage: Stage | None = None) -> Performance:
    """Run the flow's code against a history. Raises BadInput when it has no journal."""
    stage, lines = stage or Stage(), script.of(document)
    performance = asyncio.run(_perform(lines, stage))
    if performance.difference is None:
        return performance
    again = asyncio.run(_perform(lines, stage))
    cause = causes.of(performance, lines, is_steady=again.all_commands == performance.all_commands)
    return replace(performance, cause=cause)


async def _perform(lines: Script, stage: Stage) -> Performance:
    player = Player(lines, stage)
    outcome, difference = None, None
    if lines.acts:
        outcome, difference = await _play(player, stage)
    return Performance(
        refund_id=lines.refund_id,
        outcome=outcome,
        commands=player.commands,
        failures=lines.failures,
        difference=difference,
        cause="",
        code_then=player.act.code_version if lines.acts else "",
        code_now=stage.code_version,
        places=player.places,
    )


async def _play(player: Player, stage: Stage) -> tuple[str | None, Difference | None]:
    """(outcome, first difference) of all acts, one after another."""
    while True:
        try:
            with stage.played_by(player):
                returned = await stage.flow(player.script.request)
        except Interrupted:
            continue
        except TheEnd:
            return None, None
        except Diverged as diverged:
            return None, diverged.difference
        except Sealed as refused:
            places = _raised_at(player, refused)
            return None, Difference("sealed", str(refused), player.next_line, None, places)
        except Exception as error:  # noqa: BLE001 - whatever the flow's code lets out
            difference = _let_out(player, error)
            if difference is not None or not player.next_act():
                return None, difference
        else:
            return str(returned), _at_the_end(player, returned)


def _let_out(player: Player, error: Exception) -> Difference | None:
    """An error that leaves the flow is no difference when it is the step's own of then."""
    if player.raised is error and player.next_line is None:
        return None
    said = f"the flow raises {type(error).__name__}: {error}"
    return Difference("raised", said, player.next_line, None, _raised_at(player, error))


def _raised_at(player: Player, error: BaseException) -> tuple[Place, ...]:
    found, traceback = [], error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        shown = player.stage.files.get(code.co_filename)
        if shown is not None:
            found.append(Place(shown, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return tuple(reversed(found))


def _at_the_end(player: Player, returned: Any) -> Difference | None:
    line = player.next_line
    if line is not None:
        return Difference("missing", f"the flow ends before {line.step}", line, None)
    if player.next_act():
        line = player.next_line
        return Difference("missing", "the flow ends where another run went on then", line, None)
    if str(returned) != player.script.outcome:
        said = f"the outcome was {player.script.outcome} then, and is {returned} now"
        return Difference("outcome", said)
    return None
