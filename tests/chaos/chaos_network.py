"""Hosts in network namespaces of their own, whose links can be cut one by one.

Each reaches the stack's Prefect, its ledger and the outside world by a link of its own. The stack
itself stays where it is; at the end of the links its servers are answered for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import make_url

from deployments.stack_environment import PROJECT, SYSTEMS, client_environment
from refunds.names import WORK_POOL
from refunds.settings import settings
from tests.chaos.chaos_stack import ChaosStack, kill_tree, stopped

# Nobody's network but that of these namespaces.
_NETWORK = "10.199"
_AT_THE_END = {
    name: f"{_NETWORK}.0.{number}"
    for number, name in enumerate(("prefect", "ledger", "world"), start=1)
}
LINKS = tuple(_AT_THE_END)
_CHUNK = 65_536
_numbers = itertools.count(1)


def ip(*words: str) -> None:
    """Run one `ip` command. Raises CalledProcessError."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def need_namespaces() -> None:
    """Leave the test out where no network can be made."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare"))):
        pytest.skip("networks of our own need root, ip (iproute2) and unshare (util-linux)")
    name = f"refunds-{os.getpid()}-probe"
    try:
        ip("netns", "add", name)
        ip("netns", "delete", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")


class Network:
    """Where the links end: what is asked there is answered by the stack."""

    def __init__(self, port: int, ledger_url: str) -> None:
        ledger = make_url(ledger_url)
        ledger_port = ledger.port or 5432
        self.ledger_url = ledger.set(host=_AT_THE_END["ledger"], port=ledger_port)
        self.port = port
        self._answered = (
            (_AT_THE_END["prefect"], port, "127.0.0.1"),
            (_AT_THE_END["ledger"], ledger_port, ledger.host or "127.0.0.1"),
            (_AT_THE_END["world"], port + 2, "127.0.0.1"),
        )

    @contextlib.contextmanager
    def answering(self) -> Iterator[Network]:
        """Its addresses are this machine's, and are answered."""
        with contextlib.ExitStack() as made:
            for address in _AT_THE_END.values():
                ip("address", "add", f"{address}/32", "dev", "lo")
                made.callback(ip, "address", "delete", f"{address}/32", "dev", "lo")
            made.enter_context(_forwarding(self._answered))
            yield self

    def stack(self, home: Path) -> ChaosStack:
        """A stack that names what it needs by addresses that are the same on every host."""
        url = self.ledger_url.render_as_string(hide_password=False)
        made = ChaosStack(home, self.port, url)
        world = f"http://{_AT_THE_END['world']}:{self.port + 2}"
        made.environment |= {
            f"REFUNDS_{system.upper()}_URL": f"{world}/{system}"
            for system in SYSTEMS
            if system != "model"
        }
        return made

    @contextlib.contextmanager
    def host(self, name: str) -> Iterator[Host]:
        """A machine with a link to each of the addresses."""
        made = Host(name, f"{os.getpid()}-{name}", f"http://{_AT_THE_END['prefect']}:{self.port}")
        try:
            yield made.set_up()
        finally:
            made.take_down()


class Host:
    """One machine in its own network namespace."""

    def __init__(self, name: str, namespace: str, prefect_url: str) -> None:
        self.name = name
        self._namespace = f"refunds-{namespace}"
        self._prefect_url = prefect_url
        self._devices: dict[str, str] = {}

    def set_up(self) -> Host:
        """The namespace, and in it one end of each link."""
        ip("netns", "add", self._namespace)
        ip("-n", self._namespace, "link", "set", "lo", "up")
        for link, address in _AT_THE_END.items():
            number = next(_numbers)
            # A device's name has fifteen characters at most.
            here, there = f"rf{os.getpid()}n{number}", f"rf{os.getpid()}f{number}"
            self._devices[link] = here
            # Four addresses a link; the first one is the network's own.
            first = f"{_NETWORK}.{1 + number // 64}"
            low = number % 64 * 4
            ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self._namespace)
            ip("address", "add", f"{first}.{low + 1}/30", "dev", here)
            ip("link", "set", here, "up")
            ip("-n", self._namespace, "address", "add", f"{first}.{low + 2}/30", "dev", there)
            ip("-n", self._namespace, "link", "set", there, "up")
            ip("-n", self._namespace, "route", "add", address, "via", f"{first}.{low + 1}")
        return self

    def take_down(self) -> None:
        """The links go with the namespace."""
        for device in self._devices.values():
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("link", "delete", device)
        ip("netns", "delete", self._namespace)

    @contextlib.contextmanager
    def without(self, links: tuple[str, ...]) -> Iterator[None]:
        """These links are down: nothing comes through, and nobody is told."""
        for link in links:
            ip("link", "set", self._devices[link], "down")
        try:
            yield
        finally:
            for link in links:
                ip("link", "set", self._devices[link], "up")

    @contextlib.contextmanager
    def worker(self, log: Path) -> Iterator[Worker]:
        """A worker on this host, which goes by the host's name."""
        worker = (
            f"{sys.executable} -m deployments.warm_worker --pool {WORK_POOL} --name {self.name}"
        )
        command = ["ip", "netns", "exec", self._namespace, "unshare", "--uts", "sh", "-c"]
        environment: Mapping[str, str] = {
            **client_environment(settings(), os.environ),
            "PREFECT_API_URL": f"{self._prefect_url}/api",
        }
        with log.open("wb") as written:
            process = subprocess.Popen(
                [*command, f"hostname {self.name} && exec {worker}"],
                env=environment,
                cwd=PROJECT,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )
        try:
            yield Worker(process.pid, log)
        finally:
            kill_tree(process.pid)
            process.wait()


class Worker:
    """A worker's processes, and what they said."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self._log = log

    def said(self, text: str) -> bool:
        """Whether this stands in its log."""
        return text in self._log.read_text(errors="replace")

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """It takes nothing for a while."""
        with stopped(self.pid):
            yield


@contextlib.contextmanager
def _forwarding(answered: tuple[tuple[str, int, str], ...]) -> Iterator[None]:
    """Whoever connects to (address, port) is connected to that port of another address."""
    stop, ready = threading.Event(), threading.Event()

    async def serve() -> None:
        servers = [
            await asyncio.start_server(partial(_connect, to=to, port=port), address, port)
            for address, port, to in answered
        ]
        ready.set()
        await asyncio.to_thread(stop.wait)
        for server in servers:
            server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(timeout=60), "the links have no end"
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


async def _connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: str, port: int
) -> None:
    with contextlib.suppress(OSError, asyncio.CancelledError):
        other_reader, other_writer = await asyncio.open_connection(to, port)
        try:
            await asyncio.gather(_pump(reader, other_writer), _pump(other_reader, writer))
        finally:
            other_writer.close()
    writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()
