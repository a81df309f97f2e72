"""Secrets: from a Prefect Secret block where one is named, from the environment elsewhere."""

import time
from typing import Any, Literal, get_args

import httpx
from prefect.blocks.system import Secret

from refunds.errors import NeedsAttention, SystemUnavailable
from refunds.settings import settings

SecretName = Literal[
    "gateway_key", "webhook_secret", "model_key", "crm_key", "coupons_key", "logistics_key"
]

# A block that was changed in the UI counts within a minute, and is not asked for at every call.
_KEPT_SECONDS = 60.0

# What is shorter is no secret, and occurs in ordinary words.
_LEAST_CHARACTERS = 8

_kept: dict[str, tuple[float, str]] = {}


async def secret(name: SecretName) -> str:
    """The value of a secret; it belongs into a request's header and nowhere else.

    Raises SystemUnavailable when Prefect cannot be asked for the block, NeedsAttention when there
    is no such block.
    """
    block_name: str = getattr(settings(), f"{name}_block")
    if not block_name:
        value: str = getattr(settings(), name).get_secret_value()
        return value
    read_at, value = _kept.get(block_name, (0.0, ""))
    if not read_at or time.monotonic() - read_at > _KEPT_SECONDS:
        value = await _loaded(name, block_name)
        _kept[block_name] = (time.monotonic(), value)
    return value


async def listed(name: SecretName) -> list[str]:
    """Every value of a secret that is one of several, while one replaces another."""
    return [value.strip() for value in (await secret(name)).split(",") if value.strip()]


async def _loaded(name: str, block_name: str) -> str:
    try:
        block: Secret[Any] = await Secret.aload(block_name)
    except httpx.HTTPError as error:
        raise SystemUnavailable(
            "prefect", f"no Secret block now ({type(error).__name__})"
        ) from error
    except ValueError as error:
        raise NeedsAttention(
            f"Prefect has no Secret block {block_name!r}, which REFUNDS_{name.upper()}_BLOCK names"
        ) from error
    return str(block.get())


def without_secrets(text: str) -> str:
    """A foreign text in which another system may have repeated what we sent it."""
    values = [getattr(settings(), name).get_secret_value() for name in get_args(SecretName)]
    values += [value for _, value in _kept.values()]
    for value in (part.strip() for text in values for part in text.split(",")):
        if len(value) >= _LEAST_CHARACTERS:
            text = text.replace(value, "[secret]")
    return text
