"""A process is known again, whatever becomes of the clock."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from refunds.process_birth import birth


def test_a_clock_that_is_set_changes_no_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("only Linux counts from the machine's start")
    before = birth(os.getpid())
    booted_at, began_at = psutil.boot_time(), psutil.Process().create_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted_at + 3_600)
    assert psutil.Process().create_time() == began_at + 3_600
    assert birth(os.getpid()) == before


def test_each_process_has_a_birth_of_its_own_until_it_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert birth(process.pid) not in (birth(os.getpid()), "")
        process.communicate(b"\n")
    with pytest.raises(psutil.NoSuchProcess):
        birth(process.pid)
