"""The nights: a list, each one's report with its charts, and its sheet."""

from fastapi import APIRouter
from fastapi.responses import Response

from refunds import overnight, views
from refunds.ledger import nights
from refunds.nights import page
from refunds.nights.report import NightReport
from refunds.service import limits, pages
from refunds.service.who import Person
from tasks import books

router = APIRouter()

# Two months: who looks further back asks for a date.
_SHOWN = 60

# A spreadsheet takes a file for UTF-8 only with this at its beginning.
_MARK = b"\xef\xbb\xbf"


@router.get("/nights")
def listed(visitor: Person) -> Response:
    """The nights, the last one first."""
    limits.people.spend(visitor.person_id)
    ledger = books.ledger()
    found = [views.night(ledger, batch) for batch in nights.last(ledger, _SHOWN)]
    return pages.show("nights.html", visitor, nights=found)


@router.get("/nights/{night}")
def show(night: str, visitor: Person, edition: int | None = None) -> Response:
    """A night's report, or how far the night has come."""
    limits.people.spend(visitor.person_id)
    ledger = books.ledger()
    batch = overnight.named(night)
    kept = nights.latest(ledger, batch.batch_id, edition)
    parts = page.parts(NightReport.model_validate(kept.facts)) if kept else {}
    told = views.night(ledger, batch)
    return pages.show("night.html", visitor, night=told, kept=kept, **parts)


@router.get("/nights/{night}/sheet.csv")
def download(night: str, visitor: Person, edition: int | None = None) -> Response:
    """A line for each refund."""
    limits.people.spend(visitor.person_id)
    kept = overnight.kept(night, edition)
    name = f'attachment; filename="{kept.batch_id}-{kept.edition}.csv"'
    return Response(
        _MARK + nights.sheet_of(books.ledger(), kept),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": name},
    )
