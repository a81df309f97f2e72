"""Worlds for the sandbox's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.process import SandboxProcess
from sandbox.testing import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A sandbox in this process, with one customer and one delivered order of 10,000."""
    with World(tmp_path / "world") as world:
        world.load()
        yield world


@pytest.fixture
def process(tmp_path: Path) -> Iterator[SandboxProcess]:
    """A sandbox in its own process."""
    with SandboxProcess(tmp_path / "process") as process:
        yield process
