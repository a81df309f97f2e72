"""A sandbox as a child process, for tests, benchmarks and the embedded launcher."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

# The folder that `python -m sandbox` finds the package in.
_SOURCE = Path(__file__).parent.parent
# A stop waits one second for held connections and closes two databases.
_STOP_SECONDS = 10


class SandboxProcess:
    """Runs `python -m sandbox`; stopped or killed, it can be started again on the same home.

    `port` 0 takes a free one and keeps it over restarts.
    """

    def __init__(self, home: Path, *, port: int = 0, extra: tuple[str, ...] = ()) -> None:
        self.home = home
        self.port = port
        self._extra = extra
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def shop_database(self) -> Path:
        """The shop's database, to be opened read-only."""
        return self.home / "shop.db"

    def start(self) -> None:
        """Start and wait until it is ready; raises RuntimeError when it ends instead."""
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and package
            [
                *(sys.executable, "-m", "sandbox", "--home", str(self.home.absolute())),
                *("--port", str(self.port), *self._extra),
            ],
            cwd=_SOURCE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        ready = self._process.stdout.readline()
        if not ready:
            status = self._end(subprocess.Popen.poll)
            problem = f"the sandbox ended with status {status} before it was ready"
            raise RuntimeError(problem)
        self.port = int(ready.rpartition(":")[2])

    def stop(self) -> int | None:
        """Stop it cleanly and return its exit status; None when it is not running."""
        return self._end(subprocess.Popen.terminate)

    def kill(self) -> int | None:
        """Kill it with SIGKILL, as a crash would."""
        return self._end(subprocess.Popen.kill)

    def _end(self, how: Callable[[subprocess.Popen[str]], object]) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        how(process)
        status = process.wait(_STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()
        return status
