"""`refunds accounts`: how people sign in to the service."""

import sys
from typing import Annotated

import typer

from refunds.cli import arguments, environment, output

program = typer.Typer(no_args_is_help=True, help="How people sign in to the service.")

Who = Annotated[str, typer.Argument(metavar="PERSON", help="The person's id.")]


@program.command()
def password(person_id: Who) -> None:
    """Give a person a password, asked for or read from standard input; their sessions end."""
    known = arguments.person(person_id)
    if sys.stdin.isatty():
        secret = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        secret = sys.stdin.readline().rstrip("\r\n")
    environment.prepare()
    from refunds.ledger import migrate, open_ledger
    from refunds.ledger.access import accounts
    from refunds.settings import settings

    migrate(settings().ledger_database_url)
    accounts.set_password(open_ledger(settings().ledger_database_url), known, secret)
    output.note(f"{known} can sign in with it; every earlier session of theirs has ended")


@program.command()
def link(
    person_id: Who,
    issuer: Annotated[str, typer.Argument(metavar="ISSUER", help="The provider's address.")],
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Their id there.")],
) -> None:
    """Let a company account (OpenID Connect) be this person."""
    known = arguments.person(person_id)
    environment.prepare()
    from refunds.ledger import migrate, open_ledger
    from refunds.ledger.access import accounts
    from refunds.settings import settings

    migrate(settings().ledger_database_url)
    accounts.link(open_ledger(settings().ledger_database_url), issuer, subject, known)
    output.note(f"{subject} at {issuer} signs in as {known}")


@program.command()
def forget(person_id: Who) -> None:
    """Take a person's password, company accounts and sessions away; what they decided stays."""
    known = arguments.person(person_id)
    environment.prepare()
    from refunds.ledger import migrate, open_ledger
    from refunds.ledger.access import accounts
    from refunds.settings import settings

    migrate(settings().ledger_database_url)
    accounts.forget(open_ledger(settings().ledger_database_url), known)
    output.note(f"{known} cannot sign in any more")
