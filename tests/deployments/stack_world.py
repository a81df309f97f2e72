"""A copy of the project with tiny flows and a tiny service, and launchers started in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.house.patience import PATIENCE_SECONDS, until

REPOSITORY = Path(__file__).parents[2]

_FLOW = '''\
"""Stand-in for flows/{name}.py."""

from prefect import flow


@flow(name="{name}")
def {name}() -> str:
    return "done"
'''

_SERVICE = '''\
"""Stand-in for the service."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}
'''

_API = '''\
"""Stand-in for the Python API: remembers in a file, and nothing waits."""

import json
from types import SimpleNamespace

from refunds.settings import settings


class AsyncRefunds:
    async def __aenter__(self):
        self.path = settings().home_dir / "stand-in.json"
        return self

    async def __aexit__(self, *_):
        pass

    async def submit(self, requests):
        self.path.write_text(json.dumps([request.refund_id for request in requests]))
        return [SimpleNamespace(refund_id=request.refund_id) for request in requests]

    async def counts(self):
        known = json.loads(self.path.read_text()) if self.path.exists() else []
        return {"completed": len(known) - 1, "awaiting_approval": 1} if known else {}
'''

_LAUNCH = (
    "import sys; from deployments import stack; "
    "sys.exit(stack.down() if sys.argv[1] == 'down' else stack.up("
    "background='background' in sys.argv, sample='sample' in sys.argv, "
    "exit_when_idle='idle' in sys.argv))"
)


def build_project(directory: Path) -> Path:
    """The launcher as it is, with stand-ins for what it launches."""
    for part in ("deployments", "refunds", "sandbox"):
        shutil.copytree(
            REPOSITORY / part, directory / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "prefect.yaml", directory)
    flows = directory / "flows"
    flows.mkdir()
    for name in ("refund", "nightly", "batch", "sweep"):
        (flows / f"{name}.py").write_text(_FLOW.format(name=name))
    service = directory / "refunds" / "service"
    shutil.rmtree(service, ignore_errors=True)
    service.mkdir()
    (service / "__init__.py").touch()
    (service / "app.py").write_text(_SERVICE)
    (directory / "refunds" / "api.py").write_text(_API)
    return directory


@dataclass
class Launcher:
    """`refunds up` and `refunds down` of one project, home and port."""

    project: Path
    home: Path
    port: int
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "REFUNDS_"))}
        return {**kept, "REFUNDS_HOME": str(self.home), "REFUNDS_PORT": str(self.port)}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """To its end: `down`, or an `up` that fails or is in the background."""
        return subprocess.run(
            [sys.executable, "-c", _LAUNCH, *words],
            **self._how(),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """An `up` in the foreground, ready."""
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, "up", *words],
            **self._how(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.started.append(process)
        until(lambda: self.addresses() or process.poll() is not None, "the stack is ready")
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        return process

    def addresses(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.home / "up.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def prefect(self) -> httpx.Client:
        """The stack's Prefect API, with what it asks for."""
        user, _, password = (self.home / "prefect-auth").read_text().strip().partition(":")
        return httpx.Client(base_url=self.addresses()["api_url"], auth=(user, password))

    def _how(self) -> dict[str, Any]:
        return {"cwd": self.project, "env": self.environment, "text": True}
