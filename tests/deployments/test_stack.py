"""`refunds up` and `refunds down`: what is started, survives, is found again and is ended."""

from __future__ import annotations

import itertools
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from stack_world import Launcher, build_project

from tests.house.patience import PATIENCE_SECONDS, until

# Clear of the ports that `refunds up` uses (4200 and up) and of ephemeral ones.
_FIRST_PORT = 4650
_ROLES = {"prefect", "service", "sandbox", "worker"}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _free_ports() -> int:
    for port in itertools.count(_FIRST_PORT, 10):
        if all(_is_free(port + offset) for offset in range(3)):
            return port
    raise AssertionError("no ports are free")


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _unless_busy(answer: httpx.Response) -> dict[str, Any]:
    """Prefect's answer; nothing while its SQLite is too busy, for Prefect's clients ask again."""
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return {}
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for the module: each start after the first goes on where the last one was."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def launcher(project: Path, home: Path) -> Iterator[Launcher]:
    launcher = Launcher(project, home, _free_ports())
    yield launcher
    launcher.run("down")
    for process in launcher.started:
        process.communicate(timeout=PATIENCE_SECONDS)


def test_a_stack_is_ready_restarts_what_dies_and_ends_cleanly_on_ctrl_c(
    launcher: Launcher,
) -> None:
    supervisor = launcher.start()
    first = launcher.addresses()
    assert first["pid"] == supervisor.pid
    assert set(first["pids"]) == _ROLES
    assert httpx.get(f"{first['api_url']}/health").is_success
    assert httpx.get(f"{first['service']}/health").is_success
    assert httpx.get(f"{first['sandbox']}/health").is_success

    with launcher.prefect() as prefect:
        deployment = prefect.get("/deployments/name/refund/refund").json()
        url = f"/deployments/{deployment['id']}/create_flow_run"
        wanted = {"state": {"type": "SCHEDULED"}, "idempotency_key": "one"}
        run = until(lambda: _unless_busy(prefect.post(url, json=wanted)), "Prefect takes a run")
        until(
            lambda: (
                _unless_busy(prefect.get(f"/flow_runs/{run['id']}")).get("state_type")
                == "COMPLETED"
            ),
            "a run of a deployment is completed",
        )
        stranger = httpx.get(f"{first['api_url']}/flow_runs/{run['id']}")
        assert stranger.status_code == httpx.codes.UNAUTHORIZED

    again = launcher.run("up")
    assert again.returncode == 1
    assert f"already running in {launcher.home}, at {first['prefect']}" in again.stderr

    os.kill(first["pids"]["sandbox"], signal.SIGKILL)
    os.kill(first["pids"]["worker"], signal.SIGKILL)
    until(
        lambda: all(
            launcher.addresses()["pids"][role] != first["pids"][role]
            for role in ("sandbox", "worker")
        ),
        "both are restarted, with new pids in up.json",
    )
    second = launcher.addresses()
    until(lambda: not _is_free(launcher.port + 2), "the sandbox serves again")

    supervisor.send_signal(signal.SIGINT)
    output, _ = supervisor.communicate(timeout=PATIENCE_SECONDS)
    assert supervisor.returncode == 0, output
    assert "sandbox (pid" in output
    assert all(_is_gone(pid) for pid in second["pids"].values())
    assert launcher.addresses() == {}


def test_a_killed_supervisor_takes_its_children_along_and_the_next_up_takes_over(
    launcher: Launcher,
) -> None:
    assert launcher.run("up", "background").returncode == 0
    first = launcher.addresses()

    os.kill(first["pid"], signal.SIGKILL)
    started = launcher.run("up", "background", "sample")

    assert started.returncode == 0, started.stderr
    assert all(_is_gone(pid) for pid in first["pids"].values())
    second = launcher.addresses()
    assert second["pid"] != first["pid"]
    assert httpx.get(f"{second['api_url']}/health").is_success
    submitted = launcher.home / "stand-in.json"
    until(submitted.exists, "the sample is submitted")

    os.kill(second["pid"], signal.SIGKILL)
    until(lambda: all(map(_is_gone, second["pids"].values())), "all children have ended")


def test_a_stack_for_the_sample_ends_when_only_people_can_go_on(launcher: Launcher) -> None:
    # Left by a killed supervisor: nothing of it is alive, and nothing of it is believed.
    (launcher.home / "up.json").write_text('{"pid": 1}')
    ended = launcher.run("up", "sample", "idle")

    assert ended.returncode == 0, ended.stderr
    assert "refunds: awaiting_approval 1, completed 291" in ended.stdout
    assert launcher.addresses() == {}


def test_a_port_taken_by_a_stranger_is_named(launcher: Launcher) -> None:
    # An earlier stack's connections may still linger there, which harms no listener.
    with socket.create_server(("127.0.0.1", launcher.port + 1)):
        for words in (("up",), ("up", "background")):
            refused = launcher.run(*words)
            assert refused.returncode == 2
            assert f"port {launcher.port + 1}, which service needs" in refused.stderr
            assert "REFUNDS_PORT" in refused.stderr


def test_down_without_up_says_so(launcher: Launcher) -> None:
    ended = launcher.run("down")

    assert ended.returncode == 0
    assert "nothing is running" in ended.stderr


def test_a_set_up_that_fails_ends_the_start_with_its_reason(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "project"
    build_project(broken)
    (broken / "flows" / "sweep.py").write_text("raise RuntimeError('no such sweep')\n")
    launcher = Launcher(broken, tmp_path / "home", _free_ports())

    failed = launcher.run("up", "background")

    assert failed.returncode == 1
    assert "setup failed with status 1" in failed.stderr
    assert "no such sweep" in failed.stderr
    assert _is_free(launcher.port)
