"""`refunds people`: who may decide, up to what, and who stands in for whom."""

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from refunds import money
from refunds.authority import APPROVER, Person
from refunds.cli import arguments, environment, output
from refunds.errors import BadInput
from refunds.origin import Origin

program = typer.Typer(no_args_is_help=True, help="Who may decide, and up to what amount.")

Who = Annotated[str, typer.Argument(metavar="PERSON", help="The person's id.")]
By = Annotated[str, typer.Option("--as", metavar="PERSON", help="Who changes it; else your login.")]
Limits = Annotated[
    list[str] | None, typer.Option("--limit", metavar="CUR=N", help="In minor units: USD=500000.")
]

_ORIGIN = Origin.of("cli")


@program.command()
def add(  # noqa: PLR0917 - typer makes an option of each
    person_id: Who,
    name: Annotated[str, typer.Option(metavar="NAME", help="The name people know.")] = "",
    role: Annotated[
        list[str] | None, typer.Option(metavar="R", help="A role; approver when none is given.")
    ] = None,
    limit: Limits = None,
    contact: Annotated[str, typer.Option(metavar="ADDRESS", help="Where their cards go.")] = "",
    by: By = "",
    as_json: output.AsJson = False,
) -> None:
    """Register a person; from the first one on, registered people decide."""
    wanted = _limits(limit or [])
    environment.prepare()
    from refunds.team import People

    _ready()
    added = People().add(
        person_id,
        name=name,
        roles=role or [APPROVER],
        limits=wanted,
        contact=contact,
        by=_by(by),
        origin=_ORIGIN,
    )
    _show([added], as_json=as_json)


@program.command("list")
def list_people(as_json: output.AsJson = False) -> None:
    """List everybody, who left as well."""
    environment.prepare()
    from refunds.team import People

    _ready()
    _show(People().list(), as_json=as_json)


@program.command()
def limit(
    person_id: Who,
    limits: Annotated[list[str], typer.Argument(metavar="CUR=N", help="USD=500000 is $5,000.00.")],
    by: By = "",
    as_json: output.AsJson = False,
) -> None:
    """Set up to what amount a person may approve."""
    wanted = _limits(limits)
    environment.prepare()
    from refunds.team import People

    _ready()
    _show([People().limit(person_id, wanted, by=_by(by), origin=_ORIGIN)], as_json=as_json)


@program.command()
def away(  # noqa: PLR0917 - typer makes an option of each
    person_id: Who,
    until: Annotated[str, typer.Option(metavar="TIME", help="When they are back, in UTC.")] = "",
    delegate: Annotated[str, typer.Option(metavar="PERSON", help="Who acts for them.")] = "",
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="When they leave; now.")
    ] = "",
    back: Annotated[bool, typer.Option("--back", help="They are back already.")] = False,
    by: By = "",
    as_json: output.AsJson = False,
) -> None:
    """Let somebody act for a person who is away."""
    if not back and not (until and delegate):
        raise BadInput("an absence needs --until and --delegate; --back ends one")
    ends, starts = (_time(until) if until else None), (_time(since) if since else None)
    environment.prepare()
    from refunds.team import People

    _ready()
    if ends is None or back:
        found = People().back(person_id, by=_by(by), origin=_ORIGIN)
    else:
        found = People().away(
            person_id, since=starts, until=ends, delegate_to=delegate, by=_by(by), origin=_ORIGIN
        )
    _show([found], as_json=as_json)


@program.command()
def remove(person_id: Who, by: By = "", as_json: output.AsJson = False) -> None:
    """Take all rights from a person, who stays on record."""
    environment.prepare()
    from refunds.team import People

    _ready()
    _show([People().remove(person_id, by=_by(by), origin=_ORIGIN)], as_json=as_json)


def _ready() -> None:
    from refunds.ledger import migrate
    from refunds.settings import settings

    migrate(settings().ledger_database_url)


def _by(given: str) -> str:
    return arguments.person(given or getpass.getuser())


def _limits(given: list[str]) -> dict[str, int]:
    limits = {}
    for text in given:
        currency, _, amount = text.partition("=")
        if not money.is_currency(currency) or not amount.replace("_", "").isdecimal():
            raise BadInput(f"{text!r} is not a limit such as USD=500000, in minor units")
        limits[currency] = int(amount)
    return limits


def _time(given: str) -> datetime:
    try:
        found = datetime.fromisoformat(given)
    except ValueError as error:
        raise BadInput(f"{given!r} is not a time such as 2026-12-24T18:00 (UTC)") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _show(found: list[Person], *, as_json: bool) -> None:
    if as_json:
        output.write_json([person.plain() for person in found])
        return
    output.write_table(
        ("person", "name", "roles", "limits", "away until", "delegate", "active"),
        (
            (
                *(person.person_id, person.name, ", ".join(person.roles)),
                ", ".join(money.show(a, c) for c, a in sorted(person.limits.items())),
                output.moment(person.away_until.isoformat() if person.away_until else None),
                *(person.delegate_to, "yes" if person.is_active else "no"),
            )
            for person in found
        ),
        "nobody is registered: a name counts as its door knows it",
    )
