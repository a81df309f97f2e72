"""The nights' pages: for people who are signed in, with charts, harmless whatever is in them."""

import re
from datetime import date
from typing import Any

from refunds import overnight
from refunds.ledger import batches, nights, requests
from refunds.models import RefundRequest, State
from refunds.nights import page
from refunds.nights.report import NightReport
from tasks.batch import reporting
from tests.service.service_world import World

NIGHT = date(2026, 11, 25)
HOSTILE = "<script>alert(1)</script>"


def a_night(desk: World, **fields: Any) -> batches.Batch:
    """A night of two refunds, one of which is stuck for a hostile reason; not closed yet."""
    wanted = [RefundRequest.model_validate(desk.request(**fields)) for _ in range(2)]
    requests.submit(desk.ledger, wanted, "nightly")
    batch = batches.open_night(desk.ledger, NIGHT, 6)
    with desk.ledger.page(wanted[0].refund_id) as found:
        found.change(attention=HOSTILE)
        found.enter(State.NEEDS_ATTENTION)
    return batch


def closed(desk: World, batch: batches.Batch) -> NightReport:
    report, sheet = reporting.compiled(desk.ledger, batch)
    nights.write(desk.ledger, batch, report.plain(), sheet)
    taken = batches.take(desk.ledger, batch.batch_id, "run-1")
    assert taken is not None
    batches.finish(desk.ledger, taken)
    return report


def test_a_night_under_way_shows_how_far_it_has_come(desk: World) -> None:
    a_night(desk)
    browser = desk.browser("ann")
    browser.get("/nights")
    assert "2026-11-25" in browser.text
    browser.get("/nights/night-2026-11-25")
    assert "Under way: 0.0 % of 2 refunds" in browser.text
    assert browser.get("/nights/2026-11-25/sheet.csv").status_code == 422


def test_a_nights_report_has_charts_and_nothing_of_it_is_markup(desk: World) -> None:
    report = closed(desk, a_night(desk))
    browser = desk.browser("ann")
    answer = browser.get("/nights/2026-11-25")
    assert answer.status_code == 200
    assert browser.page.count("<svg") > 3
    assert "needs attention" in browser.text
    assert "$3,000.00" in browser.text
    assert HOSTILE not in browser.page
    assert HOSTILE in browser.text
    # In the service nothing may bring its own style along, as a browser would refuse it.
    assert not re.search(r"<style|\sstyle=", browser.page)

    alone = page.whole(report, "https://refunds.example.com")
    assert HOSTILE not in alone
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)|url\(([^)]+)|@import""", alone)
    assert all(link.startswith("https://refunds.example.com/") for link, _ in loaded)


def test_the_sheet_is_a_file_for_spreadsheets(desk: World) -> None:
    closed(desk, a_night(desk, reason="=1+1"))
    answer = desk.browser("ann").get("/nights/2026-11-25/sheet.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="night-2026-11-25-1.csv"' in answer.headers["content-disposition"]
    assert answer.content.startswith(b"\xef\xbb\xbf")
    assert answer.text.count("\r\n") == 3


def test_nobody_sees_a_night_without_signing_in(desk: World) -> None:
    closed(desk, a_night(desk))
    for path in ("/nights", "/nights/2026-11-25", "/nights/2026-11-25/sheet.csv"):
        answer = desk.browser().client.get(path, follow_redirects=False)
        assert answer.status_code == 303, path


def test_a_night_that_there_never_was_is_a_problem_in_words(desk: World) -> None:
    browser = desk.browser("ann")
    answer = browser.get("/nights/2020-01-01")
    assert 400 <= answer.status_code < 500
    assert "there was no night" in browser.text
    assert browser.get("/nights/..%2F..").status_code < 500


def test_an_earlier_report_of_a_night_stays_what_it_was(desk: World) -> None:
    closed(desk, a_night(desk))
    more = RefundRequest.model_validate(desk.request())
    requests.submit(desk.ledger, [more], "nightly")
    closed(desk, batches.open_night(desk.ledger, NIGHT, 6))
    counts = [overnight.kept("2026-11-25", n).facts["asked"]["count"] for n in (1, 2)]
    assert counts == [2, 3]
