"""Is the set-up sound? Each check says what it saw and, where something is wrong, the remedy."""

import inspect
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from refunds.doctor import databases, machine, prefect_api, systems
from refunds.doctor.findings import Finding, Unwell

__all__ = ["Finding", "examine"]


class _Check(NamedTuple):
    """A check by name; where the one it `needs` has failed it can tell nothing."""

    name: str
    look: Callable[[], str | Awaitable[str]]
    needs: str = "settings"


_CHECKS = (
    _Check("Python", machine.python, ""),
    _Check("packages", machine.packages, ""),
    _Check("settings", machine.parsed_settings, ""),
    _Check("disk space", machine.disk_space),
    _Check("policy", machine.policy),
    _Check("ledger", databases.ledger),
    _Check("history's guard", databases.history_guard, "ledger"),
    _Check("shop database", databases.shop),
    _Check("adapters", systems.mappings),
    _Check("outages", systems.outages, "ledger"),
    _Check("Prefect API", prefect_api.server),
    _Check("blocks", prefect_api.blocks, "Prefect API"),
    _Check("work pool", prefect_api.work_pool, "Prefect API"),
    _Check("deployments", prefect_api.deployments, "Prefect API"),
    _Check("card blocks", prefect_api.card_blocks, "Prefect API"),
    _Check("gateway", systems.gateway),
    _Check("clock", systems.clock, "gateway"),
    _Check("webhook secret", systems.webhook_secret),
    _Check("model", systems.model),
    *(
        _Check(name, look)
        for name, look in ((system, systems.answers(system)) for system in systems.OTHERS)
    ),
)


async def examine() -> list[Finding]:
    """Make every check, in an order in which a mended one often mends the next."""
    findings: dict[str, Finding] = {}
    for check in _CHECKS:
        before = findings.get(check.needs)
        if before is not None and not before.is_well:
            seen, remedy = "cannot be told", f"mend the {check.needs} first"
            findings[check.name] = Finding(name=check.name, is_well=False, seen=seen, remedy=remedy)
        else:
            findings[check.name] = await _made(check)
    return list(findings.values())


async def _made(check: _Check) -> Finding:
    try:
        seen = check.look()
        if inspect.isawaitable(seen):
            seen = await seen
    except Unwell as unwell:
        return Finding(name=check.name, is_well=False, seen=unwell.seen, remedy=unwell.remedy)
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what a doctor reports
        first_line = (str(error).strip() or "no reason given").splitlines()[0]
        return Finding(
            name=check.name,
            is_well=False,
            seen=f"{type(error).__name__}: {first_line}",
            remedy="see what it says; the other checks may show the cause",
        )
    return Finding(name=check.name, is_well=True, seen=seen)
