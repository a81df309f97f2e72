"""When a process began, in a word that neither a changed clock nor a reboot makes another's."""

from functools import cache
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def birth(pid: int) -> str:
    """What tells a process from a later one with its number. Raises psutil.NoSuchProcess.

    Linux counts a start in ticks since the machine's own: setting the clock changes nothing of it.
    Elsewhere it is the time of day, in seconds.
    """
    if not _boot():
        return f"{psutil.Process(pid).create_time():.0f}"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    # The name, in parentheses, may hold anything; the start is the twentieth field after it.
    return f"{_boot()}-{stat.rpartition(')')[2].split()[19]}"


@cache
def _boot() -> str:
    """The beginning of this boot's own id; empty where there is none."""
    return _BOOT_ID.read_text(encoding="ascii")[:8] if _BOOT_ID.exists() else ""
