"""`refunds nightly`, `nights` and `report`: run a night, list the nights, read what one came to."""

import asyncio
import sys
from datetime import date
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from refunds.cli import environment, output
from refunds.cli.failures import FAILED
from refunds.errors import BadInput

# The name of the state in which Prefect leaves a run that did its work.
_DONE = "Completed"

Night = Annotated[
    str | None, typer.Argument(metavar="[NIGHT]", help="Its date; the last night by default.")
]


def nightly(
    night: Annotated[
        str | None, typer.Option("--date", metavar="D", help="The night, as YYYY-MM-DD.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Run tonight's batch now."""
    wanted = _date(night)
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> dict[str, Any]:
        with _Bar() as bar:
            async with AsyncRefunds() as refunds:
                return await refunds.nightly(wanted, watch=bar.show)

    found = asyncio.run(run())
    if as_json:
        output.write_json([found])
    else:
        output.write_table(("", ""), _facts(found), "nothing is due")
    if found["run_state"] != _DONE:
        output.note(f"refunds: the batch ended {found['run_state']}; see its run in the Prefect UI")
        raise typer.Exit(FAILED)


def nights(as_json: output.AsJson = False) -> None:
    """List the nights, the last one first."""
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> list[dict[str, Any]]:
        async with AsyncRefunds() as refunds:
            return await refunds.nights()

    found = asyncio.run(run())
    if as_json:
        output.write_json(found)
        return
    output.write_table(
        ("night", "refunds", "done", "started", "finished", "report", "sent"),
        (
            (
                *(row["night"], row["refunds"], f"{row['percent']:.0f} %"),
                *(output.moment(row["started_at"]), output.moment(row["finished_at"])),
                *(row["report"], row["sent"]),
            )
            for row in found
        ),
        "there has been no night yet",
    )


def report(
    night: Night = None,
    html: Annotated[bool, typer.Option("--html", help="One page with charts.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="A line for each refund.")] = False,
    edition: Annotated[
        int | None, typer.Option(metavar="N", help="An earlier report of the same night.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Show what a night came to, as it was when it ended; nothing is computed anew."""
    if html + csv + as_json > 1:
        raise BadInput("choose one of --html, --csv and --json")
    environment.prepare()
    from refunds.api import AsyncRefunds
    from refunds.nights import words
    from refunds.nights.report import NightReport

    async def run() -> Any:
        async with AsyncRefunds() as refunds:
            if html:
                return (await refunds.report_page(night, edition)).encode()
            if csv:
                return await refunds.report_sheet(night, edition)
            return await refunds.report(night, edition)

    found = asyncio.run(run())
    if isinstance(found, bytes):
        sys.stdout.buffer.write(found)
        sys.stdout.buffer.flush()
    elif as_json:
        output.write_json([found])
    else:
        known = NightReport.model_validate(
            {name: value for name, value in found.items() if name in NightReport.model_fields}
        )
        print(words.subject(known))
        rows = [
            (row["what"], row["which"], row["refunds"], row["amount"]) for row in words.table(known)
        ]
        output.write_table(("", "", "refunds", "amount"), rows, "it was an empty night")


class _Bar:
    """How far the night has come, on standard error; nothing where that is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[states]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("tonight", total=None, states="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, told: dict[str, Any]) -> None:
        states = ", ".join(f"{name} {count}" for name, count in sorted(told["states"].items()))
        self._progress.update(
            self._task,
            description=told["batch_id"],
            total=told["refunds"],
            completed=told["refunds"] - told["left"],
            states=states,
        )


def _facts(found: dict[str, Any]) -> list[tuple[str, object]]:
    states = found.get("states", {})
    return [
        *((name, value) for name, value in found.items() if name != "states"),
        *((f"  {name}", count) for name, count in sorted(states.items())),
    ]


def _date(given: str | None) -> date | None:
    try:
        return None if given is None else date.fromisoformat(given)
    except ValueError as error:
        raise BadInput(f"--date: {given!r} is not a date such as 2026-11-23") from error
