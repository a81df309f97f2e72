"""The commands by name, and how an error becomes an exit status."""

from typing import Any

import typer
from typer.core import TyperGroup

from refunds.cli import (
    accounts,
    audit,
    checks,
    decisions,
    keys,
    looking,
    nights,
    people,
    requests,
    settling,
    stack,
    steering,
    travel,
)
from refunds.cli.failures import expected


class _Refunds(TyperGroup):
    """Expected errors end in one sentence and a status, never in a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Every command takes `--json`; before its name it means the same."""
        if args[:1] == ["--json"]:
            args = [*args[1:], "--json"]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def invoke(self, ctx: Any) -> object:
        """Run the command."""
        with expected():
            return super().invoke(ctx)


program = typer.Typer(
    cls=_Refunds,
    no_args_is_help=True,
    add_completion=False,
    # A traceback is for us, and local variables may hold a customer's data.
    pretty_exceptions_show_locals=False,
    help="Refunds that are never lost and never paid twice.",
)
program.command("up")(stack.up)
program.command("down")(stack.down)
program.command("load")(requests.load)
program.command("submit")(requests.submit)
program.command("assess")(requests.assess)
program.command("list")(looking.list_refunds)
program.command("show")(looking.show)
program.command("history")(travel.history)
program.command("replay")(travel.replay)
program.command("decide")(decisions.decide)
program.command("resume")(decisions.resume)
program.command("reset")(steering.reset)
program.command("update")(steering.update)
program.command("settle")(settling.settle)
program.command("abandon")(decisions.abandon)
program.command("nightly")(nights.nightly)
program.command("nights")(nights.nights)
program.command("report")(nights.report)
program.command("export")(travel.export)
program.command("verify")(checks.verify)
program.command("doctor")(checks.doctor)
program.add_typer(people.program, name="people")
program.add_typer(accounts.program, name="accounts")
program.add_typer(keys.program, name="keys")
program.add_typer(audit.program, name="audit")


@program.callback()
def refunds() -> None:
    """Refunds that are never lost and never paid twice.

    Exit status: 0 done, 1 failed, 2 bad input.
    """
