"""`refunds settle`: what became of a payment that no books tell of."""

import asyncio
from typing import Annotated, Any

import typer

from refunds.cli import arguments, environment, output
from refunds.cli.failures import FAILED
from refunds.cli.steering import Apply
from refunds.errors import BadInput


def settle(  # noqa: PLR0917 - typer makes an option of each
    refund_id: arguments.Id,
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Who says so.")],
    paid: Annotated[
        str | None, typer.Option(metavar="REFERENCE", help="It was paid, under this reference.")
    ] = None,
    not_paid: Annotated[bool, typer.Option("--not-paid", help="It was never paid.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What happened.")] = "",
    evidence: Annotated[
        str, typer.Option(metavar="TEXT", help="How that is known, such as a bank statement.")
    ] = "",
    apply: Apply = False,
    as_json: output.AsJson = False,
) -> None:
    """End a payment that stays unknown and that no books tell of, by what people say.

    Shows what it would do; --apply does it. It takes whoever could approve the refund, and two
    where two have to. Refused is what the gateway's books, asked once more, contradict.
    """
    if (paid is None) == (not not_paid):
        raise BadInput("say either --paid REFERENCE or --not-paid")
    known_id, name = arguments.refund_id(refund_id), arguments.person(person)
    why, known_by = arguments.sentence(reason), arguments.sentence(evidence, "--evidence")
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> dict[str, Any]:
        async with AsyncRefunds() as refunds:
            return await refunds.settle(
                known_id,
                paid_as=paid,
                person=name,
                reason=why,
                evidence=known_by,
                channel="cli",
                apply=apply,
            )

    found = asyncio.run(run())
    if as_json:
        output.write_json([found])
    else:
        _show(found)
    if found["refusal"] is not None:
        raise typer.Exit(FAILED)


def _show(found: dict[str, Any]) -> None:
    said = f"paid as {found['reference']}" if found["is_paid"] else "not paid"
    of = f"{', '.join(found['said_by'])} ({len(found['said_by'])} of {found['needed']})"
    rows = [("payment", found["key"]), ("is", said), ("said by", of)]
    if found["refusal"] is not None:
        rows.append(("refused", found["refusal"]))
    output.write_table(("", ""), rows, "")
    print(_following(found))


def _following(found: dict[str, Any]) -> str:
    if not found["kept"]:
        return "Nothing was done; --apply does it."
    if not found["applied"]:
        return "It is kept. Somebody else has to say the same before it counts."
    if found["is_paid"]:
        return "The money is booked, and the refund goes on."
    return "It waits: `refunds resume` pays it anew, `refunds abandon` gives it up."
