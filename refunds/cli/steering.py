"""`refunds reset` and `update`: a refund is put back, or its question changed."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

import typer

from refunds.cli import arguments, environment, output
from refunds.cli.failures import FAILED
from refunds.errors import BadInput

Person = Annotated[str, typer.Option("--as", metavar="PERSON", help="Who does it.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept in the history.")]
Apply = Annotated[bool, typer.Option("--apply", help="Do it; without it you see what it would do.")]


def reset(  # noqa: PLR0917 - typer makes an option of each
    to: Annotated[str, typer.Option(metavar="STEP", help="Back to before this step.")],
    refund_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    state: Annotated[
        str | None, typer.Option(metavar="S", help="Many: all in this state that are not over.")
    ] = None,
    needs: Annotated[
        str, typer.Option(metavar="TEXT", help="Many: whose need for a person says this.")
    ] = "",
    person: Person = "",
    reason: Reason = "",
    apply: Apply = False,
    as_json: output.AsJson = False,
) -> None:
    """Put a refund back to an earlier step; nothing that was sent is sent again.

    Shows what it would do; --apply does it. Refused is what would pay again or contradict the
    gateway's books.
    """
    if (refund_id is None) == (state is None and not needs):
        raise BadInput("name one refund, or choose many with --state or --needs")
    known_id = None if refund_id is None else arguments.refund_id(refund_id)
    name, why = (arguments.person(person) if person else ""), arguments.sentence(reason)
    if apply and not name:
        raise BadInput("--as: a reset is done by somebody")
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> list[dict[str, Any]]:
        async with AsyncRefunds() as refunds:
            if known_id is not None:
                return [
                    await refunds.reset(
                        known_id, to, person=name or "nobody", reason=why, apply=apply
                    )
                ]
            return await refunds.reset_all(
                to,
                state=state,
                needs=needs,
                person=name or "nobody",
                reason=why,
                apply=apply,
            )

    found = asyncio.run(run())
    if as_json:
        output.write_json(found)
    else:
        _show(found, is_applied=apply)
    if any(plan["refusal"] for plan in found):
        raise typer.Exit(FAILED)


def update(  # noqa: PLR0917 - typer makes an option of each
    refund_id: arguments.Id,
    person: Person,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="The question's, as 2026-12-01T12:00+00:00.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="1 is urgent, 2 is normal.")] = None,
    ask: Annotated[
        str | None, typer.Option(metavar="AUDIENCE", help="Who is asked at the level of now.")
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Something to know.")] = "",
    evidence: Annotated[
        str, typer.Option(metavar="TEXT", help="A new fact: the question is put anew.")
    ] = "",
    reason: Reason = "",
    as_json: output.AsJson = False,
) -> None:
    """Change a waiting refund's question, or add to it, without starting anything over."""
    known_id, name = arguments.refund_id(refund_id), arguments.person(person)
    until, why = _time(deadline), arguments.sentence(reason)
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> dict[str, Any]:
        async with AsyncRefunds() as refunds:
            return await refunds.update(
                known_id,
                person=name,
                reason=why,
                deadline=until,
                priority=priority,
                audience=ask,
                note=note,
                evidence=evidence,
            )

    found = asyncio.run(run())
    if as_json:
        output.write_json([found])
        return
    rows = [*found["changes"].items(), ("question", found["question"])]
    if ask is not None:
        sent = "sent" if found["card_sent"] else "not sent yet: the sweep sends it"
        rows.append(("card", sent))
    output.write_table(("", ""), rows, "")


def _time(given: str | None) -> datetime | None:
    try:
        return None if given is None else datetime.fromisoformat(given)
    except ValueError as error:
        raise BadInput(
            f"--deadline: {given!r} is not a time such as 2026-12-01T12:00+00:00"
        ) from error


def _show(plans: list[dict[str, Any]], *, is_applied: bool) -> None:
    output.write_table(
        ("refund", "to", "runs again", "asks again", "frees money", "refused because"),
        (
            (
                *(plan["refund_id"], plan["to"], ", ".join(plan.get("done_over", ()))),
                *(_yes(plan.get("asks_again")), _yes(plan.get("frees_money")), plan["refusal"]),
            )
            for plan in plans
        ),
        "no refund is meant",
    )
    if plans and not is_applied:
        print("Nothing was done; --apply does it.")


def _yes(said: object) -> str:
    return "yes" if said else "no"
