"""Other systems' answers, read with care: one that is not in the shape it should be proves nothing.

What has to be there and is not raises StepUnknown, so that what may have been done is asked for.
"""

from typing import Any

from refunds.errors import StepUnknown


def part_of(answer: Any, *path: str) -> Any:
    """What an answer has under a path, or None where the path leads nowhere."""
    for name in path:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer


def text_in(answer: Any, *path: str) -> str | None:
    """A text, or None where there is none."""
    found = part_of(answer, *path)
    return found if isinstance(found, str) else None


def reference_in(system: str, answer: Any, *path: str) -> str:
    """The other system's own id."""
    found = part_of(answer, *path)
    if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
        raise StepUnknown(system, f"its answer has no {'.'.join(path)}")
    return str(found)


def objects_in(system: str, answer: Any, *path: str) -> list[dict[str, Any]]:
    """A list of objects."""
    found = part_of(answer, *path)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise StepUnknown(system, f"its answer has no list {'.'.join(path)}")
    return found
