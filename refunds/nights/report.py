"""A night's report: counts, amounts by currency, durations, and who has to do something now."""

from datetime import date, datetime

from refunds.values import Value


class Sum(Value):
    """How many refunds of one currency, and their amounts together in minor units."""

    currency: str
    count: int
    amount_minor: int


class Tally(Value):
    """How many refunds something is true of, with their amounts."""

    name: str
    count: int
    sums: tuple[Sum, ...] = ()


class Reason(Value):
    """How often a rule was among the reasons for a verdict, and how it put it once."""

    rule: str
    verdict: str
    count: int
    example: str


class Failure(Value):
    """Calls of one step that ended alike and not well."""

    system: str
    step: str
    state: str
    detail: str
    count: int


class Duration(Value):
    """How long something took, in milliseconds, from the intent to the result in the ledger."""

    name: str
    count: int
    # Sends beyond the first of each.
    repeated: int
    median_ms: int
    slowest_twentieth_ms: int
    most_ms: int


class Line(Value):
    """A refund that somebody has to look at."""

    refund_id: str
    amount_minor: int
    currency: str
    why: str


class NightReport(Value):
    """Everything that is told of a night, as it was when the night ended.

    `pace` has how many refunds were completed in each of its equal parts of `pace_seconds`, from
    `started_at` on. `for_people` and `stuck` name the largest of each currency, not all.
    """

    batch_id: str
    night: date
    edition: int
    started_at: datetime
    finished_at: datetime
    asked: Tally
    outcomes: tuple[Tally, ...]
    states: tuple[Tally, ...]
    verdicts: tuple[Tally, ...]
    reasons: tuple[Reason, ...]
    failures: tuple[Failure, ...]
    systems: tuple[Duration, ...]
    whole: Duration | None
    pace_seconds: int
    pace: tuple[int, ...]
    waits: tuple[Tally, ...]
    for_people: tuple[Line, ...]
    stuck: tuple[Line, ...]
    left_over: int

    @property
    def seconds(self) -> int:
        """How long the night took."""
        return max(int((self.finished_at - self.started_at).total_seconds()), 0)

    def count(self, name: str) -> int:
        """How many refunds had this outcome or were in this state."""
        return sum(each.count for each in (*self.outcomes, *self.states) if each.name == name)
