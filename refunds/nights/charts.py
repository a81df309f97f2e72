"""The geometry of the report's charts. Pure; sizes are per cent, or units of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from refunds.models import Outcome, State
from refunds.nights.report import NightReport, Tally

# The picture of the pace is this wide and high; the page scales it.
PACE_WIDTH, PACE_HEIGHT = 480, 120

# Good, bad, and what is still open; what is not named is open.
_TONES = {
    Outcome.PAID: "good",
    Outcome.REJECTED: "plain",
    Outcome.EXPIRED: "plain",
    Outcome.FAILED: "bad",
    State.NEEDS_ATTENTION: "bad",
}


@dataclass(frozen=True)
class Bar:
    """One line of a chart: what, how wide in per cent, how it looks."""

    tally: Tally
    width: float
    tone: str


@dataclass(frozen=True)
class Part:
    """A part of one bar: where it begins and how wide it is, in per cent."""

    tally: Tally
    x: float
    width: float
    tone: str


@dataclass(frozen=True)
class Column:
    """One part of the night: where it stands and how high it is."""

    x: float
    y: float
    width: float
    height: float
    count: int


@dataclass(frozen=True)
class MoneyBar:
    """What was asked in one currency, and how much of it was paid, in per cent."""

    currency: str
    asked_minor: int
    paid_minor: int
    open_minor: int
    paid_percent: float
    open_percent: float


def bars(tallies: Sequence[Tally]) -> list[Bar]:
    """A bar each; the longest fills the width."""
    sizes = widths([each.count for each in tallies])
    return [Bar(each, width, _tone(each.name)) for each, width in zip(tallies, sizes, strict=True)]


def widths(values: Sequence[int]) -> list[float]:
    """Each value's share of the largest, in per cent; something is never nothing."""
    most = max(values, default=0)
    return [max(round(100 * value / most, 1), 0.5) if value else 0.0 for value in values]


def shares(report: NightReport) -> list[Part]:
    """One bar of all refunds: each outcome and state in its share."""
    parts, x = [], 0.0
    for each in (*report.outcomes, *report.states):
        width = 100 * each.count / report.asked.count if report.asked.count else 0.0
        parts.append(Part(each, round(x, 2), round(width, 2), _tone(each.name)))
        x += width
    return parts


def columns(pace: Sequence[int]) -> list[Column]:
    """A column for each part of the night."""
    most, width = max(pace, default=0), PACE_WIDTH / max(len(pace), 1)
    return [
        Column(
            x=round(number * width, 1),
            y=round(PACE_HEIGHT - _height(count, most), 1),
            # A gap of a tenth tells one from the next.
            width=round(width * 0.9, 1),
            height=_height(count, most),
            count=count,
        )
        for number, count in enumerate(pace)
    ]


def money(report: NightReport) -> list[MoneyBar]:
    """By currency: asked, paid, and still open."""
    paid = _by_currency([each for each in report.outcomes if each.name == Outcome.PAID])
    still_open = _by_currency(report.states)
    return [
        MoneyBar(
            currency=each.currency,
            asked_minor=each.amount_minor,
            paid_minor=paid.get(each.currency, 0),
            open_minor=still_open.get(each.currency, 0),
            paid_percent=_percent(paid.get(each.currency, 0), each.amount_minor),
            open_percent=_percent(still_open.get(each.currency, 0), each.amount_minor),
        )
        for each in report.asked.sums
    ]


def _by_currency(tallies: Sequence[Tally]) -> dict[str, int]:
    found: dict[str, int] = {}
    for tally in tallies:
        for each in tally.sums:
            found[each.currency] = found.get(each.currency, 0) + each.amount_minor
    return found


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _height(count: int, most: int) -> float:
    return round(PACE_HEIGHT * count / most, 1) if most else 0.0


def _tone(name: str) -> str:
    return {str(key): tone for key, tone in _TONES.items()}.get(name, "open")
