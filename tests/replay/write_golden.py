"""`make golden`: write the histories of the current version of the flow, and their schema."""

import json
from pathlib import Path

import pytest

from refunds import history_document
from refunds.flow_version import FLOW_VERSION
from tests.house.source import ROOT
from tests.replay.paths import PATHS
from tests.replay.rehearsal import Rehearsal

GOLDEN = Path(__file__).parents[1] / "golden" / f"v{FLOW_VERSION}"


@pytest.mark.parametrize("path", list(PATHS))
def test_write_the_history_of_a_path(world: Rehearsal, path: str) -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    _write(GOLDEN / f"{path}.json", world.document(PATHS[path](world)).plain())


def test_write_the_schema() -> None:
    _write(ROOT / "docs" / "history.schema.json", history_document.schema())


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
