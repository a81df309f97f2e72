"""What `refunds up` says of a batch under way: the progress that its run shows in Prefect."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from refunds.settings import Settings

# A line now and then; the question costs Prefect a few milliseconds.
_LOOK_SECONDS = 10.0

# A night and its shards, and a file or two beside them.
_MOST = 20


async def tell(
    settings: Settings,
    client: httpx.AsyncClient,
    say: Callable[[str], None],
    look_seconds: float = _LOOK_SECONDS,
) -> None:
    """Say how far each batch has come, whenever that has changed, until cancelled."""
    told: dict[str, str] = {}
    began = datetime.now(UTC)
    while True:
        await asyncio.sleep(look_seconds)
        for key, text in (await _progress(settings, client, began)).items():
            if told.get(key) != text:
                told[key] = text
                say(text)


async def _progress(
    settings: Settings, client: httpx.AsyncClient, since: datetime
) -> dict[str, str]:
    """Of each batch that got on after `since`, what its artifact says; nothing in bad times."""
    wanted: dict[str, Any] = {
        "artifacts": {"type": {"any_": ["progress"]}},
        "sort": "UPDATED_DESC",
        "limit": _MOST,
    }
    try:
        url = f"{settings.prefect_url}/api/artifacts/latest/filter"
        answer = (await client.post(url, json=wanted)).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return {}
    return {
        found["key"]: f"{found['description']} ({float(found['data']):.0f} %)"
        for found in reversed(answer)
        if datetime.fromisoformat(found["updated"]) > since
    }
