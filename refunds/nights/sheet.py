"""One line a refund, as CSV that a spreadsheet opens without running anything in it."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from refunds import money

COLUMNS = (
    *("refund", "order", "customer", "amount", "currency", "verdict", "outcome", "state"),
    *("reasons", "waits_for", "needs_a_person", "submitted", "completed"),
)

# A spreadsheet takes a cell that begins like this for a formula, in wide letters too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - wide on purpose


def written(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The sheet in UTF-8, with every cell quoted."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([harmless(cell) for cell in _cells(row)])
    return text.getvalue().encode()


def harmless(text: str) -> str:
    """The text as a cell that is text: an apostrophe goes before what would be a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *(row["refund_id"], row["order_id"], row["customer_id"]),
        money.decimal_text(row["amount_minor"], row["currency"]),
        *(row["currency"], row["verdict"] or "", row["outcome"] or "", row["state"]),
        " ".join(reason["text"] for reason in row["reasons"] or ()),
        *(row["waits_for"] or "", row["attention"] or ""),
        row["submitted_at"].isoformat(timespec="seconds"),
        row["completed_at"].isoformat(timespec="seconds") if row["completed_at"] else "",
    )
