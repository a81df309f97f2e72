"""`refunds keys`: what machines show at the service's door."""

from datetime import timedelta
from typing import Annotated

import typer

from refunds.cli import arguments, environment, output
from refunds.scopes import Scope

program = typer.Typer(no_args_is_help=True, help="Keys of machines for the service.")


@program.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; give several.")],
    person: Annotated[str, typer.Option(metavar="PERSON", help="Whose decisions it carries.")] = "",
    days: Annotated[
        int | None, typer.Option(min=1, max=3_660, metavar="N", help="How long it is good for.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Make a key; it is shown now and never again."""
    known = arguments.person(name)
    owner = arguments.person(person) if person else None
    environment.prepare()
    from refunds.ledger import migrate, open_ledger
    from refunds.ledger.access import api_keys
    from refunds.settings import settings

    migrate(settings().ledger_database_url)
    ledger = open_ledger(settings().ledger_database_url)
    expires_at = ledger.clock() + timedelta(days=days) if days else None
    key = api_keys.create(ledger, known, scope, person_id=owner, expires_at=expires_at)
    if as_json:
        output.write_json([{"key": key, "name": known, "scopes": sorted(scope)}])
        return
    print(key)
    output.note("keep it now: only its digest is stored")


@program.command("list")
def list_keys(as_json: output.AsJson = False) -> None:
    """List the keys, without their secrets."""
    environment.prepare()
    from refunds.ledger import migrate, open_ledger
    from refunds.ledger.access import api_keys
    from refunds.settings import settings

    migrate(settings().ledger_database_url)
    found = api_keys.listed(open_ledger(settings().ledger_database_url))
    if as_json:
        output.write_json(found)
        return
    times = ("created_at", "expires_at", "used_at", "revoked_at")
    output.write_table(
        ("key", "name", "scopes", "person", "created", "expires", "used", "revoked"),
        (
            (
                *(key["key_id"], key["name"], ", ".join(key["scopes"]), key["person_id"]),
                *(output.moment(key[at].isoformat() if key[at] else None) for at in times),
            )
            for key in found
        ),
        "there are no keys",
    )


@program.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="As `refunds keys list` has it.")],
) -> None:
    """End a key now and for good."""
    environment.prepare()
    from refunds.ledger import migrate, open_ledger
    from refunds.ledger.access import api_keys
    from refunds.settings import settings

    migrate(settings().ledger_database_url)
    api_keys.revoke(open_ledger(settings().ledger_database_url), key_id)
    output.note(f"{key_id} opens nothing any more")
