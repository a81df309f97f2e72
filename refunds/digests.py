"""Canonical JSON and SHA-256 digests: the same facts always give the same digest."""

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; raises TypeError for what JSON cannot hold exactly."""
    _refuse_inexact(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex (64 characters)."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _refuse_inexact(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("a float has no place in what is digested; use integer minor units")
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a {type(key).__name__} as a key would become text; use a string")
            _refuse_inexact(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_inexact(part)
