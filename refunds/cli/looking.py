"""`refunds list` and `show`: what is where."""

import asyncio
from typing import Annotated, Any

import typer

from refunds import money
from refunds.cli import arguments, environment, output


def list_refunds(
    state: Annotated[str | None, typer.Option(metavar="S", help="Only those in a state.")] = None,
    as_json: output.AsJson = False,
) -> None:
    """List the refunds."""
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> list[dict[str, Any]]:
        async with AsyncRefunds() as refunds:
            return await refunds.list(state)

    found = asyncio.run(run())
    if as_json:
        output.write_json(found)
        return
    output.write_table(
        ("refund", "state", "outcome", "verdict", "amount", "order", "needs"),
        (
            (
                *(row["refund_id"], row["state"], row["outcome"], row["verdict"]),
                *(_amount(row), row["order_id"], row["attention"]),
            )
            for row in found
        ),
        "no refunds" if state is None else f"no refunds are {state}",
    )


def show(refund_id: arguments.Id, as_json: output.AsJson = False) -> None:
    """Show all that is known of one refund."""
    environment.prepare()
    from refunds.api import AsyncRefunds

    known_id = arguments.refund_id(refund_id)

    async def run() -> dict[str, Any]:
        async with AsyncRefunds() as refunds:
            return await refunds.status(known_id)

    show_status(asyncio.run(run()), as_json=as_json)


def show_status(status: dict[str, Any], *, as_json: bool) -> None:
    """A refund's status, as JSON or as a page."""
    if as_json:
        output.write_json([status])
        return
    facts = [
        ("refund", status["refund_id"]),
        ("state", status["state"]),
        ("outcome", status["outcome"]),
        ("verdict", status["verdict"]),
        *(("", f"- {reason}") for reason in status["reasons"]),
        ("amount", _amount(status)),
        ("order", status["order_id"]),
        ("customer", status["customer_id"]),
        ("needs a person", status["attention"]),
        *_approval(status["approval"]),
        *(
            (
                "waits for",
                f"{wait['for']}, since {output.moment(wait['since'])}"
                + (f", until {output.moment(wait['until'])}" if wait["until"] else ""),
            )
            for wait in status["waits"]
        ),
        ("carried by", status["carried_by"]),
        *(("run", run_id) for run_id in status["run_ids"]),
    ]
    shown = [(name, value) for name, value in facts if value is not None]
    output.write_table(("", ""), shown, "")
    if status["effects"]:
        print()
        output.write_table(
            ("key", "system", "state", "sends", "detail"),
            (
                (e["key"], e["system"], e["state"], e["sends"], e["detail"])
                for e in status["effects"]
            ),
            "",
        )


def _approval(approval: dict[str, Any] | None) -> list[tuple[str, object]]:
    if approval is None:
        return []
    return [
        (
            "approval",
            f"{approval['status']}, by {output.moment(approval['deadline'])} UTC, "
            f"of {approval['needed']} people"
            + (" whose identity is checked" if approval["verified_needed"] else ""),
        ),
        ("digest", approval["digest"]),
        *(
            ("", f"- {_who(d)}: {d['decision']} ({d['channel']}) {d['reason']}".rstrip())
            for d in approval["decisions"]
        ),
    ]


def _who(decision: dict[str, Any]) -> str:
    principal = decision["for_person"]
    return f"{decision['person']} for {principal}" if principal else str(decision["person"])


def _amount(row: dict[str, Any]) -> str:
    return money.show(row["amount_minor"], row["currency"])
