"""Why a replay differs: a clock or chance, another order, or code that changed."""

from typing import TYPE_CHECKING

from refunds.replay.script import Script

if TYPE_CHECKING:
    from refunds.replay.performance import Performance

UNSTEADY = (
    "nondeterminism: the flow gives other commands each time it runs, so it reads a clock, chance "
    "or something without an order; let a step do that"
)
ORDER = "the order changed: both steps come, the other way round"
CHANGED = "the code changed between {then} and {now}"
SAME_CODE = (
    "nondeterminism: the very same code did otherwise then, so it depends on something that is "
    "not in the history"
)


def of(performance: "Performance", lines: Script, *, is_steady: bool) -> str:
    """The cause of a difference in one sentence; `is_steady` when two replays agree."""
    if not is_steady:
        return UNSTEADY
    difference = performance.difference
    if difference is not None and difference.kind == "step" and difference.issued is not None:
        later = [line for act in lines.acts for line in act.lines]
        wanted = (difference.issued.step, difference.issued.key)
        if difference.expected is not None and any(
            line.sequence > difference.expected.sequence and line.is_called(*wanted)
            for line in later
        ):
            return ORDER
    if performance.code_then == performance.code_now:
        return SAME_CODE
    return CHANGED.format(
        then=performance.code_then or "an unknown version", now=performance.code_now
    )
