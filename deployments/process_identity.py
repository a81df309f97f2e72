"""Which process on which machine: the text kept as a flow run's infrastructure id."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Self

import psutil

# The clock behind a process's start time ticks at 100 Hz, and is anchored to a boot
# time that may be read a tick apart by two processes.
_SAME_START_SECONDS = 0.1


def _pid_namespace() -> str:
    """Tells apart containers that carry the same host name; empty where unknown."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except FileNotFoundError:
        return ""


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, told apart from a later one with the same number."""

    host: str
    namespace: str
    pid: int
    started_seconds: float

    @classmethod
    def local(cls, pid: int, started_seconds: float) -> Self:
        return cls(socket.gethostname(), _pid_namespace(), pid, started_seconds)

    @classmethod
    def of_this_process(cls) -> Self:
        return cls.local(os.getpid(), psutil.Process().create_time())

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The identity in `host/namespace/pid/start`; None for any other text."""
        parts = (text or "").rsplit("/", 3)
        try:
            host, namespace, pid, started = parts
            return cls(host, namespace, int(pid), float(started))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}/{self.namespace}/{self.pid}/{self.started_seconds:.2f}"

    @property
    def is_local(self) -> bool:
        """Whether this machine can tell if the process lives."""
        return (self.host, self.namespace) == (socket.gethostname(), _pid_namespace())

    def is_alive(self) -> bool:
        """Whether the process is there and has not ended; only asked of a local one."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_seconds) < _SAME_START_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
