"""PostgreSQL, Redis, nginx and Chromium for tests: found, started, or left out with a reason."""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

# A server on this machine answers in milliseconds; one that takes longer is not there.
_CONNECT_SECONDS = 3
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_LOCAL = "postgresql+psycopg://{user}@127.0.0.1:{port}/postgres"
_database_numbers = itertools.count(1)


def all_required() -> bool:
    """Whether a missing service is a failure: in CI, or where REFUNDS_REQUIRE_ALL says so."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes")
        for name in ("CI", "REFUNDS_REQUIRE_ALL")
    )


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """URL of a server: the one named, the one on its usual port, or one started for the tests."""
    if named := os.environ.get("REFUNDS_TEST_POSTGRESQL_URL"):
        yield named
        return
    for user in ("postgres", getpass.getuser()):
        url = _LOCAL.format(user=user, port=5432)
        if _may_make_databases(url):
            yield url
            return
    if _postgresql_programs() is None:
        pytest.skip(
            "no PostgreSQL: start one on 127.0.0.1:5432, install its server programs, "
            "or name one in REFUNDS_TEST_POSTGRESQL_URL"
        )
    with cluster() as own:
        yield own.url


@contextlib.contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """SQLAlchemy URL of a new database on the server; it is dropped afterwards."""
    name = f"refunds_test_{os.getpid()}_{next(_database_numbers)}"
    with psycopg.connect(_conninfo(server_url), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(_conninfo(server_url), autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def redis() -> str:
    """URL of a Redis server that answers to PING."""
    named = os.environ.get("REFUNDS_TEST_REDIS_URL")
    url = named or "redis://127.0.0.1:6379"
    address = urlsplit(url)
    try:
        with socket.create_connection(
            (address.hostname or "127.0.0.1", address.port or 6379), timeout=_CONNECT_SECONDS
        ) as connection:
            connection.sendall(b"PING\r\n")
            answers = connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        answers = False
    if not answers:
        pytest.skip("no Redis: start one on 127.0.0.1:6379, or name one in REFUNDS_TEST_REDIS_URL")
    return url


def chromium() -> Path:
    """The browser named in CHROMIUM, or the first one on PATH."""
    named = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else _BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium: install it, or name its program in CHROMIUM")
    return Path(found)


def program(name: str) -> str:
    """A server's program, also where Debian keeps those that a user's PATH leaves out."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if found is None:
        pytest.skip(f"no {name}: install it (on Debian and Ubuntu: nginx-light, redis-server)")
    return found


def _conninfo(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def localstripe() -> str:
    """The program of localstripe, somebody else's imitation of Stripe."""
    return _others("localstripe", "localstripe", "it")


def canaille() -> str:
    """The program of Canaille, somebody else's identity provider."""
    return _others("canaille", "Canaille", "`canaille[front,oidc,server,sqlite]`")


def _others(program: str, name: str, wanted: str) -> str:
    """A program of other people's, from an environment of its own."""
    variable = f"REFUNDS_TEST_{program.upper()}"
    found = os.environ.get(variable) or shutil.which(program)
    if found is None:
        pytest.skip(
            f"no {name}: install {wanted} from PyPI into an environment of its own and name "
            f"its program in {variable}"
        )
    return found


def stripe_library() -> Path:
    """A Python that has Stripe's own library: the one that localstripe was installed with."""
    python = Path(localstripe()).with_name("python")
    known = subprocess.run([python, "-c", "import stripe"], capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"no Stripe library: install `stripe` from PyPI for {python}")
    return python


def _may_make_databases(url: str) -> bool:
    try:
        with psycopg.connect(_conninfo(url), connect_timeout=_CONNECT_SECONDS) as server:
            allowed = server.execute(
                "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.Error:
        return False
    return bool(allowed and allowed[0])


def _postgresql_programs() -> Path | None:
    """The directory with initdb and pg_ctl, the newest version first."""
    on_path = shutil.which("initdb")
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda program: float(program.parts[-3]),
        reverse=True,
    )
    candidates = [Path(on_path), *packaged] if on_path else packaged
    return next((path.parent for path in candidates if (path.parent / "pg_ctl").exists()), None)


class Cluster:
    """A PostgreSQL server of the tests' own, that may be stopped and started again."""

    def __init__(self, programs: Path, home: Path) -> None:
        # PostgreSQL refuses to run as root; its package brings a user of its own.
        self._as_server = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._programs, self._home, self._port = programs, home, _free_port()
        if self._as_server:
            shutil.chown(home, "postgres", "postgres")
        initdb = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self._run("initdb", *initdb)

    @property
    def url(self) -> str:
        """SQLAlchemy URL of its first database."""
        return _LOCAL.format(user="postgres", port=self._port)

    def start(self) -> None:
        """Until it answers."""
        # The data lives as long as the tests, so nothing waits for the disk.
        options = f"-p {self._port} -k {self._home} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self._home / "server.log")
        self._run("pg_ctl", "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """At once, as when its machine dies: whoever is connected is cut off."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._home / "data"), *arguments]
        subprocess.run(
            [*self._as_server, *command],
            cwd=self._home,
            check=True,
            stdin=subprocess.DEVNULL,
            # Not a pipe: the server would inherit it and keep it open.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server started for these tests, where its programs are installed."""
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL: install its server programs (initdb and pg_ctl)")
    # A socket's path may have 107 characters, so pytest's long temporary paths are out.
    home = Path(tempfile.mkdtemp(prefix="refunds-pg-"))
    try:
        made = Cluster(programs, home)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
