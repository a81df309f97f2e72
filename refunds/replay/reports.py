"""What came of a replay, in sentences for people and in JSON types for programs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refunds.replay.performance import Performance
from refunds.replay.player import Difference, Place

_ROOT = Path(__file__).parents[2]

# Enough of a value to see how it differs; `--json` has the whole of it.
_SHOWN_CHARACTERS = 60

REMEDY = (
    "Refunds in flight would go wrong. Keep their way beside the new one, as docs/history.md "
    "(changing the flow) says."
)


def lines(performance: Performance) -> Iterator[str]:
    """The report, line by line."""
    name, difference = performance.refund_id, performance.difference
    if difference is None:
        outcome = f"same outcome ({performance.outcome})" if performance.outcome else "under way"
        yield f"{name}: same commands, {outcome}"
        for failure in performance.failures:
            error = failure.error or {}
            yield f"  {failure.step} failed then, too: {error['kind']}: {error['message']}"
        return
    yield f"{name}: {difference.said}"
    if difference.expected is not None:
        yield f"  then  event {difference.expected.sequence}: {_called(difference.expected)}"
    if difference.issued is not None:
        yield f"  now   {_called(difference.issued)}"
    for path, then, now in _side_by_side(difference):
        yield f"  {path}: {_cut(then)} | {_cut(now)}"
    for place in difference.places[:1]:
        yield f"  {place.file}:{place.line} in {place.function}: {code_at(place)}"
    yield f"  cause: {performance.cause}"
    yield f"  {REMEDY}"


def plain(performance: Performance) -> dict[str, Any]:
    """The report as JSON types."""
    difference = performance.difference
    return {
        "refund_id": performance.refund_id,
        "same": performance.is_same,
        "outcome": performance.outcome,
        "failures": [
            {"event": f.sequence, "step": f.step, "error": f.error} for f in performance.failures
        ],
        "difference": None if difference is None else _difference(difference),
        "cause": performance.cause or None,
        "code_then": performance.code_then,
        "code_now": performance.code_now,
    }


def code_at(place: Place) -> str:
    """The line of code at a place, as it stands today."""
    path = Path(place.file)
    try:
        source = (path if path.is_absolute() else _ROOT / path).read_text(encoding="utf-8")
    except OSError:
        return ""
    rows = source.splitlines()
    return rows[place.line - 1].strip() if 0 < place.line <= len(rows) else ""


def _difference(difference: Difference) -> dict[str, Any]:
    expected, issued = difference.expected, difference.issued
    return {
        "kind": difference.kind,
        "said": difference.said,
        "expected": None
        if expected is None
        else {
            "event": expected.sequence,
            "step": expected.step,
            "key": expected.key,
            "inputs": expected.inputs,
        },
        "issued": None
        if issued is None
        else {"step": issued.step, "key": issued.key, "inputs": issued.inputs},
        "inputs": [
            {"input": path, "then": then, "now": now}
            for path, then, now in _side_by_side(difference)
        ],
        "places": [{**place.plain(), "code": code_at(place)} for place in difference.places],
    }


def _called(command: Any) -> str:
    return f"{command.step} ({command.key or 'no key'})"


def _side_by_side(difference: Difference) -> list[tuple[str, Any, Any]]:
    """(where, then, now) for each input that differs; all of them when the steps differ."""
    then = difference.expected.inputs if difference.expected else {}
    now = difference.issued.inputs if difference.issued else {}
    if not then or not now:
        return []
    return list(_unlike("", then, now))


def _unlike(path: str, then: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if then == now:
        return
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted(then.keys() | now.keys()):
            yield from _unlike(f"{path}.{name}".lstrip("."), then.get(name), now.get(name))
        return
    yield path, then, now


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
