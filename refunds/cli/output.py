"""Results on standard output: JSON Lines for programs, tables for people."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


def write_json(records: Iterable[Mapping[str, Any]]) -> None:
    """One object a line, in ASCII so that any pipe carries it."""
    for record in records:
        print(json.dumps(record, default=str))


def console() -> Console:
    """For people; what customers wrote is shown as it is, never taken for markup."""
    return Console(markup=False, emoji=False, highlight=False)


def note(sentence: str) -> None:
    """Something to know that is not the result."""
    print(sentence, file=sys.stderr)


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Rows under their columns, or the sentence `empty`; `None` is shown as nothing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        # An id or an amount that is cut short or broken up cannot be copied.
        table.add_column(
            name,
            justify="right" if name == "amount" else "left",
            no_wrap=name in ("refund", "amount", "key"),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    if table.row_count:
        console().print(table)
    else:
        note(empty)


def moment(iso_time: str | None) -> str:
    """A time to the second, without the zone: the ledger's are all UTC."""
    return "" if iso_time is None else iso_time[:19].replace("T", " ")
