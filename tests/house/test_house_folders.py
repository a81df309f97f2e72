"""The two processes that run the tests take whole folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT

_FILE = """
import os

import pytest


@pytest.mark.parametrize("number", range(6))
def test_{name}(number):
    with open({log!r}, "a") as log:
        log.write("{folder} " + os.environ["PYTEST_XDIST_WORKER"] + "\\n")
"""


def test_the_tests_of_a_folder_run_in_one_process_and_two_folders_in_two(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("first", "second"):
            text = _FILE.format(name=name, folder=folder, log=str(log))
            (tmp_path / folder / f"test_{folder}_{name}.py").write_text(text)
    hook = "from tests.conftest import pytest_xdist_make_scheduler\n"
    (tmp_path / "conftest.py").write_text(hook)

    words = ["-n", "2", "--dist", "loadscope", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    ran = log.read_text().splitlines()
    assert len(ran) == 24
    assert len(set(ran)) == 2
