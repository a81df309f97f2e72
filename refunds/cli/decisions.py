"""`refunds decide`, `resume` and `abandon`: what a person sets in motion."""

import asyncio
from enum import StrEnum
from typing import Annotated, Any

import typer

from refunds.cli import arguments, environment, looking, output
from refunds.cli.failures import FAILED
from refunds.errors import BadInput


class Choice(StrEnum):
    """What a person may say."""

    APPROVE = "approve"
    REJECT = "reject"


def decide(  # noqa: PLR0917 - typer makes an option of each
    refund_id: arguments.Id,
    choice: Annotated[Choice, typer.Argument(help="The decision.")],
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Who decides.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    digest: Annotated[
        str | None,
        typer.Option(metavar="D", help="Of what you saw; refused when that has changed."),
    ] = None,
    on_behalf_of: Annotated[
        str | None,
        typer.Option("--for", metavar="PERSON", help="Who is away and whose delegate decides."),
    ] = None,
    amount: Annotated[
        int | None,
        typer.Option(metavar="N", help="Propose a smaller amount, in minor units; asked anew."),
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Approve or reject a refund that waits for a person."""
    known_id, name = arguments.refund_id(refund_id), arguments.person(person)
    why = arguments.sentence(reason)
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> dict[str, Any]:
        async with AsyncRefunds() as refunds:
            return await refunds.decide(
                known_id,
                choice.value,
                person=name,
                reason=why,
                digest=digest,
                channel="cli",
                on_behalf_of=on_behalf_of,
                amount_minor=amount,
            )

    _show(asyncio.run(run()), "the decision", as_json=as_json)


def resume(  # noqa: PLR0917 - typer makes an option of each
    refund_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    state: Annotated[
        str | None, typer.Option(metavar="S", help="Many: all in this state that are not over.")
    ] = None,
    needs: Annotated[
        str, typer.Option(metavar="TEXT", help="Many: the stuck whose need says this.")
    ] = "",
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Who resumes it.")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What was mended.")] = "",
    apply: Annotated[
        bool, typer.Option("--apply", help="Many: do it; without it you see which they are.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Put a refund that is stuck back on its feet, or many of them after a look."""
    if (refund_id is None) == (state is None and not needs):
        raise BadInput("name one refund, or choose many with --state or --needs")
    name = arguments.person(person) if person else ""
    why = arguments.sentence(reason)
    if refund_id is None:
        _resume_many(state, needs, name, why, apply=apply, as_json=as_json)
        return
    known_id = arguments.refund_id(refund_id)
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> dict[str, Any]:
        async with AsyncRefunds() as refunds:
            return await refunds.resume(known_id, person=name, reason=why)

    _show(asyncio.run(run()), "this", as_json=as_json)


def _resume_many(
    state: str | None, needs: str, person: str, reason: str, *, apply: bool, as_json: bool
) -> None:
    if apply and not person:
        raise BadInput("--as: many are resumed by somebody")
    environment.prepare()
    from refunds.api import AsyncRefunds
    from refunds.models import State

    async def run() -> list[dict[str, Any]]:
        async with AsyncRefunds() as refunds:
            return await refunds.resume_all(
                state=state or State.NEEDS_ATTENTION,
                needs=needs,
                person=person or "nobody",
                reason=reason,
                apply=apply,
            )

    found = asyncio.run(run())
    if as_json:
        output.write_json(found)
    else:
        columns = ("refund_id", "state", "attention", "goes_on", "refusal")
        output.write_table(
            ("refund", "state", "needed", "goes on", "refused because"),
            ([row[name] for name in columns] for row in found),
            "no refund is meant",
        )
        if found and not apply:
            print("Nothing was done; --apply does it.")
    if any(row["refusal"] for row in found):
        raise typer.Exit(FAILED)


def abandon(
    refund_id: arguments.Id,
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Who gives it up.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; everybody is told.")],
    as_json: output.AsJson = False,
) -> None:
    """Give up a refund that is stuck and unpaid: undo what was done, and end it FAILED."""
    known_id, name = arguments.refund_id(refund_id), arguments.person(person)
    why = arguments.sentence(reason)
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> dict[str, Any]:
        async with AsyncRefunds() as refunds:
            return await refunds.abandon(known_id, person=name, reason=why)

    _show(asyncio.run(run()), "this", as_json=as_json)


def _show(status: dict[str, Any], what: str, *, as_json: bool) -> None:
    looking.show_status(status, as_json=as_json)
    if status["goes_on"] == "later":
        output.note(
            f"refunds: {what} is kept. Prefect is away; the refund goes on by itself once it is "
            "back"
        )
