"""Where a benchmark happens: databases of its own, a fast outside world, a Prefect server."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql
from sqlalchemy import make_url

from benchmarks import shop
from deployments import stack_roles
from deployments.stack_environment import client_environment
from refunds.settings import Settings

# A server that starts on a loaded machine, in seconds.
_READY_SECONDS = 180.0

# Refunds of the floor: enough to tell its speed within some percent.
_FLOOR_COUNT = 500

# Asking costs nothing, and a tenth of a second is not measured.
_ASK_SECONDS = 0.1


@dataclass(frozen=True)
class Place:
    """A home, its addresses, and the environment in which its programs run."""

    kind: str
    home: Path
    settings: Settings
    environment: dict[str, str]
    outside_url: str

    def run(self, *module: str) -> dict[str, Any]:
        """Run a module to its end; returns the JSON of its last line."""
        done = subprocess.run(
            [sys.executable, "-m", *module],
            env=client_environment(self.settings, self.environment),
            stdout=subprocess.PIPE,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def floor(self, number: int = 0) -> dict[str, Any]:
        """Measure the floor; each one in a place has refunds, and so a number, of its own."""
        return self.run("benchmarks.floor", self.outside_url, str(_FLOOR_COUNT + number))

    def refunds(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `refunds …` here."""
        return subprocess.run(
            [Path(sys.executable).with_name("refunds"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=check,
        )

    def seen(self) -> dict[str, int]:
        """What the outside world counted."""
        found: dict[str, int] = httpx.get(f"{self.outside_url}/seen").json()
        return found


@contextlib.contextmanager
def place(kind: str, orders: dict[str, int]) -> Iterator[Place]:
    """Databases of one kind (`sqlite`, `postgresql`), a shop, an outside world."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refunds-bench-")))
        port, outside_port = _free_ports()
        outside_url = f"http://127.0.0.1:{outside_port}"
        ours = {
            "REFUNDS_HOME": str(home),
            "REFUNDS_PORT": str(port),
            "REFUNDS_SHOP_URL": f"sqlite:///{home}/shop.db",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            # One process is measured; what is shared out would wait for workers.
            "REFUNDS_SHARD_SIZE": "1000000",
        }
        if kind == "postgresql":
            ours["REFUNDS_LEDGER_URL"] = stack.enter_context(_database("ledger"))
            ours["REFUNDS_PREFECT_DATABASE_URL"] = stack.enter_context(_database("prefect"))
        for system in ("gateway", "crm", "coupons", "logistics", "notices"):
            ours[f"REFUNDS_{system.upper()}_URL"] = f"{outside_url}/{system}"
        shop.fill(home / "shop.db", orders)
        environment = {**_given(), **ours}
        stack.enter_context(_running("benchmarks.outside", str(outside_port)))
        _answers(f"{outside_url}/seen")
        with _environment(environment):
            settings = Settings()
        yield Place(kind, home, settings, environment, outside_url)


@contextlib.contextmanager
def prefect_server(where: Place) -> Iterator[None]:
    """The place's Prefect server, set up; no worker runs."""
    with _environment(where.environment):
        where.settings.make_prefect_auth()
        server, setting_up = stack_roles.prefect(where.settings), stack_roles.set_up(where.settings)
    log = where.home / "prefect.log"
    with _running(*server.command, environment=server.environment, log=log):
        _answers(server.health_url)
        command = [sys.executable, "-m", *setting_up.command]
        subprocess.run(command, env=dict(setting_up.environment), check=True)
        yield


@contextlib.contextmanager
def whole_stack(where: Place) -> Iterator[dict[str, Any]]:
    """All of `refunds up`; gives what it wrote of itself."""
    started = where.refunds("up", "--background", check=False)
    if started.returncode:
        raise RuntimeError(started.stderr)
    try:
        found: dict[str, Any] = json.loads((where.home / "up.json").read_text())
        yield found
    finally:
        where.refunds("down")


def _given() -> dict[str, str]:
    """The caller's environment without what belongs to another stack."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REFUNDS_", "PREFECT_"))
    }


@contextlib.contextmanager
def _environment(environment: dict[str, str]) -> Iterator[None]:
    """Settings read the process's own."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _running(
    *module: str, environment: Any = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else None
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env=dict(environment) if environment else None,
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def _database(purpose: str) -> Iterator[str]:
    """A PostgreSQL database for this run, dropped after it."""
    server = os.environ.get(
        "BENCHMARKS_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
    )
    name = f"refunds_bench_{os.getpid()}_{purpose}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            dropping = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(dropping)


def _answers(address: str) -> None:
    """Wait until an address answers."""
    until = time.monotonic() + _READY_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(address).is_success:
                return
        if time.monotonic() > until:
            raise TimeoutError(f"{address} does not answer")
        time.sleep(_ASK_SECONDS)


def _free_ports() -> tuple[int, int]:
    """The first of three in a row for the stack, and one for the outside world."""
    for port in range(5_210, 60_000, 10):
        with contextlib.ExitStack() as held:
            try:
                for offset in (0, 1, 2, 3):
                    probe = held.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port, port + 3
    raise OSError("no four free ports in a row")
