"""What the launcher tells people and, in up.json, scripts."""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from deployments import stack_people, stack_roles
from refunds.settings import Settings


def addresses(settings: Settings, pids: dict[str, int], started_at: datetime) -> dict[str, Any]:
    """The content of up.json: addresses, and the pid of every process by role."""
    known: dict[str, Any] = {
        "pid": os.getpid(),
        "prefect": settings.prefect_url,
        "api_url": f"{settings.prefect_url}/api",
        "service": f"http://127.0.0.1:{settings.port + 1}",
    }
    if stack_roles.needs_sandbox(settings):
        known["sandbox"] = settings.sandbox_url
    roles = ("prefect", "service", "sandbox", "worker")
    return {
        **known,
        "home": str(settings.home_dir),
        "pids": {role: pids[role] for role in roles if role in pids},
        "started_at": started_at.isoformat(timespec="seconds"),
    }


def welcome(settings: Settings, passwords: Mapping[str, str]) -> Table:
    """Where everything is, and how to approve; new passwords are shown this once."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ignore")
    lines = {
        "to approve": f"http://127.0.0.1:{settings.port + 1}/inbox",
        "sign in": "with an account of: refunds accounts password PERSON",
    }
    if stack_people.passwords_file(settings).exists():
        lines["sign in"] = f"as {', '.join(stack_people.NAMES)}, with the passwords in"
        lines[""] = str(stack_people.passwords_file(settings))
    lines |= {f"  {name}": password for name, password in passwords.items()}
    lines |= {
        "or": "refunds decide ID approve --as PERSON",
        "Prefect UI": settings.prefect_url,
    }
    if settings.embedded_auth_string:
        lines["  asks for"] = f"what is in {settings.prefect_auth_file}"
    if stack_roles.needs_sandbox(settings):
        lines["mail"] = f"{settings.sandbox_url}/inbox"
    lines["service"] = f"http://127.0.0.1:{settings.port + 1}"
    lines["logs"] = str(settings.home_dir / "logs")
    lines["stop"] = "Ctrl-C, or refunds down"
    for name, value in lines.items():
        table.add_row(name, Text(value))
    return table


def foreign_server(settings: Settings) -> str:
    """A warning when commands in this shell talk to another Prefect; empty when they do not."""
    here = f"{settings.prefect_url}/api"
    there = os.environ.get("PREFECT_API_URL", here)
    if there.rstrip("/") == here:
        return ""
    return (
        f"PREFECT_API_URL is {there}, but this stack's own server is {here}; "
        "unset it for commands about this stack"
    )
