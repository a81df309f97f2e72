"""`refunds history`, `replay` and `export`: what happened, again, and to show to others."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refunds.cli import arguments, environment, output
from refunds.cli.failures import FAILED
from refunds.errors import BadInput

if TYPE_CHECKING:
    from refunds.history_document import HistoryDocument
    from refunds.replay import Stage
    from refunds.timeline import Entry

_STYLES = {"good": "green", "bad": "red", "wait": "yellow", "plain": ""}


def history(refund_id: arguments.Id, as_json: output.AsJson = False) -> None:
    """Show all that happened to one refund, oldest first; --json is what `replay` takes."""
    environment.prepare()
    from refunds import timeline
    from refunds.api import AsyncRefunds

    known_id = arguments.refund_id(refund_id)

    async def run() -> "HistoryDocument":
        async with AsyncRefunds() as refunds:
            return await refunds.history_document(known_id)

    document = asyncio.run(run())
    if as_json:
        output.write_json([document.plain()])
    else:
        _show(timeline.entries(document.events))


def export(
    refund_id: arguments.Id,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where the bundle goes.")],
    as_json: output.AsJson = False,
) -> None:
    """Write one refund's evidence: history, decisions, digests, policy; `verify FILE` checks it."""
    known_id = arguments.refund_id(refund_id)
    environment.prepare()
    from refunds.api import AsyncRefunds
    from refunds.verify import bundles

    async def run() -> bytes:
        async with AsyncRefunds() as refunds:
            return await refunds.export(known_id)

    content = asyncio.run(run())
    try:
        Path(out).write_bytes(content)
    except (OSError, ValueError) as error:
        raise BadInput(f"--out: {out!r} cannot be written: {error}") from error
    told = {"refund_id": known_id, "file": out, "seal": bundles.seal_of(content)}
    if as_json:
        output.write_json([told])
    else:
        print(f"{out}: seal {told['seal']}")


def replay(
    file: Annotated[
        str, typer.Argument(metavar="FILE|DIR", help="What `refunds history ID --json` wrote.")
    ],
    policy: Annotated[
        str | None,
        typer.Option("--with-policy", metavar="FILE", help="What would this policy have said?"),
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Run the flow's code against recorded histories, offline: same commands, same outcome?

    1 when anything differs. With a policy: what would have been otherwise.
    """
    found = [(path, arguments.read(str(path))[0]) for path in _files(file)]
    # Nothing is asked of Prefect, so nothing of it is prepared.
    from refunds import history_document
    from refunds.replay import Stage

    documents = ((path, history_document.read(content, str(path))) for path, content in found)
    if policy is not None:
        _with_policy(documents, policy, Stage(), as_json=as_json)
    else:
        _replay_all(documents, Stage(), as_json=as_json)


def _replay_all(
    documents: "Iterator[tuple[Path, HistoryDocument]]", stage: "Stage", *, as_json: bool
) -> None:
    from refunds.replay import replay as replayed
    from refunds.replay import reports

    total = differing = 0
    for path, document in documents:
        performance = replayed(document, stage)
        total += 1
        differing += not performance.is_same
        if as_json:
            output.write_json([{"file": str(path), **reports.plain(performance)}])
        else:
            print("\n".join(reports.lines(performance)))
    if total > 1 and not as_json:
        print(f"{total} histories replayed, {differing} of them differ")
    if differing:
        raise typer.Exit(FAILED)


def _with_policy(
    documents: "Iterator[tuple[Path, HistoryDocument]]", file: str, stage: "Stage", *, as_json: bool
) -> None:
    from refunds import policy_file
    from refunds.replay import counterfactual

    content, name = arguments.read(file)
    policy = policy_file.parse(content.decode("utf-8", errors="replace"), name)
    rows = [counterfactual.judged(document, policy, stage) for _, document in documents]
    if as_json:
        output.write_json(row.plain() for row in rows)
        return
    output.write_table(
        ("refund", "amount", "then", "outcome", "now", "why"),
        ((r.refund_id, r.amount, r.then, r.outcome, r.now, r.why) for r in rows),
        "nothing was assessed",
    )
    print(f"{sum(row.is_other for row in rows)} of {len(rows)} verdicts would be another")


def _files(given: str) -> list[Path]:
    path = Path(given)
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*.json"))
    if not files:
        raise BadInput(f"{given} holds no history (*.json)")
    return files


def _show(entries: "list[Entry]") -> None:
    console = output.console()
    last_day = None
    for entry in entries:
        if entry.at.date() != last_day:
            last_day = entry.at.date()
            console.print(f"{last_day} (UTC)", style="bold")
        line = f"{entry.sequence:>4}  {entry.at:%H:%M:%S}  {entry.lane:<8} {entry.title}"
        console.print(line, style=_STYLES[entry.tone], soft_wrap=True)
