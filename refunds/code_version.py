"""Which code decided: the package's version, and a digest of what a refund's course depends on."""

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ROOT = Path(__file__).parents[1]

# What decides the next step: the flow, the steps and the rules. The front doors do not.
_DECIDES = ("flows/*.py", "tasks/*.py", "refunds/policy.py", "refunds/models.py")


@lru_cache(maxsize=1)
def code_version() -> str:
    """`{version}+{12 hex digits}`: any edit of the flow, a step or the rules gives another one."""
    sources = sorted(path for pattern in _DECIDES for path in _ROOT.glob(pattern))
    content = hashlib.sha256()
    for path in sources:
        content.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{_released()}+{content.hexdigest()[:12]}"


def _released() -> str:
    try:
        return version("durable-refunds")
    except PackageNotFoundError:
        return "unreleased"
