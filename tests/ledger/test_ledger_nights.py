"""A night's refunds and effects are read a few at a time, from both kinds of database."""

from __future__ import annotations

from datetime import date

import pytest

from refunds.ledger import batches, nights, requests
from tests.ledger.ledger_desk import Desk, request


def test_all_of_a_nights_rows_come_however_few_the_database_gives_at_a_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nights, "_ROWS_AT_ONCE", 2)
    wanted = [request() for _ in range(5)]
    requests.submit(desk.ledger, wanted, lane="nightly")
    night = batches.open_night(desk.ledger, date(2026, 3, 1), hours=8)
    with desk.ledger.streaming() as connection:
        found = [row["refund_id"] for row in nights.refunds_of(connection, night)]
        effects = list(nights.effects_of(connection, night))
    assert found == sorted(each.refund_id for each in wanted)
    assert effects == []
