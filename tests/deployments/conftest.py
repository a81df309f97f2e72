"""Fixtures with a real Prefect server for the tests of deployments."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

sys.path.insert(0, str(Path(__file__).parent))

from warm_worker_world import World

from tests.house.patience import until

# Clear of the ports that `refunds up` uses (4200 and up) and of ephemeral ones.
_FIRST_PORT = 4850


def _free_port() -> int:
    for port in itertools.count(_FIRST_PORT):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no port is free")


@pytest.fixture(scope="session")
def prefect_api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server on SQLite, alone on its port and in its home."""
    home = tmp_path_factory.mktemp("prefect-server")
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = "deployments.prefect_server server start --host 127.0.0.1 --port"
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command.split(), str(port)],
            env={
                **os.environ,
                "PREFECT_HOME": str(home),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_SERVER_UI_ENABLED": "false",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def is_healthy() -> bool:
        try:
            return httpx.get(f"{url}/health").is_success
        except httpx.TransportError:
            return False

    try:
        until(is_healthy, "the Prefect server answers")
    except AssertionError as error:
        error.add_note((home / "server.log").read_text(errors="replace")[-3000:])
        raise
    yield url
    server.terminate()
    server.wait()


@pytest.fixture
def client(prefect_api_url: str) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: prefect_api_url}),
        get_client(sync_client=True) as client,
    ):
        yield client


@pytest.fixture
def new_world(
    client: SyncPrefectClient,
    prefect_api_url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., World]]:
    """Makes a pool and its project; ends their workers after the test."""
    worlds: list[World] = []

    def build(pool_type: str = "warm-process", **defaults: object) -> World:
        name = f"{request.node.name[-60:]}-{len(worlds)}"
        directory = tmp_path / str(len(worlds))
        world = World(client, prefect_api_url, directory, name, pool_type)
        worlds.append(world)
        return world.build(**defaults)

    yield build
    for world in worlds:
        world.close()


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    return new_world()
