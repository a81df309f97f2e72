"""Identifiers made of a prefix and a row's number, so that a world replays with the same names."""

# Sixteen digits keep every number inside SQLite's 64-bit integers.
_DIGITS = 16


def to_id(prefix: str, number: int) -> str:
    """Return the public identifier of row `number`."""
    return f"{prefix}_{number:0{_DIGITS}d}"


def to_number(prefix: str, identifier: str) -> int | None:
    """Return the row's number, or None when `identifier` is not one of ours."""
    digits = identifier.removeprefix(f"{prefix}_")
    if len(digits) == _DIGITS and digits.isascii() and digits.isdigit():
        return int(digits) if identifier != digits else None
    return None
