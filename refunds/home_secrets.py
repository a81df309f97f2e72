"""Secrets that a home makes for itself: random, one a file, readable by its owner alone."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_OWNER_ALONE = 0o600

# 256 bits: nobody guesses it, however many tries a second.
_RANDOM_BYTES = 32


def random_text() -> str:
    """A secret that nobody guesses, in letters, digits, '-' and '_'."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def kept(path: Path) -> str:
    """The secret in a file; empty when there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def keep(path: Path, make: Callable[[], str] = random_text) -> str:
    """The secret in a file, made first where there is none.

    Two processes that start at once get the same one.
    """
    if known := kept(path):
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, _OWNER_ALONE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{make()}\n")
    # A link is made whole or not at all, and never over another's.
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
    return kept(path)
