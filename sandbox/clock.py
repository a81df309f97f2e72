"""The one clock of the sandbox, and the integer milliseconds in which it stores time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_clock() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def to_ms(moment: datetime) -> int:
    """Return the whole milliseconds from the epoch to `moment`."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def to_iso(at_ms: int) -> str:
    """Return `at_ms` as ISO 8601 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")
