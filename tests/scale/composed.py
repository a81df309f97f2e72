"""The services of compose.yaml as processes of this machine, on loopback.

Commands and environments are taken from the file itself; only addresses become others.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml  # type: ignore[import-untyped]  # its stubs are one more package to pin

from deployments.stack_environment import PROJECT
from tests.house.patience import PATIENCE_SECONDS

COMPOSE = PROJECT / "deployments" / "compose"

# The longest that compose.yaml gives a service to end, and a little more.
_GRACE_SECONDS = 45.0
_VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")


def compose_file() -> dict[str, Any]:
    """compose.yaml as YAML has it: anchors merged, variables not yet filled in."""
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return found


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME:?…}` and `${NAME:-default}` as Compose fills them in."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if name in variables:
            return variables[name]
        if kind == "-":
            return str(rest)
        raise AssertionError(f"{name} is not set: {rest}")

    return _VARIABLE.sub(value, text)


def answers(url: str) -> bool:
    """Whether a GET succeeds."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@dataclass
class Composed:
    """What `docker compose up` would start, as far as it is ours.

    `addresses` turns the names of compose.yaml's network into loopback addresses, `variables`
    are what .env would hold.
    """

    home: Path
    addresses: Mapping[str, str]
    variables: Mapping[str, str]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, service: str, name: str = "") -> dict[str, str]:
        """A service's own environment: nothing of the caller's but where programs are."""
        given = compose_file()["services"][service].get("environment", {})
        own = self.home / (name or service)
        own.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            # Each has a disk of its own: what they share is in the databases.
            "HOME": str(own),
            "PREFECT_HOME": str(own / "prefect"),
            "REFUNDS_HOME": str(own / "refunds"),
            **{key: self._here(str(value)) for key, value in given.items()},
        }

    def start(self, service: str, name: str = "", *more: str, **changes: str) -> None:
        """Start a service, under a name of its own where there are several."""
        name = name or service
        command = [self._here(part) for part in compose_file()["services"][service]["command"]]
        self._run(name, [*command, *more], self.environment(service, name) | changes)

    def start_instead(self, service: str, name: str, *command: str) -> None:
        """Start another program in a service's place, with its environment."""
        self._run(name, [*command], self.environment(service, name))

    def start_proxy(self, nginx: str) -> None:
        """nginx with the project's own proxy.conf, listening on loopback."""
        own = self.home / "proxy"
        own.mkdir()
        text = self._here((COMPOSE / "proxy.conf").read_text())
        (own / "proxy.conf").write_text(text)
        # Started by root it would serve as somebody who may not enter this folder.
        main = "user root root; " if os.geteuid() == 0 else ""
        main += f"daemon off; pid {own}/pid; events {{}} http {{ access_log {own}/access.log;"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
            main += f" {kind}_temp_path {own}/{kind};"
        (own / "nginx.conf").write_text(f"{main} include {own}/proxy.conf; }}\n")
        command = [nginx, "-e", "stderr", "-p", str(own), "-c", str(own / "nginx.conf")]
        self._run("proxy", command, {})

    def running(self, service: str) -> list[str]:
        """The names under which a service runs."""
        return [name for name in self._running if name.startswith(service)]

    def starter_of(self, pid: int) -> str:
        """The name of the service that a process belongs to."""
        for name, process in self._running.items():
            members = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
            if pid in [member.pid for member in members]:
                return name
        raise AssertionError(f"process {pid} is none of {[*self._running]}")

    def done(self, service: str, **changes: str) -> None:
        """Run a service that ends, such as a migration, and see that it ended well."""
        self.start(service, **changes)
        status = self._running.pop(service).wait(PATIENCE_SECONDS)
        assert status == 0, (self.home / f"{service}.log").read_text()[-4_000:]

    def kill(self, name: str) -> None:
        """Kill a service with everything it started, as when its machine is gone."""
        process = self._running.pop(name)
        family = psutil.Process(process.pid).children(recursive=True)
        for pid in (process.pid, *(member.pid for member in family)):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(family, timeout=PATIENCE_SECONDS)

    def stop(self, name: str) -> None:
        """Stop a service as Compose does."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop everything, the last started first."""
        for name in reversed([*self._running]):
            self.stop(name)

    def _run(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=environment,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _here(self, text: str) -> str:
        text = filled_in(text, self.variables)
        for name, address in self.addresses.items():
            text = text.replace(name, address)
        return text
