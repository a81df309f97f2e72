"""A night's report in words: the notice in the morning, and the tables that Prefect shows."""

from collections.abc import Iterable

from refunds import money
from refunds.models import Outcome, State
from refunds.nights.report import Duration, NightReport, Tally
from refunds.wording import escaped

_SECOND_MS = 1_000
_MINUTE_SECONDS = 60

Rows = list[dict[str, str | int]]


def page_of(batch_id: str) -> str:
    """The path of a night's page."""
    return f"/nights/{batch_id}"


def subject(report: NightReport) -> str:
    """The night in one line."""
    parts = [
        f"{report.count(Outcome.PAID)} paid",
        f"{report.count(State.AWAITING_APPROVAL)} for a person to decide",
        f"{report.count(State.NEEDS_ATTENTION)} stuck",
    ]
    again = f" (report {report.edition})" if report.edition > 1 else ""
    return f"Night of {report.night}{again}: {', '.join(parts)}"


def body(report: NightReport) -> str:
    """The night in a few lines, without anything that a customer wrote."""
    ended = f"{report.finished_at:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"{report.asked.count} refunds, {length(report.seconds)} (ended {ended}).",
        *(f"{each.name}: {told(each)}" for each in (*report.outcomes, *report.states)),
    ]
    if report.waits:
        lines.append("Waiting for time or a system: " + counted(report.waits))
    if report.left_over:
        lines.append(f"Left to the next night: {report.left_over}")
    if report.failures:
        lines.append(f"Calls that ended badly: {sum(each.count for each in report.failures)}")
    return "\n".join(lines)


def table(report: NightReport) -> Rows:
    """The night as rows of what, how many, and how much."""
    rows: Rows = []
    named = (
        ("outcome", report.outcomes),
        ("not over", report.states),
        ("verdict", report.verdicts),
        ("waits for", report.waits),
    )
    for what, tallies in named:
        rows += [
            {"what": what, "which": each.name, "refunds": each.count, "amount": amounts(each)}
            for each in tallies
        ]
    rows += [
        {"what": "reason", "which": each.rule, "refunds": each.count, "amount": each.verdict}
        for each in report.reasons
    ]
    rows += [
        {
            "what": "failure",
            "which": f"{each.system} {each.step}",
            "refunds": each.count,
            "amount": f"{each.state} {escaped(each.detail)}",
        }
        for each in report.failures
    ]
    return rows


def markdown(report: NightReport, address: str) -> str:
    """The night as Prefect shows it, with a link to its page."""
    lines = [f"| {escaped(each.name)} | {told(each)} |" for each in report.outcomes]
    lines += [f"| {escaped(each.name)} | {told(each)} |" for each in report.states]
    took = f"{report.asked.count} refunds in {length(report.seconds)}"
    times = [f"| {escaped(each.name)} | {shown(each)} |" for each in report.systems]
    return "\n".join(
        (
            f"# {subject(report)}",
            f"[Its page, with charts]({address}) · {took}",
            *("", "| | refunds |", "|---|---|", *lines),
            *("", "| system | calls |", "|---|---|", *times),
        )
    )


def told(tally: Tally) -> str:
    """How many, and how much: 812 ($1,234.56, €99.00)."""
    return f"{tally.count} ({amounts(tally)})" if tally.sums else str(tally.count)


def amounts(tally: Tally) -> str:
    """The amounts by currency."""
    return ", ".join(money.show(each.amount_minor, each.currency) for each in tally.sums)


def counted(tallies: Iterable[Tally]) -> str:
    """Names with their counts."""
    return ", ".join(f"{each.name} {each.count}" for each in tallies)


def shown(duration: Duration) -> str:
    """A duration's figures in one line."""
    return (
        f"{duration.count}, half within {milliseconds(duration.median_ms)}, "
        f"95 % within {milliseconds(duration.slowest_twentieth_ms)}, "
        f"at most {milliseconds(duration.most_ms)}"
    )


def milliseconds(time: int) -> str:
    """350 ms, 4.2 s, 3 min 5 s."""
    if time < _SECOND_MS:
        return f"{time} ms"
    seconds = time / _SECOND_MS
    return f"{seconds:.1f} s" if seconds < _MINUTE_SECONDS else length(int(seconds))


def length(seconds: int) -> str:
    """2 h 5 min, 3 min 5 s, 40 s."""
    hours, minutes = seconds // 3_600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
