"""What is different between what was seen and what is so now, field by field."""

from collections.abc import Iterable
from typing import Any, TypedDict

from refunds.digests import canonical

# Enough of a value to recognise it; the whole of both is in the history.
_SHOWN_CHARACTERS = 120

# An opinion is journaled and never asked for again, so it cannot have changed.
_NOT_COMPARED = frozenset({"opinion"})


class Change(TypedDict):
    """One field's value when it was looked at, and now."""

    field: str
    then: Any
    now: Any


def changes_between(then: dict[str, Any], now: dict[str, Any]) -> tuple[Change, ...]:
    """Every bound fact that differs, in the order of the facts now."""
    names = [*now, *(name for name in then if name not in now)]
    return tuple(
        Change(field=name, then=then.get(name), now=now.get(name))
        for name in names
        if name not in _NOT_COMPARED and then.get(name) != now.get(name)
    )


def told(changes: Iterable[Change]) -> str:
    """The changes in one line, long values cut short."""
    return "; ".join(
        f"{change['field']}: {shown(change['then'])} → {shown(change['now'])}" for change in changes
    )


def shown(value: Any) -> str:
    """A value as text, cut short."""
    if value is None or value in ("", []):
        return "none"
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
