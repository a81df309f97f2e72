"""Expected errors, each as one sentence on standard error and an exit status."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from refunds.errors import BadInput, RefundError, StepRetryable

# How SQLite and PostgreSQL say that the disk is full.
_FULL = ("disk is full", "No space left on device")

FAILED = 1
BAD_INPUT = 2


@contextmanager
def expected() -> Iterator[None]:
    """End the command with a sentence where the error is one that we know."""
    try:
        yield
    except Exception as error:
        found = _sentence(error)
        if found is None:
            raise
        status, sentence = found
        print(f"refunds: {sentence}", file=sys.stderr)
        raise typer.Exit(status) from error


def _sentence(error: Exception) -> tuple[int, str] | None:
    """Exit status and sentence; None for an error that nobody expected."""
    if isinstance(error, BadInput):
        return BAD_INPUT, str(error)
    if isinstance(error, StepRetryable):
        return FAILED, f"{error}; {_remedy(error.system)}"
    if isinstance(error, RefundError):
        return FAILED, str(error)
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return FAILED, str(error)
    return _of_a_library(error)


def _remedy(system: str) -> str:
    """What to start when a system does not do its part."""
    if system == "prefect":
        from refunds.settings import settings

        where = settings().prefect_api_url
        return f"start Prefect with `refunds up`, or name it in PREFECT_API_URL (now {where})"
    return f"`refunds up` starts the sandbox's; another is named in REFUNDS_{system.upper()}_URL"


def _of_a_library(error: Exception) -> tuple[int, str] | None:
    """Databases and servers that do not answer; nothing is imported that is not in use."""
    known = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "sqlalchemy.ArgumentError" in known or "sqlalchemy.NoSuchModuleError" in known:
        return BAD_INPUT, f"REFUNDS_LEDGER_URL or REFUNDS_SHOP_URL is wrong: {first_line}"
    if "sqlalchemy.OperationalError" in known:
        return FAILED, _of_a_database(first_line)
    if "sqlalchemy.DBAPIError" in known:
        return FAILED, f"the database refuses: {first_line}; `refunds doctor` looks into it"
    if "alembic.CommandError" in known:
        return FAILED, f"the ledger is of another version than this program: {first_line}"
    if "httpx.HTTPError" in known or "prefect.PrefectException" in known:
        return FAILED, f"Prefect: {first_line}; {_remedy('prefect')}"
    return None


def _of_a_database(said: str) -> str:
    """A database that is not there, or that has no room to write."""
    if any(words in said for words in _FULL):
        return f"nothing was written: {said}; make room, then do it again"
    return f"the database does not answer: {said}; start it, or name another in REFUNDS_LEDGER_URL"
