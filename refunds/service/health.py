"""Is the service alive, and can it do its work?"""

import asyncio
from http import HTTPStatus
from typing import Literal

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel

from refunds.ledger import migrate
from refunds.service.problems import Refused, of_openapi
from refunds.settings import settings
from tasks import books

router = APIRouter(tags=["health"])

# Whether this process has seen the schema it needs; a ledger does not go back.
_migrated: set[str] = set()


class Health(BaseModel):
    """It is well."""

    status: Literal["ok"] = "ok"


@router.get("/health/live")
async def live() -> Health:
    """Whether the process answers at all; one that does not has to be started again."""
    return Health()


@router.get("/health/ready", responses=of_openapi(503))
async def ready() -> Health:
    """Whether the ledger answers and has the schema; requests should wait until it has."""
    try:
        await asyncio.to_thread(_look)
    except sa.exc.SQLAlchemyError as error:
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "ledger-away",
            f"the ledger does not answer ({type(error).__name__})",
            "Start the database; `refunds doctor` says which one.",
        ) from error
    return Health()


@router.get("/health", responses=of_openapi(503))
async def health() -> Health:
    """The same as `/health/ready`."""
    return await ready()


def _look() -> None:
    url = settings().ledger_database_url
    if url not in _migrated:
        migrate(url)
        _migrated.add(url)
    with books.ledger().reading() as connection:
        connection.execute(sa.text("SELECT 1"))
