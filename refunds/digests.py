"""Canonical JSON and SHA-256 digests: the same facts always give the same digest."""

import hashlib
import json
from typing import Any

import orjson

# What JSON holds exactly and orjson writes as `json` does; its own types would be a surprise.
_PLAIN = frozenset({str, int, bool, type(None)})
_AS_JSON_DOES = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; raises TypeError for what JSON cannot hold exactly."""
    return _encoded(value).decode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex (64 characters)."""
    return hashlib.sha256(_encoded(value)).hexdigest()


def digest_of(text: str) -> str:
    """The digest of a value whose canonical JSON is at hand."""
    return hashlib.sha256(text.encode()).hexdigest()


def _encoded(value: Any) -> bytes:
    if _is_plain(value):
        try:
            return orjson.dumps(value, option=_AS_JSON_DOES)
        except TypeError:
            # An integer of more than 64 bits, a key or text of some rarer kind.
            pass
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _is_plain(value: Any) -> bool:
    """Whether it is made of JSON's own types alone. Raises TypeError for what is inexact."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if isinstance(value, float):
        raise TypeError("a float has no place in what is digested; use integer minor units")
    if isinstance(value, dict):
        is_plain = kind is dict
        for key, part in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a {type(key).__name__} as a key would become text; use a string")
            is_plain = _is_plain(part) and is_plain
        return is_plain
    if isinstance(value, list | tuple):
        is_plain = kind is list or kind is tuple
        for part in value:
            is_plain = _is_plain(part) and is_plain
        return is_plain
    return False
