"""What a forked child does around its work: environment, output, orphanhood, exit.

A job is {"id", "target": "module:function", "payload": any, "env": {name: value},
"stream_output": bool, "orphan_seconds": float, "stop_grace_seconds": float}.
"""

from __future__ import annotations

import atexit
import importlib
import io
import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class EnduringOutput(io.FileIO):
    """A file that goes on silently when nobody reads it any more."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            discard_output(self.fileno())
            return super().write(data)


def discard_output(*descriptors: int) -> None:
    """Send what is written to the descriptors to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def outlive_readers() -> None:
    """Let standard output and error survive the end of whoever reads them.

    To be called before the first logging handler takes hold of the streams.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        raw = EnduringOutput(descriptor, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), errors="backslashreplace", line_buffering=True
        )
        setattr(sys, name, stream)


def end_when_orphaned(lifeline: int, orphan_seconds: float, stop_grace_seconds: float) -> None:
    """End this process group some time after the worker has gone.

    The lifeline is a pipe of which only the worker has the other end.
    """

    def watch() -> None:
        os.read(lifeline, 1)
        time.sleep(orphan_seconds)
        os.killpg(0, signal.SIGTERM)
        time.sleep(stop_grace_seconds)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()


def finish(exit_code: int) -> NoReturn:
    """Flush logs and events as the interpreter would, then leave.

    Tearing the interpreter down would touch, and so copy, every page that is shared
    with the template.
    """
    # Private to CPython, and what `multiprocessing` calls in its forked children:
    # Prefect's log and event queues are drained by it.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(exit_code)


def call(target: str, payload: Any) -> int:
    """Call `module:function` with the payload; returns the exit code of `python`."""
    module, _, function = target.partition(":")
    try:
        getattr(importlib.import_module(module), function)(payload)
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(job: dict[str, Any], lifeline: int) -> NoReturn:
    """Do the job in a session of its own, and exit."""
    os.setsid()
    os.environ.update(job["env"])
    if not job["stream_output"]:
        discard_output(1, 2)
    end_when_orphaned(lifeline, job["orphan_seconds"], job["stop_grace_seconds"])
    finish(call(job["target"], job["payload"]))
