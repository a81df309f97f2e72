"""What a command says of an error that it did not make."""

from __future__ import annotations

import pytest
import typer
from sqlalchemy.exc import OperationalError

from refunds.cli.failures import expected


@pytest.mark.parametrize(
    "said",
    [
        "database or disk is full",
        'could not extend file "base/16384/16402": No space left on device',
    ],
    ids=["sqlite", "postgresql"],
)
def test_a_full_disk_is_told_apart_from_a_database_that_is_not_there(
    capsys: pytest.CaptureFixture[str], said: str
) -> None:
    with pytest.raises(typer.Exit) as ended, expected():
        raise OperationalError("INSERT INTO history", {}, OSError(said))
    assert ended.value.exit_code == 1
    told = capsys.readouterr().err
    assert "nothing was written" in told
    assert f"{said}; make room, then do it again" in told


def test_a_database_that_is_not_there_is_to_be_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit), expected():
        raise OperationalError("SELECT 1", {}, OSError("connection refused"))
    assert "connection refused; start it, or name another" in capsys.readouterr().err
