"""`refunds audit`: who looked, who decided, from where, on what, under which policy."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated

import typer

from refunds.cli import environment, output
from refunds.errors import BadInput

program = typer.Typer(no_args_is_help=True, help="The audit trail.")


@program.callback()
def audit() -> None:
    """The audit trail."""


@program.command()
def export(
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only from then on: 2026-11-23 or with a time, UTC.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Into a file; else standard output.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Write every event with its digest, one JSON object a line."""
    del as_json  # it is JSON either way
    start = _time(since) if since else None
    environment.prepare()
    if out is None:
        _write(sys.stdout, start)
        return
    # Whole or not at all: a half-written export must not pass for one.
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="ascii") as file:
            count = _write(file, start)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    output.note(f"{count} events written to {out}")


def _write(file: IO[str], since: datetime | None) -> int:
    from refunds.ledger import audit, migrate, open_ledger
    from refunds.settings import settings

    migrate(settings().ledger_database_url)
    count = 0
    for event in audit.export(open_ledger(settings().ledger_database_url), since):
        file.write(json.dumps(event) + "\n")
        count += 1
    return count


def _time(given: str) -> datetime:
    try:
        found = datetime.fromisoformat(given)
    except ValueError as error:
        raise BadInput(f"--since: {given!r} is not a time such as 2026-11-23T18:00") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
