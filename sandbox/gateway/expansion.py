"""Stripe's `expand[]`: an id in an answer becomes the thing that it names."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sandbox.gateway.dialect import invalid
from sandbox.gateway.objects import charge_object, intent_object

_FIELD = "expand["
_IN_A_LIST = "data."

# The column that an id is looked for in, and how what is found is shown.
_THINGS: dict[str, tuple[str, Callable[[sqlite3.Row], dict[str, Any]]]] = {
    "charge": ("charge_id", charge_object),
    "latest_charge": ("charge_id", charge_object),
    "payment_intent": ("payment_intent", intent_object),
}


def is_expansion(name: str) -> bool:
    """Whether a parameter asks for an expansion: `expand[]`, or `expand[0]` as clients number."""
    return name.startswith(_FIELD) and name.endswith("]")


def asked_for(fields: Mapping[str, str]) -> tuple[str, ...]:
    """The names that are to be expanded."""
    return tuple(value for name, value in fields.items() if is_expansion(name))


def expanded(
    reader: sqlite3.Connection, thing: dict[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """Return the thing with these of its ids expanded; raises Refused 400 for what is no id."""
    return thing | {name: _looked_up(reader, thing, name) for name in names}


def expanded_list(
    reader: sqlite3.Connection, things: list[dict[str, Any]], names: Iterable[str]
) -> list[dict[str, Any]]:
    """Return a list's things expanded, each name after `data.`."""
    inner = [name.removeprefix(_IN_A_LIST) for name in names]
    return [expanded(reader, thing, inner) for thing in things]


def _looked_up(reader: sqlite3.Connection, thing: Mapping[str, Any], name: str) -> Any:
    if name not in _THINGS or name not in thing:
        raise invalid(f"This property cannot be expanded ({name[:100]}).")
    column, shown = _THINGS[name]
    row = reader.execute(
        f"SELECT * FROM charges_shown WHERE {column} = ?",  # noqa: S608  names from the code
        (thing[name],),
    ).fetchone()
    return shown(row) if row else thing[name]
