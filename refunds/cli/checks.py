"""`refunds verify` and `refunds doctor`: is everything as it should be?"""

import asyncio
import contextlib
import sys
from typing import Annotated, Any

import typer

from refunds.cli import arguments, environment, output
from refunds.cli.failures import FAILED


def verify(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A bundle of `refunds export`, checked offline."),
    ] = None,
    seal: Annotated[
        str | None, typer.Option(metavar="S", help="The bundle's seal as it was noted elsewhere.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Check the histories and the amounts against the gateway's books; 1 names what is wrong."""
    if file is not None:
        _verify_bundle(file, seal, as_json=as_json)
        return
    environment.prepare()
    from refunds.api import AsyncRefunds
    from refunds.verify import Report
    from refunds.verify import verify as verified

    def progress(sentence: str) -> None:
        if sys.stderr.isatty():
            output.note(sentence)

    async def run() -> Report:
        async with AsyncRefunds():
            return await verified(progress)

    report = asyncio.run(run())
    if as_json:
        output.write_json({"problem": problem} for problem in report.problems)
        output.write_json([{"problems": len(report.problems), **report.counts}])
    else:
        for problem in report.problems:
            print(problem)
        print(report.summary())
    if report.problems:
        raise typer.Exit(FAILED)


def _verify_bundle(file: str, seal: str | None, *, as_json: bool) -> None:
    from refunds.verify import bundles

    content, name = arguments.read(file)
    problems = bundles.problems(content, name)
    if seal is not None and seal != bundles.seal_of(content):
        problems.append("its seal is not the one that was noted: it is another bundle")
    if as_json:
        output.write_json({"problem": problem} for problem in problems)
        output.write_json([{"problems": len(problems), "seal": bundles.seal_of(content)}])
    else:
        print("\n".join(problems) or f"all is well: seal {bundles.seal_of(content)}")
    if problems:
        raise typer.Exit(FAILED)


def doctor(as_json: output.AsJson = False) -> None:
    """Check the set-up and say how to mend it."""
    from refunds.errors import BadInput

    # A wrong setting is the first thing the doctor reports.
    with contextlib.suppress(BadInput):
        environment.prepare()
    from refunds.doctor import examine

    findings = asyncio.run(examine())
    if as_json:
        output.write_json(finding.plain() for finding in findings)
    else:
        _show(findings)
    if not all(finding.is_well for finding in findings):
        raise typer.Exit(FAILED)


def _show(findings: list[Any]) -> None:
    console = output.console()
    for finding in findings:
        mark = "✓" if finding.is_well else "✗"
        style = "green" if finding.is_well else "red"
        console.print(f"{mark} {finding.name}: {finding.seen}", style=style, soft_wrap=True)
        if not finding.is_well:
            console.print(f"    {finding.remedy}", soft_wrap=True)
