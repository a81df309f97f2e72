"""This machine: Python, packages, settings, policy, disk."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from refunds import policy_file
from refunds.doctor.findings import Unwell
from refunds.errors import BadInput
from refunds.settings import settings

# The oldest that the code is written for.
_PYTHON = (3, 11)
# Prefect's server does not import with every version that it allows itself.
_WATCHED = ("prefect", "prefect-sqlalchemy", "fastapi")
# A night of ten thousand refunds writes a few hundred megabytes to the ledger and to Prefect.
_FREE_BYTES = 1_000_000_000


def python() -> str:
    """The interpreter."""
    if sys.version_info < _PYTHON:
        raise Unwell(platform.python_version(), "install Python 3.11 or later, then `make setup`")
    return platform.python_version()


def packages() -> str:
    """The versions that everything rests on."""
    try:
        wanted = {r.name: r for r in map(Requirement, requires("durable-refunds") or ())}
    except PackageNotFoundError as error:
        raise Unwell("durable-refunds is not installed", "run `make setup`") from error
    found = {name: version(name) for name in _WATCHED}
    wrong = [
        f"{name} {found[name]} is not {wanted[name].specifier}"
        for name in _WATCHED
        if name in wanted and not wanted[name].specifier.contains(found[name])
    ]
    if wrong:
        raise Unwell("; ".join(wrong), "run `make setup`, which installs the locked versions")
    return ", ".join(f"{name} {found[name]}" for name in _WATCHED)


def parsed_settings() -> str:
    """The `REFUNDS_…` variables."""
    try:
        current = settings()
    except BadInput as error:
        raise Unwell(str(error), "correct the variable") from error
    return f"home {current.home_dir}, ports from {current.port}"


def policy() -> str:
    """The policy file, read without writing it to the ledger."""
    path = settings().policy or settings().home_dir / "policy.toml"
    if settings().policy is None and not path.exists():
        path = policy_file.DEFAULT_POLICY_FILE
    try:
        found = policy_file.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, BadInput) as error:
        raise Unwell(str(error), f"correct {path}, or name another in REFUNDS_POLICY") from error
    return f"{found.full_version} in {path}"


def disk_space() -> str:
    """What is left where the home is."""
    place = settings().home_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    seen = f"{free / 1_000_000_000:.1f} GB free at {place}"
    if free < _FREE_BYTES:
        raise Unwell(seen, "make room: an engine that cannot write its intent does not pay")
    return seen
