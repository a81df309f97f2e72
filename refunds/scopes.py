"""What a machine's key may do at the service's door."""

from enum import StrEnum


class Scope(StrEnum):
    """What a key may do."""

    READ = "refunds:read"
    WRITE = "refunds:write"
    STEER = "refunds:steer"
    DECIDE = "decisions:write"
    METRICS = "metrics:read"
