"""Secrets: from a Prefect Secret block where one is named, from the environment elsewhere."""

import base64
import binascii
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

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

# What basic credentials with a secret in them may look like.
_BASE64 = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}")

_kept: dict[str, tuple[float, str]] = {}

# The last of what was lent to us; an older one has run out.
_lent: deque[str] = deque(maxlen=8)


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


def lent(value: str) -> None:
    """Another system lent us a secret of its own, such as a token for an hour."""
    _lent.append(value)


def without_secrets(text: str) -> str:
    """A foreign text in which another system may have repeated what we sent it."""
    known = [*settings().secret_texts(), *(value for _, value in _kept.values()), *_lent]
    forms = {form for value in known for form in _forms(value) if len(form) >= _LEAST_CHARACTERS}
    # The longest first, so that none is left in pieces.
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "[secret]")

    def decoded(found: re.Match[str]) -> str:
        said = _from_base64(found[0])
        return "[secret]" if any(form.encode() in said for form in forms) else found[0]

    return _BASE64.sub(decoded, text)


def _from_base64(word: str) -> bytes:
    """What a word stands for, or nothing where it is an ordinary one."""
    bare = word.rstrip("=")
    with suppress(binascii.Error):
        return base64.b64decode(bare + "=" * (-len(bare) % 4))
    return b""


def _forms(value: str) -> Iterator[str]:
    """How a secret may come back: whole, one of several, its last part."""
    yield value
    if "://" in value:
        password = urlsplit(value).password or ""
        yield from (password, unquote(password))
        return
    for one in map(str.strip, value.split(",")):
        yield from (one, one.rpartition(":")[2])
