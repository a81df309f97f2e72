"""Which process on which machine: the text kept as a flow run's infrastructure id."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Self

import psutil

from refunds.process_birth import birth


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
    born: str

    @classmethod
    def local(cls, pid: int, born: str) -> Self:
        return cls(socket.gethostname(), _pid_namespace(), pid, born)

    @classmethod
    def of_this_process(cls) -> Self:
        return cls.local(os.getpid(), birth(os.getpid()))

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The identity in `host/namespace/pid/birth`; None for any other text."""
        parts = (text or "").rsplit("/", 3)
        try:
            host, namespace, pid, born = parts
            return cls(host, namespace, int(pid), born)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}/{self.namespace}/{self.pid}/{self.born}"

    @property
    def is_local(self) -> bool:
        """Whether this machine can tell if the process lives."""
        return (self.host, self.namespace) == (socket.gethostname(), _pid_namespace())

    def is_alive(self) -> bool:
        """Whether the process is there and has not ended; only asked of a local one."""
        try:
            status = psutil.Process(self.pid).status()
            return birth(self.pid) == self.born and status != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
