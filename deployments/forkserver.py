"""The template: a process that imports the flows once and forks a child for each run.

It has one thread, no event loop and no open connection, so that a fork of it is safe.
It speaks lines of JSON over a socket that it inherits from the worker:

    worker → template   a job to fork (see `forkserver_child`)
    template → worker   {"ready": {path: [mtime_ns, size]}, "began_ns": int}
                        {"broken": traceback}
                        {"job": id, "pid": int, "born": text}
                        {"job": id, "refused": reason}
                        {"exited": pid, "status": exit code, negative for a signal}

When the worker goes away the template ends; the children go on without it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import sysconfig
import threading
import time
import traceback
from typing import Any

from deployments import forkserver_child
from refunds.process_birth import birth

Job = dict[str, Any]


class Channel:
    """Lines of JSON over a stream socket."""

    # A flow run's parameters may be 512 KiB (Prefect's limit): read in large pieces.
    _piece_bytes = 1 << 18

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unread = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """What has arrived, as whole messages; None once the other side has closed."""
        piece = self._socket.recv(self._piece_bytes)
        if not piece:
            return None
        *lines, self._unread = (self._unread + piece).split(b"\n")
        return [json.loads(line) for line in lines]


class ThreadsAtForkError(RuntimeError):
    """A preloaded module has started threads, so that a fork could deadlock."""


def import_modules(names: list[str]) -> None:
    """Import what every run needs, and refuse to go on if that started a thread.

    Raises:
        ThreadsAtForkError: a module started threads when it was imported.
        Exception: whatever the import of a module raises.
    """
    for name in names:
        importlib.import_module(name)
    others = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
    if others:
        raise ThreadsAtForkError(
            f"Importing {', '.join(names)} started the threads {', '.join(others)}; "
            "start them inside the flow instead."
        )


def own_sources() -> dict[str, tuple[int, int]]:
    """Modification time (ns) and size of each imported file of the project itself."""
    paths = sysconfig.get_paths()
    foreign = tuple(
        os.path.realpath(paths[kind]) + os.sep
        for kind in ("stdlib", "platstdlib", "purelib", "platlib")
    )
    sources: dict[str, tuple[int, int]] = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not path or os.path.realpath(path).startswith(foreign):
            continue
        try:
            found = os.stat(path)
        except FileNotFoundError:
            # Gone since it was imported: never equal to what the worker will find.
            sources[path] = (0, 0)
        else:
            sources[path] = (found.st_mtime_ns, found.st_size)
    return sources


def reap(channel: Channel, living: set[int]) -> None:
    """Tell the worker of every child that has ended."""
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        living.discard(pid)
        channel.send({"exited": pid, "status": os.waitstatus_to_exitcode(status)})


def fork(channel: Channel, job: Job) -> int:
    """Fork a child: 0 in the child, its pid in the template, -1 when refused."""
    try:
        pid = os.fork()
    except OSError as error:
        channel.send({"job": job["id"], "refused": f"fork failed: {error}"})
        return -1
    if pid:
        channel.send({"job": job["id"], "pid": pid, "born": birth(pid)})
    return pid


def serve(channel: Channel) -> Job | None:
    """Fork a child for each job that arrives.

    Returns the job in a child, and None in the template once the worker is gone.
    """
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    living: set[int] = set()
    while True:
        readable, _, _ = select.select([channel.fileno(), wake_read], [], [])
        if wake_read in readable:
            # One byte per signal; how many does not matter, the children are counted.
            os.read(wake_read, 4096)
            reap(channel, living)
        if channel.fileno() in readable:
            jobs = channel.receive()
            if jobs is None:
                return None
            for job in jobs:
                pid = fork(channel, job)
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(wake_read)
                    os.close(wake_write)
                    channel.close()
                    return job
                if pid > 0:
                    living.add(pid)
            # What is in a job is for its child; the next one must not inherit it.
            jobs, job = [], {}


def main() -> None:
    """Import, report, then fork on demand until the worker is gone."""
    order = json.loads(sys.argv[1])
    forkserver_child.outlive_readers()
    channel = Channel(socket.socket(fileno=order["socket"]))
    began_ns = time.time_ns()
    try:
        import_modules(order["modules"])
    except BaseException:
        channel.send({"broken": traceback.format_exc()})
        raise SystemExit(1) from None
    # Children share the imported objects with the template; a collection that walks
    # them would copy their pages into each child.
    gc.collect()
    gc.freeze()
    channel.send({"ready": own_sources(), "began_ns": began_ns})
    try:
        job = serve(channel)
    except (BrokenPipeError, ConnectionResetError):
        # The worker was killed in the middle of a message.
        job = None
    if job is not None:
        forkserver_child.run(job, lifeline=order["lifeline"])
