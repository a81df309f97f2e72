"""A sandbox process and a ledger for each test; Prefect is somewhere where nobody answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from refunds.ledger.engine import dispose_engines
from refunds.settings import settings
from sandbox.process import SandboxProcess
from tests.cli.cli_world import World


@pytest.fixture(autouse=True)
def _nobody_at_prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    monkeypatch.setenv("REFUNDS_PORT", str(port))
    # The command line sets these where they are not set; here they are, and go again.
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "WARNING")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    settings.cache_clear()
    with temporary_settings({PREFECT_API_URL: url}):
        yield
    dispose_engines()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Orders 1, 2 and 3 of 10,000 each in a shop, and an empty ledger."""
    home = settings().home_dir / "sandbox"
    with SandboxProcess(home, port=settings().port + 2) as process:
        world = World(process)
        world.load(1, 2, 3)
        yield world


def _free_port() -> int:
    """A port that is free, and so is the one of the sandbox, two further on."""
    while True:
        with socket.socket() as first, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                third.bind(("127.0.0.1", port + 2))
            except OSError:
                continue
            if port <= 65_000:
                return port
