"""A fresh world for each test of the batch: a sandbox process and a migrated ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refunds.ledger import migrate
from refunds.ledger.engine import dispose_engines
from sandbox.process import SandboxProcess
from tests.batch.batch_world import World, at_home


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("batch") / "sandbox") as process:
        yield process


@pytest.fixture
def world(sandbox: SandboxProcess, tmp_path: Path) -> Iterator[World]:
    """Each test has a ledger of its own and orders of its own; the sandbox is the module's."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    migrate(url)
    with at_home(url, sandbox.url, sandbox.shop_database):
        world = World(sandbox.url)
        world.faults()
        yield world
        world.sandbox.close()
    dispose_engines()
