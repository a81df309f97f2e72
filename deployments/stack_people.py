"""A few approvers of the embedded stack, so that somebody can sign in on the first day."""

import os
import secrets
from pathlib import Path

from refunds.ledger import open_ledger
from refunds.ledger.access import accounts
from refunds.settings import Settings

# Two of a team and two of its leads: enough to see a second signature.
NAMES = ("ann", "ben", "cleo", "dora")

_OWNER_ALONE = 0o600

# 120 bits in twenty characters: nobody guesses it, and it can still be typed.
_PASSWORD_BYTES = 15


def passwords_file(settings: Settings) -> Path:
    """Where the passwords are, for the owner of the home alone."""
    return settings.home_dir / "approvers.txt"


def read(settings: Settings) -> dict[str, str]:
    """Name and password of each, as they were made."""
    try:
        lines = passwords_file(settings).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split(" ", 1) for line in lines if " " in line)


def make(settings: Settings) -> dict[str, str]:
    """Give each of them a random password on a home's first start; returns name and password.

    Empty on every later start: a password that somebody changed, or took away, stays so. They
    sign in and nothing more: registering people (`refunds people add`) turns on the rules for
    registered people, and that is for the user to do.
    """
    path = passwords_file(settings)
    if path.exists():
        return {}
    ledger = open_ledger(settings.ledger_database_url)
    if any(accounts.has_password(ledger, name) for name in NAMES):
        return {}
    made = {name: secrets.token_urlsafe(_PASSWORD_BYTES) for name in NAMES}
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, _OWNER_ALONE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(f"{name} {password}\n" for name, password in made.items())
    for name, password in made.items():
        accounts.set_password(ledger, name, password)
    return made
