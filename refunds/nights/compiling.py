"""From the ledger's rows to a night's report, row by row."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from refunds.models import State
from refunds.nights.report import Duration, Failure, Line, NightReport, Reason, Sum, Tally

Row = Mapping[str, Any]

# As many as a person reads in the morning; the sheet has all.
_LINES = 50
# Enough to see a pattern; what fails in more ways than that is one fault.
_FAILURES = 30
# As many columns as a phone shows.
_PARTS = 24
# Enough of what a system said to tell one fault from another.
_DETAIL_CHARACTERS = 160

_NOT_WELL = ("refused", "unknown", "blocked")


class _Amounts:
    """Counts and amounts by name and currency."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[int]]] = defaultdict(
            lambda: defaultdict(lambda: [0, 0])
        )

    def add(self, name: str, row: Row) -> None:
        found = self._found[name][row["currency"]]
        found[0] += 1
        found[1] += row["amount_minor"]

    def tally(self, name: str) -> Tally:
        sums = tuple(
            Sum(currency=currency, count=count, amount_minor=minor)
            for currency, (count, minor) in sorted(self._found.get(name, {}).items())
        )
        return Tally(name=name, count=sum(each.count for each in sums), sums=sums)

    def tallies(self) -> tuple[Tally, ...]:
        """The most frequent first."""
        found = [self.tally(name) for name in self._found]
        return tuple(sorted(found, key=lambda each: (-each.count, each.name)))


class _Times:
    """How long the calls of one system took."""

    def __init__(self) -> None:
        self.milliseconds: list[int] = []
        self.repeated = 0

    def add(self, since: datetime, until: datetime, sends: int = 1) -> None:
        self.milliseconds.append(max(round((until - since).total_seconds() * 1_000), 0))
        self.repeated += max(sends - 1, 0)

    def duration(self, name: str) -> Duration:
        found = sorted(self.milliseconds)
        return Duration(
            name=name,
            count=len(found),
            repeated=self.repeated,
            median_ms=_at(found, 50),
            slowest_twentieth_ms=_at(found, 95),
            most_ms=found[-1],
        )


class Compiler:
    """Takes in the rows of a night in any order; `report` is what they come to."""

    def __init__(self, started_at: datetime) -> None:
        """A night that began then."""
        self._started_at = started_at
        self._outcomes, self._states, self._verdicts = _Amounts(), _Amounts(), _Amounts()
        self._asked, self._waits = _Amounts(), _Amounts()
        self._reasons: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}
        self._failures: Counter[tuple[str, str, str, str]] = Counter()
        self._systems: dict[str, _Times] = defaultdict(_Times)
        self._spans: dict[str, tuple[datetime, datetime]] = {}
        self._completed: list[datetime] = []
        self._lines: dict[State, list[Line]] = defaultdict(list)
        self._left_over = 0

    def refund(self, row: Row) -> None:
        """A refund of the night; `waits_for` names what it waits for besides a person."""
        self._asked.add("asked", row)
        if row["lane"] == "nightly":
            self._left_over += 1
        if row["outcome"] is not None:
            self._outcomes.add(row["outcome"], row)
            self._completed.append(row["completed_at"])
        else:
            self._states.add(row["state"], row)
        if row["verdict"] is not None:
            self._verdicts.add(row["verdict"], row)
        for reason in row["reasons"] or ():
            name = (reason["rule"], reason["verdict"])
            self._reasons[name] += 1
            self._examples.setdefault(name, reason["text"])
        if row["waits_for"] is not None:
            self._waits.add(row["waits_for"], row)
        self._look_at(row)

    def effect(self, row: Row) -> None:
        """One call to one system."""
        since, until = row["first_sent_at"], row["updated_at"]
        self._systems[row["system"]].add(since, until, row["sends"])
        if row["state"] in _NOT_WELL:
            detail = (row["detail"] or "")[:_DETAIL_CHARACTERS]
            self._failures[row["system"], row["step"], row["state"], detail] += 1
        first, last = self._spans.get(row["refund_id"], (since, until))
        self._spans[row["refund_id"]] = (min(first, since), max(last, until))

    def report(
        self, batch_id: str, night: date, edition: int, finished_at: datetime
    ) -> NightReport:
        """What all of it comes to."""
        whole = _Times()
        for since, until in self._spans.values():
            whole.add(since, until)
        pace_seconds, pace = self._pace(finished_at)
        return NightReport(
            batch_id=batch_id,
            night=night,
            edition=edition,
            started_at=self._started_at,
            finished_at=finished_at,
            asked=self._asked.tally("asked"),
            outcomes=self._outcomes.tallies(),
            states=self._states.tallies(),
            verdicts=self._verdicts.tallies(),
            reasons=tuple(
                Reason(
                    rule=rule, verdict=verdict, count=count, example=self._examples[rule, verdict]
                )
                for (rule, verdict), count in sorted(
                    self._reasons.items(), key=lambda found: (-found[1], found[0])
                )
            ),
            failures=tuple(
                Failure(system=system, step=step, state=state, detail=detail, count=count)
                for (system, step, state, detail), count in self._failures.most_common(_FAILURES)
            ),
            systems=tuple(self._systems[name].duration(name) for name in sorted(self._systems)),
            whole=whole.duration("one refund") if whole.milliseconds else None,
            pace_seconds=pace_seconds,
            pace=pace,
            waits=self._waits.tallies(),
            for_people=_largest(self._lines[State.AWAITING_APPROVAL]),
            stuck=_largest(self._lines[State.NEEDS_ATTENTION]),
            left_over=self._left_over,
        )

    def _look_at(self, row: Row) -> None:
        state = row["state"]
        if state not in (State.AWAITING_APPROVAL, State.NEEDS_ATTENTION):
            return
        texts = [reason["text"] for reason in row["reasons"] or ()]
        why = row["attention"] if state == State.NEEDS_ATTENTION else " ".join(texts)
        self._lines[State(state)].append(
            Line(
                refund_id=row["refund_id"],
                amount_minor=row["amount_minor"],
                currency=row["currency"],
                why=why or "",
            )
        )

    def _pace(self, finished_at: datetime) -> tuple[int, tuple[int, ...]]:
        """How many were completed in each part of the night."""
        seconds = max((finished_at - self._started_at).total_seconds(), 1)
        width = math.ceil(seconds / _PARTS)
        parts = [0] * math.ceil(seconds / width)
        for at in self._completed:
            part = int((at - self._started_at).total_seconds() // width)
            parts[min(max(part, 0), len(parts) - 1)] += 1
        return width, tuple(parts)


def _largest(lines: list[Line]) -> tuple[Line, ...]:
    """The largest of each currency, in turns, so that no currency crowds out another."""
    ranked: list[tuple[int, Line]] = []
    ranks: Counter[str] = Counter()
    for line in sorted(lines, key=lambda line: (-line.amount_minor, line.refund_id)):
        ranked.append((ranks[line.currency], line))
        ranks[line.currency] += 1
    ranked.sort(key=lambda found: (found[0], found[1].currency))
    return tuple(line for _, line in ranked[:_LINES])


def _at(ordered: list[int], percent: int) -> int:
    """The value that this share of them does not exceed."""
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]
