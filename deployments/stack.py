"""`refunds up` and `refunds down`: the whole engine on one machine."""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
from datetime import UTC, datetime

import psutil
from rich.console import Console

from deployments import stack_people, stack_ready, stack_roles
from deployments.stack_home import BAD_INPUT, Home, StackFailed
from deployments.stack_messages import addresses, foreign_server, welcome
from deployments.stack_processes import end_stale
from deployments.stack_supervisor import Supervisor
from refunds.errors import BadInput
from refunds.settings import Settings, settings

# A worker drains for 30 s, and the servers take 20 s at worst.
_DOWN_SECONDS = 75.0
# What a start says, and the tail of one log after it.
_REASON_LINES = 40


def up(*, background: bool, sample: bool, exit_when_idle: bool) -> int:
    """Start the stack; in the foreground until Ctrl-C or, if wanted, until nothing is left.

    Returns the exit code: 0 stopped (or, in the background, ready), 1 it failed or is
    already running, 2 a port or a setting is wrong.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        home = Home(settings().home_dir)
        home.make()
        if background:
            return _detach(home, console, sample=sample, exit_when_idle=exit_when_idle)
        return _serve(home, console, sample=sample, exit_when_idle=exit_when_idle)
    except StackFailed as failure:
        console.print(f"refunds up: {failure}", markup=False)
        return failure.exit_code
    except BadInput as problem:
        console.print(f"refunds up: {problem}", markup=False)
        return BAD_INPUT


def down() -> int:
    """Stop the stack of this home and return 0, also when none was running."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    home = Home(settings().home_dir)
    processes = home.read_processes()
    supervisor = processes.pop("supervisor", None)
    if supervisor is None and not processes:
        console.print(f"nothing is running in {home.path}", markup=False)
        return 0
    if supervisor is not None:
        process = psutil.Process(supervisor.pid)
        process.terminate()
        try:
            process.wait(_DOWN_SECONDS)
        except psutil.TimeoutExpired:
            # Its children end with it, and those that do not are ended below.
            process.kill()
    end_stale(home.read_processes())
    home.remove_addresses()
    home.remove_processes()
    console.print(f"stopped what was running in {home.path}", markup=False)
    return 0


def _serve(
    home: Home,
    console: Console,
    *,
    sample: bool,
    exit_when_idle: bool,
    ready_descriptor: int | None = None,
) -> int:
    """Be the supervisor."""
    current = settings()
    lock = home.lock()
    if lock is None:
        where = home.read_addresses().get("prefect") or "an address it will print when ready"
        raise StackFailed(f"already running in {home.path}, at {where}; `refunds down` stops it")
    try:
        end_stale(home.read_processes())
        home.remove_addresses()
        current.make_prefect_auth()
        stack_ready.refuse_taken_ports(current, _ports(current))
        if notice := foreign_server(current):
            console.print(notice, markup=False)
        asyncio.run(
            _supervise(
                home,
                console,
                sample=sample,
                exit_when_idle=exit_when_idle,
                ready_descriptor=ready_descriptor,
            )
        )
        home.remove_processes()
    finally:
        home.remove_addresses()
        os.close(lock)
    return 0


async def _supervise(
    home: Home,
    console: Console,
    *,
    sample: bool,
    exit_when_idle: bool,
    ready_descriptor: int | None,
) -> None:
    current = settings()
    started_at = datetime.now(UTC)
    announced = False

    def say(sentence: str) -> None:
        # In the background this is written to a disk, which may be full.
        with contextlib.suppress(OSError):
            console.print(sentence, markup=False)

    def ready(pids: dict[str, int]) -> None:
        nonlocal announced
        home.write_addresses(addresses(current, pids, started_at))
        if not announced:
            announced = True
            made = stack_people.make(current)
            # In the background this goes to a log, which is no place for passwords.
            console.print(welcome(current, {} if ready_descriptor is not None else made))
            if ready_descriptor is not None:
                os.write(ready_descriptor, b"ready")
                os.close(ready_descriptor)

    role = None
    if sample or exit_when_idle:
        role = stack_roles.sample(current, load=sample, until_idle=exit_when_idle)
    await Supervisor(current, home, say, ready).run(role, until_idle=exit_when_idle)


def _ports(current: Settings) -> dict[str, int]:
    ports = {"prefect": current.port, "service": current.port + 1}
    if stack_roles.needs_sandbox(current):
        ports["sandbox"] = current.port + 2
    return ports


# --- In the background ---


def _detach(home: Home, console: Console, *, sample: bool, exit_when_idle: bool) -> int:
    """Start the supervisor as a process of its own and wait until it is ready, or has failed."""
    flags = [
        name
        for name, wanted in (("--sample", sample), ("--exit-when-idle", exit_when_idle))
        if wanted
    ]
    had_people = stack_people.passwords_file(settings()).exists()
    reader, writer = os.pipe()
    with home.log("up").open("ab") as log:
        before = log.tell()
        supervisor = subprocess.Popen(
            [
                *(sys.executable, "-m", "deployments.stack"),
                *("--ready-descriptor", str(writer), *flags),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            start_new_session=True,
        )
    os.close(writer)
    try:
        # Nothing to read means that it ended: the system then closes the other end.
        is_ready = os.read(reader, 1) != b""
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait()
        raise
    finally:
        os.close(reader)
    if is_ready:
        made = {} if had_people else stack_people.read(settings())
        console.print(welcome(settings(), made))
        return 0
    status = supervisor.wait()
    console.print(home.log_tail("up", before, _REASON_LINES), markup=False)
    return status or 1


def main() -> int:
    """The supervisor in the background: `python -m deployments.stack --ready-descriptor N`."""
    parser = argparse.ArgumentParser(prog="python -m deployments.stack")
    parser.add_argument("--ready-descriptor", type=int, required=True)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--exit-when-idle", action="store_true")
    options = parser.parse_args()
    os.set_inheritable(options.ready_descriptor, False)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        return _serve(
            Home(settings().home_dir),
            console,
            sample=options.sample,
            exit_when_idle=options.exit_when_idle,
            ready_descriptor=options.ready_descriptor,
        )
    except StackFailed as failure:
        console.print(f"refunds up: {failure}", markup=False)
        return failure.exit_code


if __name__ == "__main__":
    sys.exit(main())
