"""A night's report as a page: charts drawn in the page itself, nothing loaded from anywhere."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from refunds import money
from refunds.nights import charts, words
from refunds.nights.report import NightReport

# The service's pages include the report's part from here.
TEMPLATES = Path(__file__).with_name("templates")
# Beside the service's own: in a file of its own the report brings it along.
_STYLES = Path(__file__).parents[1] / "service" / "static" / "night.css"

_environment = Environment(
    loader=FileSystemLoader(TEMPLATES),
    # What a customer or another system wrote is text.
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

FILTERS = {
    "amount": money.show,
    "amounts": words.amounts,
    "milliseconds": words.milliseconds,
    "lasting": words.length,
}
_environment.filters |= FILTERS


def whole(report: NightReport, address: str) -> str:
    """The report as one file; its links lead to the service at `address`."""
    return _environment.get_template("standalone.html").render(
        **parts(report, address), styles=styles()
    )


def parts(report: NightReport, address: str = "") -> dict[str, Any]:
    """What the report's part of a page is made of."""
    return {
        "report": report,
        "subject": words.subject(report),
        "address": address,
        "share": charts.shares(report),
        "outcomes": charts.bars((*report.outcomes, *report.states)),
        "verdicts": charts.bars(report.verdicts),
        "waits": charts.bars(report.waits),
        "reasons": charts.widths([each.count for each in report.reasons]),
        "columns": charts.columns(report.pace),
        "times": charts.widths([each.slowest_twentieth_ms for each in report.systems]),
        "money": charts.money(report),
    }


def styles() -> str:
    """The style sheet that the report needs."""
    return _STYLES.read_text(encoding="utf-8")
