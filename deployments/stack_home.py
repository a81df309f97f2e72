"""What the launcher keeps in a home: one lock, the processes, the addresses, the logs."""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deployments.process_identity import ProcessIdentity
from refunds.errors import RefundError
from refunds.process_birth import birth

FAILED = 1
BAD_INPUT = 2

# As many lines as a screen shows beside the sentence that they explain.
_TAIL_LINES = 15
# Two screens of log lines are well within it, and a log may have grown to gigabytes.
_TAIL_BYTES = 16_384


class StackFailed(RefundError):
    """The stack cannot start or go on; says what to do. Field: `exit_code`."""

    def __init__(self, sentence: str, exit_code: int = FAILED) -> None:
        super().__init__(sentence, exit_code)
        self.sentence = sentence
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Home:
    """One embedded world's directory."""

    path: Path

    def make(self) -> None:
        """Create the directory with those for the logs and Prefect.

        Raises:
            StackFailed: it cannot be created.
        """
        try:
            for directory in (self.path, self.path / "logs", self.path / "prefect"):
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            sentence = (
                f"cannot write to {self.path} ({error.strerror}); set REFUNDS_HOME to another"
            )
            raise StackFailed(sentence, BAD_INPUT) from error

    def log(self, role: str) -> Path:
        """Where the process of that role writes."""
        return self.path / "logs" / f"{role}.log"

    def log_tail(self, role: str, since: int = 0, lines_count: int = _TAIL_LINES) -> str:
        """The last lines of a role's log, from byte `since` on."""
        try:
            with self.log(role).open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(since, size - _TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-lines_count:])

    # --- The lock: held as long as a supervisor lives, released by the system ---

    def lock(self) -> int | None:
        """Take the lock and return its descriptor; None when another supervisor has it."""
        descriptor = os.open(self.path / "up.lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    # --- The addresses, for scripts: there only while the stack is ready ---

    def write_addresses(self, addresses: dict[str, Any]) -> None:
        """Write up.json, whole or not at all."""
        _write(self.path / "up.json", addresses)

    def read_addresses(self) -> dict[str, Any]:
        """What up.json says; empty when there is none."""
        return _read(self.path / "up.json")

    def remove_addresses(self) -> None:
        """Say that nothing is up."""
        (self.path / "up.json").unlink(missing_ok=True)

    # --- The processes, for a later `up` or `down`: from the first that starts ---

    def write_processes(self, pids: dict[str, int]) -> None:
        """Note each role's process, with its start time, to know it again."""
        known = {role: _identity(pid) for role, pid in pids.items()}
        _write(self.path / "processes.json", {r: str(i) for r, i in known.items() if i})

    def read_processes(self) -> dict[str, ProcessIdentity]:
        """The noted processes of this machine that still live, in the order of their start.

        A process that has only inherited the number of a noted one is not among them.
        """
        parsed = {
            role: ProcessIdentity.parse(text)
            for role, text in _read(self.path / "processes.json").items()
        }
        return {r: i for r, i in parsed.items() if i and i.is_local and i.is_alive()}

    def remove_processes(self) -> None:
        """Say that no process is left."""
        (self.path / "processes.json").unlink(missing_ok=True)


def _identity(pid: int) -> ProcessIdentity | None:
    try:
        return ProcessIdentity.local(pid, birth(pid))
    except psutil.NoSuchProcess:
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        # Absent or not written by us: nothing is known, and nothing gets signalled.
        return {}
    return content if isinstance(content, dict) else {}
