"""The picture of a timeline: three lanes, every event in its place, waits to scale. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from refunds.timeline import Entry, Span

LANES = ("flow", "systems", "people")

# In pixels: room for the lanes' names, a lane's height, and a dot with air around it.
_LEFT, _LANE, _STEP = 90, 56, 18

# All waits together are as wide as this many pixels, whether they took minutes or weeks.
_WAITS = 480

# Shorter than this nobody waited: the events of a run follow each other within it.
_PAUSE = timedelta(seconds=5)

# Crashes and repeated attempts are to be seen from afar.
_TROUBLE = {"run.lost": "crash", "step.retried": "retry", "step.failed": "failure"}


@dataclass(frozen=True)
class Dot:
    """One event: where it stands and how it looks."""

    entry: Entry
    x: int
    y: int
    kind: str


@dataclass(frozen=True)
class Bar:
    """A wait, from left to right; `label` says for what and how long."""

    name: str
    x: int
    width: int
    y: int
    label: str


@dataclass(frozen=True)
class Picture:
    """Everything that is drawn; sizes in pixels."""

    width: int
    height: int
    dots: tuple[Dot, ...]
    bars: tuple[Bar, ...]
    lanes: tuple[tuple[str, int], ...]


def drawn(entries: Sequence[Entry], spans: Sequence[Span], now: datetime) -> Picture:
    """The picture of a history as it is at `now`."""
    places = _across(entries)
    lanes = {lane: 30 + number * _LANE for number, lane in enumerate(LANES)}
    dots = tuple(
        Dot(entry, x, lanes[entry.lane], _TROUBLE.get(entry.event, entry.tone))
        for entry, x in zip(entries, places, strict=True)
    )
    end = (places[-1] if places else _LEFT) + _STEP
    across = [(dot.entry.at, dot.x) for dot in dots]
    bars = tuple(_bar(span, across, lanes["flow"], now) for span in spans)
    width = max([end, *(bar.x + bar.width for bar in bars)]) + _STEP
    return Picture(width, 30 + len(LANES) * _LANE, dots, bars, tuple(lanes.items()))


def _across(entries: Sequence[Entry]) -> list[int]:
    """Where each event stands: steps are even, pauses in proportion to how long they took."""
    gaps = [later.at - earlier.at for earlier, later in pairwise(entries)]
    waited = sum((gap for gap in gaps if gap > _PAUSE), timedelta())
    places = [_LEFT]
    for gap in gaps:
        share = int(_WAITS * (gap / waited)) if gap > _PAUSE else 0
        places.append(places[-1] + _STEP + share)
    return places[: len(entries)]


def _bar(span: Span, across: Sequence[tuple[datetime, int]], y: int, now: datetime) -> Bar:
    begin = next(x for at, x in across if at >= span.since)
    over = [x for at, x in across if span.until is not None and at >= span.until]
    stop = over[0] if over else across[-1][1] + 4 * _STEP
    lasted = length((span.until or now) - span.since)
    label = f"waited {lasted} for {span.name}" if over else f"waits for {span.name}, {lasted} now"
    return Bar(span.name, begin, max(stop - begin, 4), y + 14, label)


def length(time: timedelta) -> str:
    """A time as people say it: 3 d 4 h, 2 h 5 min, 40 s."""
    seconds = max(int(time.total_seconds()), 0)
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"
