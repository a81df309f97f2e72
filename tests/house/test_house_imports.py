"""The folder is a claim: imports run one way, and flows only decide."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from prefect import Task

from flows import refund as refund_module
from flows import waiting
from tasks import steps as steps_module
from tests.house.source import ROOT, files, imported, modules, pyproject, shown

# Everything by which a flow could see or change the world without a task.
_OUTSIDE = {
    *("aiohttp", "asyncpg", "httpx", "httpx2", "psycopg", "requests", "socket", "urllib"),
    *("aiosqlite", "prefect_sqlalchemy", "sqlalchemy", "sqlite3"),
    *("random", "secrets", "uuid"),
    *("time", "asyncio", "anyio", "threading", "concurrent", "multiprocessing", "subprocess"),
    *("io", "os", "pathlib", "shutil", "sys", "tempfile"),
    *("refunds.clock", "refunds.ledger", "refunds.settings", "refunds.intake", "sandbox"),
}
_CLOCKS = {"now", "utcnow", "today", "fromtimestamp"}
_CHANCE_AND_FILES = {"open", "input", "print", "id", "hash", "eval", "exec", "__import__"}

# The launcher's modules; they start the embedded world.
_LAUNCHER = "deployments/stack"
_MAY_KNOW_THE_SANDBOX = ("sandbox/", "tests/", "benchmarks/", _LAUNCHER)


def test_the_import_contracts_hold() -> None:
    command = "from importlinter.cli import import_linter; import_linter()"
    contracts = subprocess.run(
        [sys.executable, "-c", command, "lint", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert contracts.returncode == 0, contracts.stdout + contracts.stderr
    assert "0 broken" in contracts.stdout


def test_every_module_of_refunds_has_its_place_in_the_layers() -> None:
    contracts = pyproject()["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    placed = {name.strip(" ()") for layer in layers for name in layer.split(":")}
    there = {
        f"refunds.{path.stem}"
        for path in (ROOT / "refunds").iterdir()
        if not path.name.startswith("__") and (path.suffix == ".py" or any(path.glob("*.py")))
    }
    assert there <= placed, f"add to the layers in pyproject.toml: {sorted(there - placed)}"


def test_nothing_but_tests_benchmarks_and_the_launcher_imports_the_sandbox() -> None:
    found = [
        f"{shown(path)}:{line}: {name}"
        for path in files(".py")
        if not shown(path).startswith(_MAY_KNOW_THE_SANDBOX)
        for line, name in imported(path)
        if name.split(".")[0] == "sandbox"
    ]
    assert not found, found


@pytest.mark.parametrize("path", list(modules("flows")), ids=shown)
def test_a_flow_reaches_no_network_database_clock_file_or_chance(path: Path) -> None:
    assert not list(_reached(ast.parse(path.read_bytes()))), shown(path)


@pytest.mark.parametrize("module", [refund_module, waiting], ids=["refund", "waiting"])
def test_every_step_of_the_flow_is_written_to_the_journal(module: ModuleType) -> None:
    steps = {
        f"{name}.{attribute}": getattr(vars(module)[name], attribute)
        for name, attribute in _attributes(module)
        if isinstance(getattr(vars(module).get(name), attribute, None), Task)
    }
    assert steps
    assert not [name for name, step in steps.items() if not steps_module.is_journaled(step)]


def _attributes(module: ModuleType) -> list[tuple[str, str]]:
    """Each `name.attribute` that a module's source mentions."""
    tree = ast.parse(Path(module.__file__ or "").read_bytes())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return [(node.value.id, node.attr) for node in nodes if isinstance(node.value, ast.Name)]


@pytest.mark.parametrize(
    "line",
    [
        "import httpx",
        "import os.path",
        "from sqlalchemy.orm import Session",
        "from refunds.ledger import effects",
        "from refunds import clock",
        "from random import choice",
        "started = datetime.now(UTC)",
        "started = datetime.datetime.utcnow()",
        "today = date.today()",
        "text = open('policy.toml').read()",
        "text = Path('policy.toml').read_text()",
    ],
)
def test_the_check_on_flows_sees_what_it_is_for(line: str) -> None:
    assert list(_reached(ast.parse(line)))


def _reached(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            if isinstance(node, ast.Call) and _is_impure(node.func):
                found.append(f"line {line}: {ast.unparse(node)}")
            continue
        found += [f"line {line}: import of {name}" for name in names if _is_outside(name)]
    return found


def _is_outside(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in _OUTSIDE for length in range(1, len(parts) + 1))


def _is_impure(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in _CHANCE_AND_FILES
    return isinstance(function, ast.Attribute) and (
        function.attr in _CLOCKS or function.attr in {"read_text", "write_text", "read_bytes"}
    )
